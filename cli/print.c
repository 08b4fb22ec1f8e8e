#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "account/wire.h"

#define TEXT_SIZE 128

static char *next_text(void)
{
    static char texts[4][TEXT_SIZE];
    static unsigned turn;

    return texts[turn++ % 4];
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
