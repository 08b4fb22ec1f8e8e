/*
 * mailhaul trace: what happened to a mail or a login, from the lines that the
 * processes keep (base/log_keep.h) and the audit, in order of time.
 */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_keep.h"
#include "base/mem.h"
#include "cli/trace_line.h"

#define HOUR_MS    (60 * 60 * 1000LL)
#define AROUND_MS  (30 * 60 * 1000LL) /* of --at */
#define DAY_MS     (24 * HOUR_MS)
#define EVENTS_MAX 5000
#define PARTS_MAX  20000

/* A session, or one mail of it, that the question is about. */
struct part {
    char session[64];
    int mail;
};

struct search {
    const char *address, *message_id, *session; /* one of them, or address */
    char safe_id[600]; /* message_id as the log spells it */
    int64_t since, until;
    struct part *parts; /* owned; found by the first pass */
    size_t part_count;
    bool is_second; /* pass */
    bool has_audit; /* tells of the changes of accounts already */
    json_t *events;
    bool is_cut;
};

/* --- which lines */

static bool is_meant(const struct search *s, const struct trace_line *line)
{
    char value[TRACE_VALUE_MAX];

    if (s->session)
        return strcmp(line->session, s->session) == 0;
    if (s->message_id)
        return trace_line_value(line->text, "message_id", value) &&
               strcmp(value, s->safe_id) == 0;
    return trace_line_names(line, s->address);
}

static bool has_part(const struct search *s, const char *session, int mail)
{
    for (size_t i = 0; i < s->part_count; i++)
        if (s->parts[i].mail == mail &&
            strcmp(s->parts[i].session, session) == 0)
            return true;
    return false;
}

static void add_part(struct search *s, const char *session, int mail)
{
    if (s->part_count == PARTS_MAX || has_part(s, session, mail))
        return;
    if ((s->part_count & (s->part_count - 1)) == 0)
        s->parts = mem_grow(s->parts, (s->part_count ? s->part_count * 2 : 1) *
                                          sizeof(*s->parts));
    snprintf(s->parts[s->part_count].session, sizeof(s->parts[0].session), "%s",
             session);
    s->parts[s->part_count++].mail = mail;
}

/* A line of a session that is meant, though it does not say so itself: that of
   the session, and that of the same mail. Not what became of the mail's other
   recipients, where the question is about one. */
static bool belongs(const struct search *s, const struct trace_line *line)
{
    char value[TRACE_VALUE_MAX];

    if (!line->session[0] || !has_part(s, line->session, line->mail))
        return false;
    return !s->address || line->mail == 0 ||
           !trace_line_value(line->text, "to", value);
}

/* What the audit tells in more words. */
static bool is_in_audit(const struct search *s, const struct trace_line *line)
{
    char value[TRACE_VALUE_MAX];

    return s->has_audit && strncmp(line->text, "account ", 8) == 0 &&
           trace_line_value(line->text, "epoch", value);
}

static void add_event(struct search *s, const struct trace_line *line)
{
    char told[TRACE_LINE_MAX];
    json_t *event;

    if (json_array_size(s->events) >= EVENTS_MAX) {
        s->is_cut = true;
        return;
    }
    trace_line_tell(line, told, sizeof(told));
    event =
        json_pack("{s:I,s:s,s:s,s:o,s:s,s:o}", "at", (json_int_t)line->at,
                  "source", "log", "role", line->role, "session",
                  line->session[0] ? json_string(line->session) : json_null(),
                  "text", told, "fields", trace_line_fields(line));
    if (event) /* else a line that is no UTF-8 */
        json_array_append_new(s->events, event);
}

static void take_line(struct search *s, const char *text)
{
    struct trace_line line;

    if (!trace_line_parse(text, &line) || line.at < s->since ||
        line.at > s->until)
        return;
    if (!s->is_second) {
        if (is_meant(s, &line) && line.session[0]) {
            add_part(s, line.session, line.mail);
            add_part(s, line.session, 0);
        }
        return;
    }
    if ((is_meant(s, &line) || belongs(s, &line)) && !is_in_audit(s, &line))
        add_event(s, &line);
}

/* --- the files */

static int read_file(struct search *s, const char *path, struct err *err)
{
    FILE *file = fopen(path, "re");
    char line[TRACE_LINE_MAX];

    if (!file)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        take_line(s, line);
    }
    fclose(file);
    return 0;
}

static int is_kept(const struct dirent *entry)
{
    return log_keep_hour(entry->d_name) != -1;
}

static int read_kept(struct search *s, const struct conf *conf, struct err *err)
{
    char *folder = conf_state_path(conf, "trace");
    struct dirent **names = NULL;
    int count = scandir(folder, &names, is_kept, alphasort), rc = 0;

    if (count == -1 && errno != ENOENT)
        rc = err_set(err, ERR_SETUP, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        int64_t hour = (int64_t)log_keep_hour(names[i]->d_name) * 1000;
        char path[4400];

        snprintf(path, sizeof(path), "%.4096s/%s", folder, names[i]->d_name);
        if (rc == 0 && hour <= s->until && hour + HOUR_MS >= s->since &&
            access(path, F_OK) == 0) /* not removed since, for its age */
            rc = read_file(s, path, err);
        free(names[i]);
    }
    free(names);
    free(folder);
    return rc;
}

/* --- the audit */

