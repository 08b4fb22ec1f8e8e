/*
 * mailhaul account ...
 */
#include "cli/cli.h"

#include <string.h>

#include "account/wire.h"

static void print_counts(const json_t *a)
{
    printf("  %-14s %lld folders, %lld of %lld messages, %s of %s\n", "copied",
           (long long)wire_int(a, "folders", 0),
           (long long)wire_int(a, "messages", 0),
           (long long)wire_int(a, "messages_total", 0),
           cli_bytes(wire_int(a, "bytes", 0)),
           cli_bytes(wire_int(a, "bytes_total", 0)));
    if (wire_int(a, "set_aside", 0))
        printf("  %-14s %lld messages, %lld accepted\n", "set aside",
               (long long)wire_int(a, "set_aside", 0),
               (long long)wire_int(a, "accepted", 0));
}

/* What is set aside, by the names that `account accept` takes. */
static void print_items(const json_t *a)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(a, "items"), i, item)
    {
        printf("    %-28s %s", cli_text(item, "item"),
               cli_text(item, "reason"));
        if (wire_int(item, "accepted_at", 0))
            printf(" (accepted %s by %s)",
                   cli_time(wire_int(item, "accepted_at", 0)),
                   cli_text(item, "accepted_by"));
        putchar('\n');
    }
}

static void print_list(const json_t *a, const char *field)
{
    const json_t *list = json_object_get(a, field), *item;
    size_t i;

    if (json_array_size(list) == 0)
        return;
    printf("  %-14s", field);
    json_array_foreach(list, i, item) printf(" %s", json_string_value(item));
    printf("\n");
}

static void print_profile(const json_t *a)
{
    print_list(a, "names");
    print_list(a, "aliases");
    print_list(a, "forward");
    if (wire_int(a, "quota", 0))
        printf("  %-14s %s\n", "quota", cli_bytes(wire_int(a, "quota", 0)));
    if (*cli_text(a, "owner"))
        printf("  %-14s %s\n", "owner", cli_text(a, "owner"));
    if (*cli_text(a, "group"))
        printf("  %-14s %s\n", "group", cli_text(a, "group"));
}

static void print_timeline(const json_t *timeline)
{
    const json_t *e;
    size_t i;

    if (json_array_size(timeline) > 0)
        putchar('\n');
    json_array_foreach(timeline, i, e)
    {
        const char *actor = cli_text(e, "actor");

        printf("  %s  %s", cli_time(wire_int(e, "at", 0)), cli_text(e, "text"));
        if (*cli_text(e, "reason"))
            printf(" (%s)", cli_text(e, "reason"));
        if (*actor && strcmp(actor, "state") != 0)
            printf(", by %s", actor);
        putchar('\n');
    }
}

static void print_locks(const json_t *a)
{
    bool is_login = wire_bool(a, "login_locked");
    bool is_submission = wire_bool(a, "submission_locked");

    if (is_login || is_submission)
        printf("  %-14s %s\n", "locked",
               is_login && is_submission ? "login, submission"
               : is_login                ? "login"
                                         : "submission");
}

static void print_credentials(const json_t *a)
{
    const json_t *c;
    size_t i;

    json_array_foreach(json_object_get(a, "credentials"), i, c) printf(
        "  %-14s %s%s%s%s%s, since %s\n", "credential", cli_text(c, "origin"),
        *cli_text(c, "label") ? " " : "", cli_text(c, "label"),
        wire_bool(c, "hashed") ? "" : ", not with local",
        wire_bool(c, "sealed") ? ", sealed" : "",
        cli_time(wire_int(c, "created_at", 0)));
}

