/*
 * mailhaul migrate: start or hurry copying, from arguments, a domain or a list.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/mem.h"
#include "cli/list.h"

#define CSV_MAX     (12u << 20) /* what fits into one request */
#define POLL_MICROS 500000

/* A column of the entry that `account import` takes, and we do not. */
static const char *other_column(const json_t *entry)
{
    static const char *const others[] = {"names",   "quota", "aliases",
                                         "forward", "owner", "group"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (json_object_get(entry, others[i]))
            return others[i];
    return NULL;
}

static int refuse_columns(const json_t *entries, struct err *err)
{
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const char *column = other_column(entry);

        if (column)
            return err_set(err, ERR_SETUP,
                           "line %lld: column %s is for \"account import\"",
                           (long long)wire_int(entry, "line", 0), column);
    }
    return 0;
}

/* The list's lines into the request; its passwords stay in memory only. */
static int take_csv(json_t *request, struct err *err)
{
    struct list_source source = {.path = wire_text(request, "csv"),
                                 .encoding = wire_text(request, "encoding"),
                                 .max_bytes = CSV_MAX};
    json_t *entries, *problems;
    int rc;

    if (!source.path)
        return 0;
    entries = json_array();
    problems = json_array();
    rc = list_read(&source, entries, problems, err);
    if (rc == 0 && json_array_size(problems)) {
        const json_t *first = json_array_get(problems, 0);

        rc = err_set(err, ERR_SETUP, "%s: line %lld: %s", source.path,
                     (long long)wire_int(first, "line", 0),
                     cli_text(first, "error"));
    }
    if (rc == 0 && (rc = refuse_columns(entries, err)) == -1)
        err_prefix(err, "%s", source.path);
    json_decref(problems);
    if (rc == 0) {
        json_object_set(request, "entries", entries);
        json_object_del(request, "csv");
    }
    json_decref(entries);
    return rc;
}

/* What state says of a line is told with the file, as what we say of it. */
static json_t *ask_with_list(struct cli *cli, json_t *request)
{
    const char *path = wire_text(request, "csv");
    char *file = path ? mem_dup_text(path) : NULL;
    json_t *result = NULL;
    struct err err;
    int rc = take_csv(request, &err);

    if (rc == 0) {
        rc = cli_call(cli, request, &result, &err);
        if (rc == -1 && file && strncmp(err.text, "line ", 5) == 0)
            err_prefix(&err, "%s", file);
    }
    free(file);
    if (rc == -1)
        cli_complain(cli, &err);
    return result;
}

static void print_plan(const json_t *result)
{
    bool is_dry = wire_bool(result, "dry_run");
    const json_t *a;
    size_t i;

    json_array_foreach(json_object_get(result, "accounts"), i, a) printf(
        "%-32s %-10s route %-7s copy %s\n", cli_text(a, "address"),
        cli_text(a, "action"), cli_text(a, "route"), cli_text(a, "copy"));
    printf("%zu accounts%s\n",
           json_array_size(json_object_get(result, "accounts")),
           is_dry ? "; nothing was done" : "");
}

/* Where one account stands, for who waits for it. */
enum standing { STANDS_MOVING, STANDS_DONE, STANDS_FAILED };

static enum standing standing_of(const json_t *a)
{
    /* a window that opens on Saturday is not waited for */
    bool flips = wire_bool(a, "window_open") || wire_bool(a, "wants_flip");
    const char *copy = cli_text(a, "copy");

    if (strcmp(copy, "failed") == 0 || strcmp(copy, "paused") == 0)
        return STANDS_FAILED;
    if (strcmp(cli_text(a, "route"), "local") == 0)
        return STANDS_DONE;
    if (wire_bool(a, "frozen"))
        return STANDS_FAILED;
    if (strcmp(copy, "delta") != 0)
        return STANDS_MOVING;
    if (wire_int(a, "set_aside", 0) > 0)
        return flips ? STANDS_FAILED : STANDS_DONE;
    return flips ? STANDS_MOVING : STANDS_DONE;
}

static void show_progress(const struct cli *cli, size_t done, size_t count,
                          const json_t *a)
{
    json_int_t total = wire_int(a, "messages_total", 0);
    json_int_t copied = wire_int(a, "messages", 0);

    if (cli->is_json || !isatty(STDOUT_FILENO))
        return;
    printf("\r\033[K%zu of %zu  %s %s %lld/%lld %s", done, count,
           cli_bar(total > 0 ? (double)copied / (double)total : 0, 30),
           cli_text(a, "address"), (long long)copied, (long long)total,
           cli_text(a, "copy"));
    fflush(stdout);
}

/* Ask until each account has come where it can; its last word in each. */
static int wait_for_all(struct cli *cli, json_t *accounts)
{
    size_t i, count = json_array_size(accounts);
    json_t *a;
    int rc = CLI_GOOD;

    json_array_foreach(accounts, i, a)
    {
        enum standing standing = STANDS_MOVING;
        json_t *request = json_pack("{s:s,s:s}", "cmd", "account show",
                                    "address", cli_text(a, "address"));

        while (standing == STANDS_MOVING) {
            json_t *now = cli_ask(cli, request);

            if (!now) {
                json_decref(request);
                return CLI_BAD;
            }
            standing = standing_of(now);
            show_progress(cli, i, count, now);
            json_object_update(a, now);
            json_decref(now);
            if (standing == STANDS_MOVING)
                usleep(POLL_MICROS);
        }
        json_decref(request);
        if (standing == STANDS_FAILED) {
            rc = CLI_BAD;
            fprintf(stderr, "%smailhaul: %s: %s %s\n",
                    isatty(STDOUT_FILENO) ? "\n" : "", cli_text(a, "address"),
                    cli_text(a, "copy"),
                    wire_bool(a, "frozen") ? "frozen"
                                           : cli_text(a, "last_error"));
        }
    }
    if (!cli->is_json && isatty(STDOUT_FILENO))
        printf("\r\033[K");
    return rc;
}

int cli_migrate(struct cli *cli, json_t *request)
{
    bool has_list = json_array_size(json_object_get(request, "addresses")) > 0;
    bool waits = wire_bool(request, "wait") && !wire_bool(request, "dry_run");
    int rc = CLI_GOOD;
    json_t *result;
    struct err err;

    if (!has_list && !wire_text(request, "domain") &&
        !wire_text(request, "csv")) {
        fputs("mailhaul: migrate whom? ADDRESS..., --domain or --csv\n",
              stderr);
        return CLI_USAGE;
    }
    result = wire_text(request, "domain") && !wire_text(request, "csv")
                 ? cli_ask_pages(cli, request)
                 : ask_with_list(cli, request);
    if (!result)
        return CLI_BAD;
    if (waits && cli->is_direct) {
        err_set(&err, ERR_RETRY,
                "queued; but mailhauld does not run, so "
                "there is nothing to wait for");
        json_decref(result);
        return cli_complain(cli, &err);
    }
    if (waits)
        rc = wait_for_all(cli, json_object_get(result, "accounts"));
    if (cli->is_json)
        cli_print_json(result);
    else
        print_plan(result);
    json_decref(result);
    return rc;
}
