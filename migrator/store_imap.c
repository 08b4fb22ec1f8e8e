/*
 * Writing to a mailbox by IMAP. Folders go through the library; APPEND is
 * spoken here on the library's stream, because the library wants the whole
 * message in memory and rewrites its line ends.
 */
#include "migrator/store_imap.h"

#include <libetpan/libetpan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/session_imap.h"

#define STORE_PIECE     65536
#define STORE_LINES_MAX 1000 /* untagged lines of one command */
#define STORE_NAME_MAX  2048
#define STORE_TAG       "append"

struct store_imap {
    const char *side;             /* static, for errors: "local" or "legacy" */
    struct session_imap *session; /* owned */
    MMAPString *line;             /* owned */
    char *selected;               /* owned; NULL: no folder */
    bool is_broken;
};

static int open_session(const struct session_login *login, const char *side,
                        struct store_imap **out, struct err *err)
{
    struct session_imap *session;

    if (session_imap_open(login, &session, err) == -1)
        return err_prefix(err, "%s", side);
    *out = mem_alloc(sizeof **out);
    (*out)->side = side;
    (*out)->session = session;
    (*out)->line = mmap_string_new("");
    return 0;
}

int store_imap_open(const struct migration_job *job, struct store_imap **out,
                    struct err *err)
{
    struct session_login login = {.url = &job->local_imap,
                                  .ca_file = job->ca_file,
                                  .tls_minimum = job->tls_minimum,
                                  .user = job->address,
                                  .master_user = job->local_master};

    if (job->local_imap.host[0] == '\0')
        return err_set(err, ERR_SETUP, "local.imap is not set");
    login.password = migration_job_local_password(job, err);
    if (login.password == NULL)
        return -1;
    return open_session(&login, "local", out, err);
}

int store_imap_open_legacy(const struct migration_job *job,
                           struct store_imap **out, struct err *err)
{
    const struct session_login login = {.url = &job->legacy_imap,
                                        .ca_file = job->ca_file,
                                        .tls_minimum = job->tls_minimum,
                                        .user = job->legacy_user,
                                        .master_user = job->master_user,
                                        .master_login = job->master_login,
                                        .password = &job->password};

    return open_session(&login, "legacy", out, err);
}

void store_imap_close(struct store_imap **store)
{
    struct store_imap *s = *store;

    if (s == NULL)
        return;
    *store = NULL;
    session_imap_close(&s->session);
    mmap_string_free(s->line);
    free(s->selected);
    free(s);
}

/* ---- folders ---- */

static int fail(struct store_imap *s, int result, const char *verb,
                struct err *err)
{
    char what[32];

    snprintf(what, sizeof what, "%s %s", s->side, verb);
    return session_imap_fail(s->session, result, what, err);
}

static void take_status(clist *attributes, uint32_t *uidnext_out)
{
    for (clistiter *i = clist_begin(attributes); i != NULL; i = clist_next(i)) {
        const struct mailimap_status_info *one = clist_content(i);

        if (one->st_att == MAILIMAP_STATUS_ATT_UIDNEXT)
            *uidnext_out = one->st_value;
    }
}

static int folder_status(struct store_imap *s, const char *folder,
                         uint32_t *uidnext_out, struct err *err)
{
    struct mailimap_status_att_list *wanted =
        mailimap_status_att_list_new_empty();
    struct mailimap_mailbox_data_status *status = NULL;
    int result;

    if (wanted == NULL)
        abort();
    mailimap_status_att_list_add(wanted, MAILIMAP_STATUS_ATT_UIDNEXT);
    result = mailimap_status(session_imap_library(s->session), folder, wanted,
                             &status);
    mailimap_status_att_list_free(wanted);
    if (result != MAILIMAP_NO_ERROR)
        return fail(s, result, "STATUS", err);
    *uidnext_out = 0;
    if (status != NULL) {
        if (status->st_info_list != NULL)
            take_status(status->st_info_list, uidnext_out);
        mailimap_mailbox_data_status_free(status);
    }
    return 0;
}

int store_imap_folder(struct store_imap *store, const char *folder,
                      bool is_subscribed, uint32_t *uidnext_out,
                      struct err *err)
{
    mailimap *library = session_imap_library(store->session);
    int result;

    if (folder_status(store, folder, uidnext_out, err) == 0)
        return 0;
    if (err->kind != ERR_ITEM)
        return -1;
    result = mailimap_create(library, folder);
    if (result != MAILIMAP_NO_ERROR)
        return fail(store, result, "CREATE", err);
    log_info("%s folder created name=\"%s\"", store->side, log_safe(folder));
    result =
        is_subscribed ? mailimap_subscribe(library, folder) : MAILIMAP_NO_ERROR;
    if (result != MAILIMAP_NO_ERROR && fail(store, result, "SUBSCRIBE", err) &&
        err->kind != ERR_ITEM)
        return -1;
    return folder_status(store, folder, uidnext_out, err);
}

/* ---- APPEND ---- */