static void add_audit(struct cli *cli, struct search *s)
{
    json_t *request =
        json_pack("{s:s,s:s,s:I,s:i}", "cmd", "audit", "address", s->address,
                  "since", (json_int_t)s->since, "limit", 1000);
    json_t *result = NULL, *entry;
    struct err err;
    size_t i;

    if (cli_call(cli, request, &result, &err) == -1)
        fprintf(stderr, "mailhaul: without the audit: %s\n", err.text);
    json_decref(request);
    s->has_audit = result != NULL;
    json_array_foreach(json_object_get(result, "entries"), i, entry)
    {
        const char *became = cli_text(entry, "became");
        const char *reason = cli_text(entry, "reason");
        char told[TRACE_LINE_MAX];

        if (wire_int(entry, "at", 0) > s->until)
            continue;
        snprintf(told, sizeof(told), "account: %s%s%s%s%s%s by %s",
                 cli_text(entry, "event"), *reason ? " (" : "", reason,
                 *reason ? ")" : "", *became ? ", now " : "", became,
                 cli_text(entry, "actor"));
        json_array_append_new(
            s->events, json_pack("{s:I,s:s,s:s,s:n,s:s,s:O}", "at",
                                 (json_int_t)wire_int(entry, "at", 0), "source",
                                 "audit", "role", "state", "session", "text",
                                 told, "fields", entry));
    }
    json_decref(result);
}

/* --- in order of time */

struct place {
    int64_t at;
    size_t index;
};

static int compare(const void *a, const void *b)
{
    const struct place *one = a, *other = b;

    if (one->at != other->at)
        return one->at < other->at ? -1 : 1;
    return one->index < other->index ? -1 : one->index > other->index;
}

static json_t *sorted(const json_t *events)
{
    size_t count = json_array_size(events);
    struct place *places = mem_alloc((count + 1) * sizeof(*places));
    json_t *out = json_array();

    for (size_t i = 0; i < count; i++)
        places[i] =
            (struct place){wire_int(json_array_get(events, i), "at", 0), i};
    qsort(places, count, sizeof(*places), compare);
    for (size_t i = 0; i < count; i++)
        json_array_append(out, json_array_get(events, places[i].index));
    free(places);
    return out;
}

static void print_events(const json_t *events, bool is_cut)
{
    const json_t *e;
    size_t i;

    json_array_foreach(events, i, e)
        printf("%s  %s%s%s%s\n", cli_time(wire_int(e, "at", 0)),
               cli_text(e, "text"), *cli_text(e, "session") ? "  [" : "",
               cli_text(e, "session"), *cli_text(e, "session") ? "]" : "");
    if (is_cut)
        fprintf(stderr, "mailhaul: only the first %d lines are told\n",
                EVENTS_MAX);
}

/* --- the question */

static int take_times(const json_t *request, struct search *s)
{
    const char *since = wire_text(request, "since");
    const char *at = wire_text(request, "at");
    json_int_t when = since ? cli_time_parse(since) : 0;
    json_int_t middle = at ? cli_time_parse(at) : 0;

    if (when == -1 || middle == -1) {
        fprintf(stderr, "mailhaul: not a time: %s\n", when == -1 ? since : at);
        return -1;
    }
    s->until = clock_unix_ms() + HOUR_MS;
    if (at) {
        s->since = middle - AROUND_MS;
        s->until = middle + AROUND_MS;
    } else if (since) {
        s->since = when;
    } else if (s->address && !s->message_id && !s->session) {
        s->since = clock_unix_ms() - DAY_MS;
    }
    return 0;
}

static int take_question(const json_t *request, struct search *s)
{
    const char *id = wire_text(request, "message_id");
    size_t length;

    s->address = wire_text(request, "address");
    s->session = wire_text(request, "session");
    s->message_id = id;
    if ((s->address != NULL) + (s->session != NULL) + (id != NULL) != 1) {
        fprintf(stderr, "mailhaul: trace wants an address, --message-id or "
                        "--session\n");
        return -1;
    }
    if (id) { /* with angle brackets or without */
        length = strlen(id);
        if (*id == '<' && length > 2 && id[length - 1] == '>')
            length -= 2, id++;
        snprintf(s->safe_id, sizeof(s->safe_id), "<%.*s>", (int)length, id);
        snprintf(s->safe_id, sizeof(s->safe_id), "%s",
                 log_safe(s->safe_id)); /* cut as there */
        if (s->safe_id[strlen(s->safe_id) - 1] == '>') {
            memmove(s->safe_id, s->safe_id + 1, strlen(s->safe_id));
            s->safe_id[strlen(s->safe_id) - 1] = '\0';
        }
    }
    return take_times(request, s);
}

static int search_files(struct cli *cli, const json_t *request,
                        struct search *s, struct err *err)
{
    const char *log = wire_text(request, "log");

    for (int pass = 0; pass < 2; pass++) {
        s->is_second = pass == 1;
        if ((log ? read_file(s, log, err) : read_kept(s, cli->conf, err)) == -1)
            return -1;
    }
    return 0;
}

int cli_trace(struct cli *cli, json_t *request)
{
    struct search s = {.address = NULL};
    json_t *document;
    struct err err;
    int rc;

    if (take_question(request, &s) == -1)
        return CLI_USAGE;
    s.events = json_array();
    if (s.address)
        add_audit(cli, &s);
    rc = search_files(cli, request, &s, &err);
    if (rc == 0) {
        document = json_pack("{s:I,s:I,s:b,s:o}", "since", (json_int_t)s.since,
                             "until", (json_int_t)s.until, "cut", (int)s.is_cut,
                             "events", sorted(s.events));
        if (cli->is_json)
            cli_print_json(document);
        else
            print_events(json_object_get(document, "events"), s.is_cut);
        json_decref(document);
    }
    json_decref(s.events);
    free(s.parts);
    return rc == -1 ? cli_complain(cli, &err) : CLI_GOOD;
}