static void print_account(const json_t *a)
{
    const json_t *job;
    size_t i;

    printf("%s\n", cli_text(a, "address"));
    if (*cli_text(a, "sentence"))
        printf("  %s\n\n", cli_text(a, "sentence"));
    printf("  %-14s %s\n", "legacy user", cli_text(a, "legacy_user"));
    printf("  %-14s %s (epoch %lld)\n", "route", cli_text(a, "route"),
           (long long)wire_int(a, "epoch", 0));
    printf("  %-14s %s\n", "copy", cli_text(a, "copy"));
    printf("  %-14s %s\n", "password", cli_text(a, "password_state"));
    print_locks(a);
    if (*cli_text(a, "mailbox_id"))
        printf("  %-14s %s\n", "old mailbox", cli_text(a, "mailbox_id"));
    if (*cli_text(a, "question"))
        printf("  %-14s %s\n", "QUESTION", cli_text(a, "question"));
    print_credentials(a);
    print_counts(a);
    print_profile(a);
    print_items(a);
    if (*cli_text(a, "last_error"))
        printf("  %-14s %s: %s (%s)\n", "last error",
               cli_text(a, "last_error_kind"), cli_text(a, "last_error"),
               cli_time(wire_int(a, "last_error_at", 0)));
    if (wire_bool(a, "frozen"))
        printf("  %-14s its domain is, see `mailhaul domain show`\n", "FROZEN");
    if (wire_int(a, "opens_at", 0) &&
        strcmp(cli_text(a, "route"), "local") != 0)
        printf("  %-14s %s\n", "flips from",
               cli_time(wire_int(a, "opens_at", 0)));
    if (json_object_get(a, "created_at")) {
        printf("  %-14s %s\n", "created",
               cli_time(wire_int(a, "created_at", 0)));
        printf("  %-14s %s\n", "copied at",
               cli_time(wire_int(a, "copied_at", 0)));
        printf("  %-14s %s\n", "flipped at",
               cli_time(wire_int(a, "flipped_at", 0)));
    }
    if (*cli_text(a, "on_flip"))
        printf("  %-14s %s, attempts %lld\n", "on flip", cli_text(a, "on_flip"),
               (long long)wire_int(a, "on_flip_attempts", 0));
    if (wire_int(a, "late_mail_at", 0))
        printf("  %-14s %s\n", "late mail",
               cli_time(wire_int(a, "late_mail_at", 0)));
    if (wire_int(a, "trail_ended_at", 0))
        printf("  %-14s %s\n", "trail ended",
               cli_time(wire_int(a, "trail_ended_at", 0)));
    json_array_foreach(json_object_get(a, "jobs"), i, job) printf(
        "  %-14s %s, %s %s, attempts %lld\n", "job", cli_text(job, "kind"),
        wire_bool(job, "running") ? "running since" : "due",
        cli_time(wire_int(job, "due_at", 0)),
        (long long)wire_int(job, "attempts", 0));
    print_timeline(json_object_get(a, "timeline"));
}

static void print_lock(const json_t *a)
{
    printf("%s\n", cli_text(a, "address"));
    print_locks(a);
    if (!wire_bool(a, "login_locked") && !wire_bool(a, "submission_locked"))
        printf("  not locked\n");
}

int cli_account_lock(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_lock);
}

int cli_account_show(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_account);
}

/* The first word is the address, the others are items. */
int cli_account_accept(struct cli *cli, json_t *request)
{
    json_t *words = json_incref(json_object_get(request, "words"));

    json_object_del(request, "words");
    json_object_set(request, "address", json_array_get(words, 0));
    json_array_remove(words, 0);
    json_object_set_new(request, "items", words);
    return cli_ask_and_print(cli, request, print_account);
}

int cli_account_rename(struct cli *cli, json_t *request)
{
    json_t *words = json_incref(json_object_get(request, "words"));

    json_object_del(request, "words");
    json_object_set(request, "address", json_array_get(words, 0));
    json_object_set(request, "to", json_array_get(words, 1));
    json_decref(words);
    return cli_ask_and_print(cli, request, print_account);
}

static void print_accounts(void *ctx, json_t *page)
{
    const json_t *a;
    size_t i;

    (void)ctx;
    json_array_foreach(json_object_get(page, "accounts"), i, a)
        printf("%-32s %-7s %-8s %8lld messages %10s  %s\n",
               cli_text(a, "address"), cli_text(a, "route"),
               cli_text(a, "copy"), (long long)wire_int(a, "messages", 0),
               cli_bytes(wire_int(a, "bytes", 0)), cli_text(a, "last_error"));
}

int cli_account_list(struct cli *cli, json_t *request)
{
    json_t *all;

    if (!cli->is_json)
        return cli_each_page(cli, request, print_accounts, NULL);
    all = cli_ask_pages(cli, request);
    if (!all)
        return CLI_BAD;
    cli_print_json(all);
    json_decref(all);
    return CLI_GOOD;
}
