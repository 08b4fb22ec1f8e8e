#include "admin/metrics.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tally.h"

#define PREFIX "mailhaul_"

/* What each family means; one that is not listed is told without. */
static const struct {
    const char *name;
    const char *help;
} families[] = {
    {"up", "1 if the state process answers"},
    {"accounts", "Accounts by domain, route and copy"},
    {"account_events_total", "Changes of accounts, such as flip, hold-failed"},
    {"jobs_waiting", "Jobs that wait, by kind"},
    {"jobs_running", "Jobs that run, by kind"},
    {"jobs_total", "Jobs that have ended, by kind and result"},
    {"queue_age_seconds", "How long the longest due job has been waiting"},
    {"holds", "Accounts that are held now"},
    {"freezes", "Freezes in force"},
    {"peers_known", "1 if every process that must be quiet is known"},
    {"disk_full", "1 while nothing is written for want of room"},
    {"disk_free_bytes", "Room on the file system of a place"},
    {"disk_free_inodes", "Free inodes on the file system of a place"},
    {"refused_accounts",
     "Accounts refused, since the control db is older than what was seen"},
    {"on_flip", "on_flip commands that are due, or have failed"},
    {"late_mail_total", "Mails that arrived late on the old server, fetched"},
    {"last_backup_timestamp_seconds",
     "When the control db was last backed up, 0 for never"},
    {"legacy_failures", "Failed jobs in a row of an old server"},
    {"legacy_down", "1 if an old server seems to be down"},
    {"sessions", "Open client sessions, by protocol"},
    {"sessions_spliced", "Sessions that a server serves, by side"},
    {"sessions_total", "Client sessions begun"},
    {"session_ends_total", "Client sessions ended, by the side that served"},
    {"session_bytes_total", "Bytes passed on in both directions"},
    {"logins_total", "Logins by protocol, side and result"},
    {"mails_total", "Mails by side and answer"},
    {"mail_bytes_total", "Bytes of mails by side"},
    {"recipients_total", "Recipients by side and answer"},
};

struct line {
    const char *series; /* borrowed */
    double value;
};

static size_t name_length(const char *series)
{
    return strcspn(series, "{");
}

/* [a-zA-Z_][a-zA-Z0-9_]*, then nothing or {...}; what a process has sent is
   not believed to be more. */
static bool is_metric(const char *series)
{
    size_t length = name_length(series), all = strlen(series);

    if (length == 0 || isdigit((unsigned char)series[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)series[i]) && series[i] != '_')
            return false;
    for (size_t i = length; i < all; i++)
        if ((unsigned char)series[i] < 0x20)
            return false;
    return series[length] == '\0' || series[all - 1] == '}';
}

/* By family first, so that its lines stand together. */
static int compare(const void *a, const void *b)
{
    const struct line *one = a, *other = b;
    size_t length = name_length(one->series);
    size_t other_length = name_length(other->series);
    size_t both = length < other_length ? length : other_length;
    int order = memcmp(one->series, other->series, both);

    if (order == 0 && length != other_length)
        return length < other_length ? -1 : 1;
    return order ? order : strcmp(one->series, other->series);
}

static const char *help_of(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (strlen(families[i].name) == length &&
            memcmp(families[i].name, name, length) == 0)
            return families[i].help;
    return NULL;
}

static void write_head(const char *series, struct buf *out)
{
    int length = (int)name_length(series);
    const char *help = help_of(series, (size_t)length);

    if (help)
        buf_printf(out, "# HELP " PREFIX "%.*s %s\n", length, series, help);
    buf_printf(out, "# TYPE " PREFIX "%.*s %s\n", length, series,
               tally_only_grows(series) ? "counter" : "gauge");
}

static bool is_same_family(const char *a, const char *b)
{
    size_t length = name_length(a);

    return length == name_length(b) && memcmp(a, b, length) == 0;
}

void metrics_write(const json_t *series, struct buf *out)
{
    size_t count = 0, size = json_object_size(series);
    struct line *lines = mem_alloc((size + 1) * sizeof(*lines));
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)series, name, value)
    {
        if (count < size && json_is_number(value) && is_metric(name))
            lines[count++] = (struct line){name, json_number_value(value)};
    }
    qsort(lines, count, sizeof(*lines), compare);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !is_same_family(lines[i - 1].series, lines[i].series))
            write_head(lines[i].series, out);
        buf_printf(out, PREFIX "%s %.17g\n", lines[i].series, lines[i].value);
    }
    free(lines);
}
