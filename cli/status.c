/*
 * mailhaul status: totals, what moves and how fast, what is stuck and why.
 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"

#define SECOND_MICROS 1000000
#define LIST_MAX      20 /* accounts named one by one on a terminal */

/* What is copied a second, from two looks. */
struct rate {
    double messages, bytes;
};

static const json_t *totals_of(const json_t *status)
{
    return json_object_get(status, "totals");
}

static struct rate rate_of(const json_t *before, const json_t *now)
{
    double seconds =
        (double)(wire_int(now, "at", 0) - wire_int(before, "at", 0)) / 1000;
    struct rate rate = {0, 0};

    if (seconds <= 0)
        return rate;
    rate.messages = (double)(wire_int(totals_of(now), "messages", 0) -
                             wire_int(totals_of(before), "messages", 0)) /
                    seconds;
    rate.bytes = (double)(wire_int(totals_of(now), "bytes", 0) -
                          wire_int(totals_of(before), "bytes", 0)) /
                 seconds;
    return rate;
}

/* Many old servers do not say how many bytes a folder has: then messages are
   what can be counted. */
static const char *unit_of(const json_t *counts)
{
    return wire_int(counts, "bytes_total", 0) >= wire_int(counts, "bytes", 0)
               ? "bytes"
               : "messages";
}

static json_int_t total_of(const json_t *counts, const char *unit)
{
    return wire_int(counts, *unit == 'b' ? "bytes_total" : "messages_total", 0);
}

static double share_of(const json_t *counts)
{
    const char *unit = unit_of(counts);
    json_int_t total = total_of(counts, unit);

    return total > 0 ? (double)wire_int(counts, unit, 0) / (double)total : 0;
}

static double seconds_left(const json_t *counts, const struct rate *rate)
{
    const char *unit = unit_of(counts);
    double left = (double)(total_of(counts, unit) - wire_int(counts, unit, 0));
    double each = *unit == 'b' ? rate->bytes : rate->messages;

    return left > 0 && each > 0 ? left / each : 0;
}

static int print_counts(const json_t *counts, const char *const *names)
{
    int lines = 0;

    for (; *names; names++)
        if (wire_int(counts, *names, 0)) {
            printf(" %s %lld", *names, (long long)wire_int(counts, *names, 0));
            lines = 1;
        }
    return lines;
}

/* Returns the number of lines printed. */
static int print_totals(const json_t *status, const struct rate *rate)
{
    static const char *const routes[] = {"legacy", "held", "local", NULL};
    static const char *const copies[] = {"initial", "delta",  "final",  "trail",
                                         "done",    "failed", "paused", NULL};
    const json_t *t = totals_of(status);

    printf("accounts %lld  route:", (long long)wire_int(t, "accounts", 0));
    print_counts(json_object_get(t, "route"), routes);
    printf("  copy:");
    print_counts(json_object_get(t, "copy"), copies);
    printf("\n%s %lld of %lld messages, %s", cli_bar(share_of(t), 40),
           (long long)wire_int(t, "messages", 0),
           (long long)wire_int(t, "messages_total", 0),
           cli_bytes(wire_int(t, "bytes", 0)));
    if (*unit_of(t) == 'b')
        printf(" of %s", cli_bytes(wire_int(t, "bytes_total", 0)));
    if (rate && rate->bytes > 0)
        printf(", %.0f/s, %s/s, %s left", rate->messages,
               cli_bytes((json_int_t)rate->bytes),
               cli_duration(seconds_left(t, rate)));
    printf("\njobs: %lld running, %lld waiting\n",
           (long long)wire_int(json_object_get(status, "jobs"), "running", 0),
           (long long)wire_int(json_object_get(status, "jobs"), "queued", 0));
    return 3;
}

static int print_moving(const json_t *status)
{
    const json_t *a;
    int lines = 0;
    size_t i;

    json_array_foreach(json_object_get(status, "moving"), i, a)
    {
        if (lines == LIST_MAX)
            break;
        printf("  %-32s %s %-7s %lld/%lld\n", cli_text(a, "address"),
               cli_bar(share_of(a), 20), cli_text(a, "copy"),
               (long long)wire_int(a, "messages", 0),
               (long long)wire_int(a, "messages_total", 0));
        lines++;
    }
    return lines;
}

static int print_stuck(const json_t *status)
{
    const json_t *a;
    int lines = 0;
    size_t i;

    json_array_foreach(json_object_get(status, "stuck"), i, a)
    {
        if (lines == LIST_MAX)
            break;
        printf("  ! %-30s %.200s\n", cli_text(a, "address"),
               cli_text(a, "sentence"));
        lines++;
    }
    return lines;
}

static int print_refused(const json_t *status)
{
    json_int_t count = wire_int(status, "refused", 0);

    if (count == 0)
        return 0;
    printf("refused: %lld accounts, of which the store knows more than this "
           "control db (\"db check\")\n",
           (long long)count);
    return 1;
}

static int print_all(const json_t *status, const struct rate *rate)
{
    return cli_print_freezes(status) + print_refused(status) +
           print_totals(status, rate) + print_moving(status) +
           print_stuck(status);
}

static bool is_copying(const json_t *status)
{
    const json_t *copies = json_object_get(totals_of(status), "copy");

    return wire_int(copies, "initial", 0) + wire_int(copies, "final", 0) > 0;
}

static int watch(struct cli *cli, const json_t *request)
{
    bool is_terminal = isatty(STDOUT_FILENO);
    json_t *before = NULL, *now;
    int lines = 0;

    while ((now = cli_ask(cli, request))) {
        struct rate rate = {0, 0};

        if (before)
            rate = rate_of(before, now);
        json_decref(before);
        before = now;
        if (cli->is_json) {
            json_dumpf(now, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            if (is_terminal && lines)
                printf("\033[%dA\033[J", lines);
            lines = print_all(now, &rate);
        }
        if (fflush(stdout) != 0)
            break;
        usleep(SECOND_MICROS);
    }
    json_decref(before);
    return CLI_BAD;
}

int cli_status(struct cli *cli, json_t *request)
{
    json_t *first, *second = NULL;
    struct rate rate = {0, 0};

    if (wire_bool(request, "watch"))
        return watch(cli, request);
    first = cli_ask(cli, request);
    if (!first)
        return CLI_BAD;
    if (cli->is_json) {
        cli_print_json(first);
    } else {
        if (is_copying(first) && !cli->is_direct) {
            usleep(SECOND_MICROS);
            second = cli_ask(cli, request);
        }
        if (second)
            rate = rate_of(first, second);
        print_all(second ? second : first, &rate);
    }
    json_decref(first);
    json_decref(second);
    return CLI_GOOD;
}
