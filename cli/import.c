/*
 * mailhaul account import: a list against the accounts that are there. The
 * whole list is tried first, in pieces, and then written, each piece in one
 * transaction; a bad line anywhere keeps all of it from being written.
 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "cli/list.h"

#define LIST_MAX ((size_t)1 << 30)
#define PIECE    1000 /* lines a request: others wait for it */

struct import {
    struct cli *cli;
    json_t *entries, *problems; /* owned */
    json_t *accounts;           /* owned; the answers */
    bool is_dry, is_partial;
    json_int_t created, changed, unchanged, refused;
};

/* A name or alias that two lines have; pieces are tried apart. */
static void find_twins(struct import *im, const char *field)
{
    json_t *seen = json_object();
    const json_t *entry;
    size_t i;

    json_array_foreach(im->entries, i, entry)
    {
        const json_t *names = json_object_get(entry, field);

        for (size_t j = 0; j < json_array_size(names); j++) {
            const char *name = json_string_value(json_array_get(names, j));
            const json_t *other = json_object_get(seen, name);

            if (other &&
                json_integer_value(other) != wire_int(entry, "line", 0))
                json_array_append_new(
                    im->problems,
                    json_pack("{s:I,s:o}", "line",
                              (json_int_t)wire_int(entry, "line", 0), "error",
                              json_sprintf("%s: line %lld has %s too", field,
                                           (long long)json_integer_value(other),
                                           name)));
            else
                json_object_set_new(seen, name,
                                    json_integer(wire_int(entry, "line", 0)));
        }
    }
    json_decref(seen);
}

static void line_key(const json_t *entry, char *out, size_t size)
{
    snprintf(out, size, "%lld", (long long)wire_int(entry, "line", 0));
}

/* With problems of our own: those lines are not asked for. */
static void drop_bad_lines(struct import *im)
{
    json_t *good = json_array(), *bad = json_object();
    const json_t *entry;
    char line[24];
    size_t i;

    for (i = 0; i < json_array_size(im->problems); i++) {
        line_key(json_array_get(im->problems, i), line, sizeof(line));
        json_object_set_new(bad, line, json_true());
    }
    for (i = 0; i < json_array_size(im->entries); i++) {
        entry = json_array_get(im->entries, i);
        line_key(entry, line, sizeof(line));
        if (!json_object_get(bad, line))
            json_array_append(good, json_array_get(im->entries, i));
    }
    json_decref(bad);
    json_decref(im->entries);
    im->entries = good;
}

static void show_progress(const struct import *im, const char *what,
                          size_t done)
{
    size_t count = json_array_size(im->entries);

    if (im->cli->is_json || !isatty(STDOUT_FILENO) || count <= PIECE)
        return;
    printf("\r\033[K%s %s %zu of %zu", what,
           cli_bar((double)done / (double)count, 30), done, count);
    if (done == count)
        printf("\r\033[K");
    fflush(stdout);
}

static void count_answer(struct import *im, const json_t *result)
{
    im->created += wire_int(result, "created", 0);
    im->changed += wire_int(result, "changed", 0);
    im->unchanged += wire_int(result, "unchanged", 0);
    im->refused += wire_int(result, "refused", 0);
    json_array_extend(im->accounts, json_object_get(result, "accounts"));
}

static int ask_piece(struct import *im, size_t from, size_t to, bool is_trial,
                     struct err *err)
{
    json_t *piece = json_array(), *request, *result;
    int rc;

    for (size_t i = from; i < to; i++)
        json_array_append(piece, json_array_get(im->entries, i));
    request = json_pack("{s:s,s:o,s:b,s:b}", "cmd", "account import", "entries",
                        piece, "dry_run", is_trial, "partial", im->is_partial);
    rc = cli_call(im->cli, request, &result, err);
    json_decref(request);
    if (rc == -1)
        return -1;
    count_answer(im, result);
    if (!is_trial && !wire_bool(result, "applied"))
        rc = err_set(
            err, ERR_RETRY,
            "somebody else has changed accounts meanwhile; lines "
            "before %lld are written",
            (long long)wire_int(json_array_get(im->entries, from), "line", 0));
    json_decref(result);
    return rc;
}

