#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "account/wire.h"
#include "base/buf.h"

#define TEXT_SIZE 128

static char *next_text(void)
{
    static char texts[4][TEXT_SIZE];
    static unsigned turn;

    return texts[turn++ % 4];
}

/* How many bytes of it a terminal would take for a command; a line break is one
   only where it would begin a line that looks like ours. */
static size_t control_bytes(const char *text)
{
    unsigned char first = (unsigned char)text[0];

    if (first < 0x20 || first == 0x7f)
        return first == '\0' ? 0 : 1;
    if (first == 0xc2 && ((unsigned char)text[1] & 0xe0) == 0x80)
        return 2; /* U+0080 to U+009F */
    return 0;
}

static json_t *plain(const char *text)
{
    struct buf out;
    json_t *copy;

    buf_init(&out, 4 * strlen(text) + 1);
    while (*text) {
        size_t count = control_bytes(text);

        if (count == 0)
            buf_append(&out, text++, 1);
        for (; count > 0; count--)
            buf_printf(&out, "\\x%02x", (unsigned char)*text++);
    }
    copy = json_string(buf_text(&out));
    buf_release(&out);
    return copy;
}

void cli_make_plain(json_t *document)
{
    const char *key;
    json_t *value;
    size_t i;
    void *next;

    if (json_is_array(document)) {
        json_array_foreach(document, i, value)
        {
            if (json_is_string(value))
                json_array_set_new(document, i,
                                   plain(json_string_value(value)));
            else
                cli_make_plain(value);
        }
    }
    json_object_foreach_safe(document, next, key, value)
    {
        if (json_is_string(value))
            json_object_set_new(document, key, plain(json_string_value(value)));
        else
            cli_make_plain(value);
    }
}

int cli_complain(const struct cli *cli, const struct err *err)
{
    if (cli->is_json) {
        json_t *document = json_pack("{s:s,s:s}", "error", err->text, "kind",
                                     err_kind_name(err->kind));

        cli_print_json(document);
        json_decref(document);
    }
    fprintf(stderr, "mailhaul: %s\n", err->text);
    return CLI_BAD;
}

void cli_print_json(const json_t *document)
{
    json_dumpf(document, stdout, JSON_INDENT(2));
    putchar('\n');
}

const char *cli_text(const json_t *object, const char *field)
{
    const char *text = wire_text(object, field);

    return text ? text : "";
}

const char *cli_bytes(json_int_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    char *text = next_text();
    unsigned unit = 0;

    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    snprintf(text, TEXT_SIZE, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *cli_duration(double seconds)
{
    long long whole = (long long)seconds;
    char *text = next_text();

    if (seconds < 0)
        return "-";
    if (whole < 60)
        snprintf(text, TEXT_SIZE, "%lld s", whole);
    else if (whole < 3600)
        snprintf(text, TEXT_SIZE, "%lld min %lld s", whole / 60, whole % 60);
    else
        snprintf(text, TEXT_SIZE, "%lld h %lld min", whole / 3600,
                 whole / 60 % 60);
    return text;
}

const char *cli_time(json_int_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    char *text = next_text();
    struct tm local;

    if (unix_ms == 0)
        return "-";
    localtime_r(&seconds, &local);
    strftime(text, TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &local);
    return text;
}

static json_int_t parse_ago(const char *text)
{
    static const char units[] = "smhd";
    static const long long seconds[] = {1, 60, 3600, 86400};
    char *end;
    long long count;
    const char *unit;

    errno = 0;
    count = strtoll(text, &end, 10);
    if (end == text || errno || count < 0 || count > 100000000000000)
        return -1;
    if (*end == '\0')
        return count; /* Unix ms */
    unit = strchr(units, *end);
    if (!unit || end[1] || count > 1000000000)
        return -1;
    return (json_int_t)time(NULL) * 1000 - count * seconds[unit - units] * 1000;
}

json_int_t cli_time_parse(const char *text)
{
    static const char *const forms[] = {
        "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",    "%Y-%m-%d",
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct tm local = {.tm_isdst = -1};
        const char *end = strptime(text, forms[i], &local);

        local.tm_isdst = -1;
        if (end && *end == '\0')
            return (json_int_t)mktime(&local) * 1000;
    }
    return parse_ago(text);
}

const char *cli_bar(double share, int width)
{
    char *text = next_text();
    int full;

    if (width > TEXT_SIZE - 3)
        width = TEXT_SIZE - 3;
    full = (int)(share * width);
    if (full < 0)
        full = 0;
    if (full > width)
        full = width;
    text[0] = '[';
    memset(text + 1, '#', (size_t)full);
    memset(text + 1 + full, '.', (size_t)(width - full));
    text[width + 1] = ']';
    text[width + 2] = '\0';
    return text;
}
