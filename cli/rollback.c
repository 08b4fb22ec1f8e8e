/*
 * mailhaul rollback: back to the old server.
 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"

#define POLL_MICROS 300000

static const char *sentence(const char *word)
{
    static const char *const sentences[][2] = {
        {"asked", "goes back to the old server"},
        {"legacy", "is on the old server"},
        {"held", "is just being flipped; ask again"},
        {"expired", "was flipped too long ago"},
        {"closed", "is of a closed domain: reopen that first"},
        {"refused", "stays: the control db is older than the store"},
        {"no_password", "has no password left for the old server"},
        {"done", "is on the old server again"},
        {"failed", "stays on the new server"},
    };

    for (size_t i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
        if (strcmp(word, sentences[i][0]) == 0)
            return sentences[i][1];
    return word;
}

static void print_left_behind(const json_t *a)
{
    const json_t *line;
    size_t i;

    json_array_foreach(json_object_get(a, "left_behind"), i, line)
        printf("    not taken back: %s\n", json_string_value(line));
}

/* Ask until it has come back, or nothing tries that any more. */
static int wait_for(struct cli *cli, json_t *a)
{
    json_t *request = json_pack("{s:s,s:s}", "cmd", "account show", "address",
                                cli_text(a, "address"));
    json_t *now = NULL;
    bool is_back;

    for (;;) {
        now = cli_ask(cli, request);
        if (!now || strcmp(cli_text(now, "rollback"), "no") == 0)
            break;
        json_decref(now);
        usleep(POLL_MICROS);
    }
    json_decref(request);
    if (!now)
        return CLI_BAD;
    is_back = strcmp(cli_text(now, "route"), "legacy") == 0;
    json_object_set_new(a, "rollback",
                        json_string(is_back ? "done" : "failed"));
    json_object_set(a, "route", json_object_get(now, "route"));
    json_object_set(a, "left_behind", json_object_get(now, "left_behind"));
    if (!is_back)
        fprintf(stderr, "mailhaul: %s: %s\n", cli_text(a, "address"),
                cli_text(now, "last_error"));
    json_decref(now);
    return is_back ? CLI_GOOD : CLI_BAD;
}

static int follow(struct cli *cli, json_t *accounts, bool waits)
{
    int rc = CLI_GOOD;
    json_t *a;
    size_t i;

    json_array_foreach(accounts, i, a)
    {
        bool is_asked = strcmp(cli_text(a, "rollback"), "asked") == 0;

        if (!is_asked && strcmp(cli_text(a, "rollback"), "legacy") != 0)
            rc = CLI_BAD;
        if (is_asked && waits && wait_for(cli, a) == CLI_BAD)
            rc = CLI_BAD;
        if (cli->is_json)
            continue;
        printf("%-32s %s\n", cli_text(a, "address"),
               sentence(cli_text(a, "rollback")));
        print_left_behind(a);
    }
    return rc;
}

int cli_rollback(struct cli *cli, json_t *request)
{
    bool waits = wire_bool(request, "wait");
    json_t *result;
    struct err err;
    int rc;

    if (!wire_text(request, "address") == !wire_text(request, "domain")) {
        fputs("mailhaul: rollback ADDRESS or --domain D\n", stderr);
        return CLI_USAGE;
    }
    result = cli_ask_pages(cli, request);
    if (!result)
        return CLI_BAD;
    if (waits && cli->is_direct) {
        err_set(&err, ERR_RETRY,
                "asked for; but mailhauld does not run, so there is nothing "
                "to wait for");
        json_decref(result);
        return cli_complain(cli, &err);
    }
    rc = follow(cli, json_object_get(result, "accounts"), waits);
    if (cli->is_json)
        cli_print_json(result);
    json_decref(result);
    return rc;
}
