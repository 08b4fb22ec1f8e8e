#include "cli/cli.h"

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