/* Every piece once; what was counted before is forgotten. */
static int ask_all(struct import *im, bool is_trial, struct err *err)
{
    size_t count = json_array_size(im->entries);

    json_array_clear(im->accounts);
    im->created = im->changed = im->unchanged = im->refused = 0;
    for (size_t from = 0; from < count; from += PIECE) {
        size_t to = from + PIECE < count ? from + PIECE : count;

        if (ask_piece(im, from, to, is_trial, err) == -1)
            return -1;
        show_progress(im, is_trial ? "comparing" : "writing", to);
    }
    return 0;
}

/* --- what is printed */

static void print_account(const json_t *a)
{
    const json_t *change;
    size_t i;

    if (json_object_get(a, "error")) {
        printf("line %lld: %s: %s\n", (long long)wire_int(a, "line", 0),
               cli_text(a, "address"), cli_text(a, "error"));
        return;
    }
    if (strcmp(cli_text(a, "action"), "none") == 0)
        return;
    printf("%-6s %s", cli_text(a, "action"), cli_text(a, "address"));
    json_array_foreach(json_object_get(a, "changes"), i, change)
        printf("  %s: \"%s\" -> \"%s\"", cli_text(change, "field"),
               cli_text(change, "was"), cli_text(change, "becomes"));
    printf("\n");
}

static void print_result(const struct import *im, bool is_applied)
{
    const json_t *a;
    size_t i;

    json_array_foreach(im->problems, i, a)
        printf("line %lld: %s\n", (long long)wire_int(a, "line", 0),
               cli_text(a, "error"));
    json_array_foreach(im->accounts, i, a) print_account(a);
    printf("%lld created, %lld changed, %lld unchanged, %lld refused%s\n",
           (long long)im->created, (long long)im->changed,
           (long long)im->unchanged,
           (long long)im->refused + (long long)json_array_size(im->problems),
           is_applied ? "" : "; nothing was written");
}

static void print_document(const struct import *im, bool is_applied)
{
    json_t *document =
        json_pack("{s:b,s:b,s:I,s:I,s:I,s:I,s:O,s:O}", "dry_run", im->is_dry,
                  "applied", is_applied, "created", im->created, "changed",
                  im->changed, "unchanged", im->unchanged, "refused",
                  im->refused + (json_int_t)json_array_size(im->problems),
                  "problems", im->problems, "accounts", im->accounts);

    cli_print_json(document);
    json_decref(document);
}

static int run(struct import *im, const struct list_source *source,
               struct err *err)
{
    bool has_bad, is_applied = false;

    if (list_read(source, im->entries, im->problems, err) == -1)
        return -1;
    find_twins(im, "names");
    find_twins(im, "aliases");
    if (json_array_size(im->problems))
        drop_bad_lines(im);
    if (ask_all(im, true, err) == -1)
        return -1;
    has_bad = im->refused > 0 || json_array_size(im->problems) > 0;
    if (!im->is_dry && (!has_bad || im->is_partial)) {
        if (ask_all(im, false, err) == -1)
            return -1;
        is_applied = true;
    }
    if (im->cli->is_json)
        print_document(im, is_applied);
    else
        print_result(im, is_applied);
    return has_bad ? CLI_BAD : CLI_GOOD;
}

int cli_account_import(struct cli *cli, json_t *request)
{
    struct list_source source = {.path = wire_text(request, "file"),
                                 .encoding = wire_text(request, "encoding"),
                                 .max_bytes = LIST_MAX};
    struct import im = {.cli = cli,
                        .entries = json_array(),
                        .problems = json_array(),
                        .accounts = json_array(),
                        .is_dry = wire_bool(request, "dry_run"),
                        .is_partial = wire_bool(request, "partial")};
    struct err err;
    int rc = run(&im, &source, &err);

    json_decref(im.entries);
    json_decref(im.problems);
    json_decref(im.accounts);
    return rc == -1 ? cli_complain(cli, &err) : rc;
}