static int say(struct store_imap *s, const void *bytes, size_t length,
               struct err *err)
{
    mailstream *stream = session_imap_library(s->session)->imap_stream;

    if (mailstream_write(stream, bytes, length) == (ssize_t)length)
        return 0;
    s->is_broken = true;
    return err_set(err, ERR_RETRY, "%s APPEND: connection broke", s->side);
}

static int send_out(struct store_imap *s, struct err *err)
{
    if (mailstream_flush(session_imap_library(s->session)->imap_stream) == 0)
        return 0;
    s->is_broken = true;
    return err_set(err, ERR_RETRY, "%s APPEND: connection broke", s->side);
}

enum heard { HEARD_BROKEN = -1, HEARD_CONTINUE, HEARD_OK, HEARD_NO };

/* The next "+" or our tagged answer; its text stays in s->line. */
static enum heard hear(struct store_imap *s, struct err *err)
{
    mailstream *stream = session_imap_library(s->session)->imap_stream;
    const size_t tag = sizeof STORE_TAG - 1;

    for (int i = 0; i < STORE_LINES_MAX; i++) {
        const char *line = mailstream_read_line_remove_eol(stream, s->line);

        if (line == NULL)
            break;
        if (line[0] == '+')
            return HEARD_CONTINUE;
        if (strncmp(line, STORE_TAG, tag) == 0 && line[tag] == ' ')
            return strncasecmp(line + tag + 1, "OK", 2) == 0 ? HEARD_OK
                                                             : HEARD_NO;
    }
    s->is_broken = true;
    err_set(err, ERR_RETRY, "%s APPEND: no answer", s->side);
    return HEARD_BROKEN;
}

/* As a quoted string (RFC 3501 section 4.3). */
static int quote_name(const char *name, char *out, size_t size, struct err *err)
{
    size_t used = 0;

    out[used++] = '"';
    for (; *name != '\0'; name++) {
        unsigned char c = (unsigned char)*name;

        if (c < 0x20 || c > 0x7e || used + 4 > size)
            return err_set(err, ERR_ITEM, "a folder's name cannot be sent");
        if (c == '"' || c == '\\')
            out[used++] = '\\';
        out[used++] = (char)c;
    }
    out[used++] = '"';
    out[used] = '\0';
    return 0;
}

/* RFC 3501 date-time; what does not fit its four digits of a year is now. */
static void format_date(int64_t date, int zone_minutes, char out[40])
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr",
                                         "May", "Jun", "Jul", "Aug",
                                         "Sep", "Oct", "Nov", "Dec"};
    time_t local;
    struct tm t;

    if (zone_minutes < -24 * 60 || zone_minutes > 24 * 60)
        zone_minutes = 0;
    if (date < -62135596800 + 86400 || date > 253402300799 - 86400)
        date = time(NULL);
    local = (time_t)(date + zone_minutes * 60);
    gmtime_r(&local, &t);
    snprintf(out, 40, "%02d-%s-%04d %02d:%02d:%02d %c%02d%02d", t.tm_mday % 100,
             months[t.tm_mon % 12], (t.tm_year + 1900) % 10000, t.tm_hour % 100,
             t.tm_min % 100, t.tm_sec % 100, zone_minutes < 0 ? '-' : '+',
             abs(zone_minutes) / 60 % 100, abs(zone_minutes) % 60);
}

static int say_command(struct store_imap *s, const struct store_append *a,
                       struct err *err)
{
    char name[STORE_NAME_MAX], date[40], literal[64];

    if (quote_name(a->folder, name, sizeof name, err) == -1)
        return -1;
    format_date(a->date, a->zone_minutes, date);
    snprintf(literal, sizeof literal, ") \"%s\" {%llu}\r\n", date,
             (unsigned long long)a->size_bytes);
    if (say(s, STORE_TAG " APPEND ", sizeof STORE_TAG + 7, err) == -1 ||
        say(s, name, strlen(name), err) == -1 || say(s, " (", 2, err) == -1 ||
        say(s, a->flags, strlen(a->flags), err) == -1 ||
        say(s, literal, strlen(literal), err) == -1)
        return -1;
    return send_out(s, err);
}

static int say_body(struct store_imap *s, const struct store_append *a,
                    struct err *err)
{
    char *piece = mem_alloc(STORE_PIECE);
    uint64_t sent = 0;
    int result = 0;

    while (result == 0 && sent < a->size_bytes) {
        uint64_t left = a->size_bytes - sent;
        size_t wanted = left < STORE_PIECE ? (size_t)left : STORE_PIECE;
        ssize_t got = pread(a->fd, piece, wanted, (off_t)sent);

        if (got <= 0) { /* the literal cannot be ended any more */
            s->is_broken = true;
            result = err_set(err, ERR_SETUP, "temporary file cut short");
            break;
        }
        result = say(s, piece, (size_t)got, err);
        sent += (uint64_t)got;
    }
    free(piece);
    if (result == -1)
        return -1;
    return say(s, "\r\n", 2, err) == -1 ? -1 : send_out(s, err);
}

