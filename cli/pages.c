/*
 * Commands on a whole domain, page after page (account/command_page.c): between
 * two of them others are answered.
 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/clock.h"

#define SHOWN_MS 200 /* between two looks of the bar */

struct walk {
    struct cli *cli;
    cli_page_fn *fn;
    void *ctx;
    bool has_bar; /* nothing else is printed meanwhile */
    int64_t done, began_ms, shown_ms;
};

static void show(struct walk *walk, int64_t total)
{
    int64_t now = clock_unix_ms();
    double share = total > walk->done ? (double)walk->done / (double)total : 1;
    double took_s = (double)(now - walk->began_ms) / 1e3;

    if (!walk->has_bar || now - walk->shown_ms < SHOWN_MS)
        return;
    walk->shown_ms = now;
    fprintf(stderr, "\r%s %lld of %lld, %s left\033[K", cli_bar(share, 30),
            (long long)walk->done, (long long)total,
            cli_duration(took_s / share - took_s));
}

static void show_nothing(const struct walk *walk)
{
    if (walk->shown_ms)
        fputs("\r\033[K", stderr);
}

/* What was done in the pages before stays done: the complaint says how far. */
static int complain(struct walk *walk, const json_t *request, struct err *err)
{
    const char *after = wire_text(request, "after");

    show_nothing(walk);
    if (after)
        err_prefix(err, "all up to %s are done, then", after);
    return cli_complain(walk->cli, err);
}

static int walk_pages(struct walk *walk, json_t *request)
{
    bool is_last = false;
    json_t *page = NULL;
    struct err err;

    walk->began_ms = clock_unix_ms();
    while (!is_last) {
        if (cli_call(walk->cli, request, &page, &err) == -1)
            return complain(walk, request, &err);
        is_last = !wire_text(page, "next");
        walk->done +=
            (int64_t)json_array_size(json_object_get(page, "accounts"));
        if (!is_last) {
            json_object_set(request, "after", json_object_get(page, "next"));
            show(walk, wire_int(page, "total", 0));
        }
        json_object_del(page, "next");
        json_object_del(page, "total");
        walk->fn(walk->ctx, page);
        json_decref(page);
    }
    show_nothing(walk);
    return CLI_GOOD;
}

int cli_each_page(struct cli *cli, json_t *request, cli_page_fn *fn, void *ctx)
{
    struct walk walk = {.cli = cli, .fn = fn, .ctx = ctx};

    return walk_pages(&walk, request);
}

/* Arrays grow longer, numbers add up; what else there is, each page says. */
static void add_page(void *ctx, json_t *page)
{
    json_t *sum = ctx, *value;
    const char *key;

    json_object_foreach(page, key, value)
    {
        json_t *was = json_object_get(sum, key);

        if (json_is_array(was))
            json_array_extend(was, value);
        else if (json_is_integer(was))
            json_integer_set(was, json_integer_value(was) +
                                      json_integer_value(value));
        else
            json_object_set(sum, key, value);
    }
}

json_t *cli_ask_pages(struct cli *cli, json_t *request)
{
    json_t *sum = json_object();
    struct walk walk = {.cli = cli,
                        .fn = add_page,
                        .ctx = sum,
                        .has_bar = !cli->is_json && isatty(STDERR_FILENO)};

    if (walk_pages(&walk, request) == CLI_GOOD)
        return sum;
    json_decref(sum);
    return NULL;
}