static uint32_t appended_uid(const char *line)
{
    const char *code = strcasestr(line, "[APPENDUID ");
    char *end;
    unsigned long uid;

    if (code == NULL)
        return 0;
    strtoul(code + 11, &end, 10); /* UIDVALIDITY */
    uid = *end == ' ' ? strtoul(end, NULL, 10) : 0;
    return uid <= UINT32_MAX ? (uint32_t)uid : 0;
}

/* RFC 5530: these pass with time; the others are about the message. */
static int refuse(const struct store_imap *s, bool *is_refused_out,
                  struct err *err)
{
    static const char *const later[] = {"[OVERQUOTA]",    "[UNAVAILABLE]",
                                        "[INUSE]",        "[SERVERBUG]",
                                        "[CONTACTADMIN]", "[NOPERM]"};
    const char *line = s->line->str;
    enum err_kind kind = ERR_ITEM;

    *is_refused_out = true;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strcasestr(line, later[i]) != NULL)
            kind = ERR_RETRY;
    return err_set(err, kind, "%s APPEND: %s", s->side, log_safe(line));
}

int store_imap_append(struct store_imap *store,
                      const struct store_append *append, uint32_t *uid_out,
                      bool *is_refused_out, struct err *err)
{
    enum heard heard;

    *is_refused_out = false;
    if (store->is_broken)
        return err_set(err, ERR_RETRY, "%s APPEND: connection broke",
                       store->side);
    if (say_command(store, append, err) == -1) {
        *is_refused_out = err->kind == ERR_ITEM;
        return -1;
    }
    heard = hear(store, err);
    if (heard == HEARD_CONTINUE) {
        if (say_body(store, append, err) == -1)
            return -1;
        heard = hear(store, err);
    }
    switch (heard) {
    case HEARD_OK: *uid_out = appended_uid(store->line->str); return 0;
    case HEARD_NO: return refuse(store, is_refused_out, err);
    case HEARD_CONTINUE:
        store->is_broken = true;
        return err_set(err, ERR_RETRY, "%s APPEND: asks for more", store->side);
    case HEARD_BROKEN: break;
    }
    return -1;
}

/* ---- flags ---- */

static int command(struct store_imap *s, const char *verb, const char *rest,
                   struct err *err)
{
    if (say(s, STORE_TAG " ", sizeof STORE_TAG, err) == -1 ||
        say(s, verb, strlen(verb), err) == -1 ||
        say(s, rest, strlen(rest), err) == -1 || say(s, "\r\n", 2, err) == -1 ||
        send_out(s, err) == -1)
        return -1;
    switch (hear(s, err)) {
    case HEARD_OK: return 0;
    case HEARD_NO:
        return err_set(err, ERR_ITEM, "%s %s: %s", s->side, verb,
                       log_safe(s->line->str));
    case HEARD_CONTINUE:
        s->is_broken = true;
        return err_set(err, ERR_RETRY, "%s %s: asks for more", s->side, verb);
    case HEARD_BROKEN: break;
    }
    return -1;
}

static int select_folder(struct store_imap *s, const char *folder,
                         struct err *err)
{
    char name[STORE_NAME_MAX];

    if (s->selected != NULL && strcmp(s->selected, folder) == 0)
        return 0;
    free(s->selected);
    s->selected = NULL;
    if (quote_name(folder, name, sizeof name, err) == -1 ||
        command(s, "SELECT ", name, err) == -1)
        return -1;
    s->selected = mem_dup_text(folder);
    return 0;
}

int store_imap_add_flags(struct store_imap *store, const char *folder,
                         uint32_t uid, const char *flags, struct err *err)
{
    char verb[64];
    int result;
    char *list;

    if (store->is_broken)
        return err_set(err, ERR_RETRY, "%s: connection broke", store->side);
    if (select_folder(store, folder, err) == -1)
        return -1;
    snprintf(verb, sizeof verb, "UID STORE %u +FLAGS.SILENT ", uid);
    list = mem_alloc(strlen(flags) + 3);
    snprintf(list, strlen(flags) + 3, "(%s)", flags);
    result = command(store, verb, list, err);
    free(list);
    return result;
}

/* ---- commands on a folder ---- */

bool store_imap_has(const struct store_imap *store, const char *capability)
{
    return session_imap_has(store->session, capability);
}

int store_imap_command(struct store_imap *store, const char *folder,
                       const char *verb, const char *rest,
                       const char **answer_out, struct err *err)
{
    if (store->is_broken)
        return err_set(err, ERR_RETRY, "%s: connection broke", store->side);
    if (select_folder(store, folder, err) == -1 ||
        command(store, verb, rest, err) == -1)
        return -1;
    if (answer_out != NULL)
        *answer_out = store->line->str;
    return 0;
}

int store_imap_subscribe(struct store_imap *store, const char *folder,
                         struct err *err)
{
    int result =
        mailimap_subscribe(session_imap_library(store->session), folder);

    return result == MAILIMAP_NO_ERROR ? 0
                                       : fail(store, result, "SUBSCRIBE", err);
}
