/*
 * mailhaul domain close: ask legacy whether it still takes mail, have state end
 * the trails, wait for it. Also domain reopen and domain strangers.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/clock.h"
#include "cli/probe.h"

#define POLL_MS  200
#define SHOWN_MS 200 /* between two looks of the bar */

struct closing {
    struct cli *cli;
    const char *name;
    json_t *page; /* owned; addresses */
    size_t at;    /* in it */
    bool has_all; /* that was the last page */
    char nobody[320];
    bool is_nobody_asked;
    int64_t accounts;
    int64_t shown_ms;
};

/* --- how far it is */

static bool shows_progress(const struct cli *cli)
{
    return !cli->is_json && isatty(STDERR_FILENO);
}

static void show(struct closing *c, const char *what, int64_t done,
                 int64_t total)
{
    int64_t now = clock_unix_ms();

    if (!shows_progress(c->cli) || (now - c->shown_ms < SHOWN_MS && done))
        return;
    c->shown_ms = now;
    fprintf(stderr, "\r%s %s %lld of %lld\033[K", what,
            cli_bar(total > 0 ? (double)done / (double)total : 1, 30),
            (long long)done, (long long)total);
}

static void show_nothing(const struct closing *c)
{
    if (shows_progress(c->cli))
        fputs("\r\033[K", stderr);
}

/* --- whom legacy is asked for */

/* One that can be nobody: a server that takes it takes everything. */
static void make_up_nobody(struct closing *c)
{
    snprintf(c->nobody, sizeof(c->nobody), "no-such-user-%08lx%08lx@%s",
             (unsigned long)random(),
             (unsigned long)clock_unix_ms() & 0xffffffff, c->name);
}

static bool load_page(struct closing *c)
{
    size_t count = json_array_size(c->page);
    const char *after =
        count ? json_string_value(json_array_get(c->page, count - 1)) : "";
    json_t *request =
        json_pack("{s:s,s:s,s:s}", "cmd", "domain close addresses", "name",
                  c->name, "after", after);
    json_t *result = cli_ask(c->cli, request);

    json_decref(request);
    json_decref(c->page);
    c->page = json_incref(json_object_get(result, "addresses"));
    json_decref(result);
    c->at = 0;
    return json_array_size(c->page) > 0;
}

static const char *next_address(void *ctx)
{
    struct closing *c = ctx;

    if (!c->is_nobody_asked) {
        c->is_nobody_asked = true;
        return c->nobody;
    }
    if (c->at == json_array_size(c->page) && !c->has_all)
        c->has_all = !load_page(c);
    return c->has_all ? NULL
                      : json_string_value(json_array_get(c->page, c->at++));
}

static void on_progress(void *ctx, int64_t asked)
{
    struct closing *c = ctx;

    show(c, "asking legacy", asked, c->accounts + 1);
}

/* What legacy said, as a document; NULL after a complaint. */
static json_t *probe(struct closing *c, const char *url)
{
    struct probe_options options = {.node = c->cli->conf->node,
                                    .ca_file = c->cli->conf->tls.ca_file,
                                    .next = next_address,
                                    .progress = on_progress,
                                    .ctx = c};
    struct probe_result result;
    struct err err;
    json_t *json;

    if (!*url)
        return json_object(); /* there is nobody to ask */
    make_up_nobody(c);
    if (mail_url_parse(url, &options.server, &err) == -1 ||
        probe_run(&options, &result, &err) == -1) {
        show_nothing(c);
        cli_complain(c->cli, &err);
        return NULL;
    }
    show_nothing(c);
    json = json_pack(
        "{s:I,s:I,s:I,s:I,s:O,s:O}", "asked", (json_int_t)result.asked,
        "refused", (json_int_t)result.refused, "accepted",
        (json_int_t)result.accepted, "unclear", (json_int_t)result.unclear,
        "accepted_first", result.accepted_first, "unclear_first",
        result.unclear_first);
    probe_result_release(&result);
    return json;
}

/* --- what came of it */

static const char *sentence(const char *bar)
{
    static const struct {
        const char *bar, *sentence;
    } all[] = {
        {"on_legacy", "accounts are still served by legacy"},
        {"held", "accounts are just being flipped"},
        {"paused", "accounts are paused"},
        {"set_aside", "accounts have messages set aside that nobody accepted"},
        {"late_mail", "accounts got late mail, or flipped, in the quiet days"},
        {"way_back", "accounts can still be taken back (rollback days)"},
        {"goes_back", "accounts are on their way back to legacy"},
        {"legacy_accepts", "addresses still accepted by legacy"},
        {"legacy_unclear", "addresses of which legacy says nothing final"},
        {"not_probed", "addresses legacy was not asked for"},
        {"pass_failed", "accounts whose last pass of the trail failed"},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i].bar, bar) == 0)
            return all[i].sentence;
    return bar;
}

static void print_refused(const json_t *result)
{
    const json_t *bar, *first;
    size_t i, k;

    printf("%s stays open, nothing has changed:\n", cli_text(result, "name"));
    json_array_foreach(json_object_get(result, "bars"), i, bar)
    {
        json_t *list = json_object_get(bar, "first");

        printf("  %lld %s\n", (long long)wire_int(bar, "count", 0),
               sentence(cli_text(bar, "bar")));
        json_array_foreach(list, k, first)
            printf("      %s\n", json_string_value(first));
        if (wire_int(bar, "count", 0) > (json_int_t)json_array_size(list) &&
            json_array_size(list) > 0)
            printf("      ...\n");
    }
}

static bool is_closed(const json_t *result)
{
    return strcmp(cli_text(result, "state"), "closed") == 0;
}

/* The passwords of its trails are wiped here; once the key that was the newest
   then has gone, no backup opens them either. */
static int retire_key(struct closing *c, json_t *result)
{
    const char *id = cli_text(result, "closed_key");
    bool is_going = false;
    struct err err;
    int rc = *id ? cli_retire_key(c->cli, id, &is_going, &err) : 0;

    if (rc == 0) {
        if (is_going)
            json_object_set_new(result, "key", json_string("rotating"));
        return CLI_GOOD;
    }
    json_object_set_new(result, "key_error", json_string(err.text));
    fprintf(stderr,
            "mailhaul: the sealing key stays, and backups may open what was "
            "wiped; close it again, or \"key rotate\": %s\n",
            err.text);
    return CLI_BAD;
}

static int tell(struct closing *c, json_t *result)
{
    if (c->cli->is_json)
        cli_print_json(result);
    else if (is_closed(result))
        printf("%s is closed: its trails have ended\n", c->name);
    else if (strcmp(cli_text(result, "state"), "refused") == 0)
        print_refused(result);
    else
        printf("%s was not closed; ask again\n", c->name);
    return is_closed(result) ? CLI_GOOD : CLI_BAD;
}

/* Until it is closed or refused. *result (owned) is the last answer; NULL after
   a complaint. */
static void await_end(struct closing *c, json_t **result)
{
    json_t *request =
        json_pack("{s:s,s:s}", "cmd", "domain close progress", "name", c->name);
    const struct timespec wait = {0, POLL_MS * 1000000L};

    while (*result) {
        const char *state = cli_text(*result, "state");

        if (strcmp(state, "passing") == 0)
            show(c, "last pass", wire_int(*result, "done", 0),
                 wire_int(*result, "total", 0));
        else if (strcmp(state, "ending") == 0)
            show(c, "ending", c->accounts - wire_int(*result, "left", 0),
                 c->accounts);
        else
            break;
        nanosleep(&wait, NULL);
        json_decref(*result);
        *result = cli_ask(c->cli, request);
    }
    show_nothing(c);
    json_decref(request);
}

static int close_domain(struct closing *c, json_t *request, const json_t *check)
{
    json_t *probed = json_object();
    json_t *result;
    int rc, key = CLI_GOOD;

    if (!wire_int(check, "closed_at", 0)) {
        json_decref(probed);
        probed = probe(c, cli_text(check, "smtp"));
    }
    if (!probed)
        return CLI_BAD;
    json_object_set(request, "probe", probed);
    result = cli_ask(c->cli, request);
    await_end(c, &result);
    if (result)
        json_object_set(result, "probe", probed);
    json_decref(probed);
    if (result && is_closed(result) && !wire_bool(request, "keep_key"))
        key = retire_key(c, result);
    if (result)
        json_object_del(result, "closed_key");
    rc = result ? tell(c, result) : CLI_BAD;
    if (key != CLI_GOOD)
        rc = key;
    json_decref(result);
    return rc;
}

int cli_domain_close(struct cli *cli, json_t *request)
{
    struct closing c = {.cli = cli, .name = wire_text(request, "name")};
    json_t *question, *check;
    struct err err;
    int rc = CLI_BAD;

    if (wire_bool(request, "force") && !*cli_text(request, "reason")) {
        fputs("mailhaul: domain close --force needs a --reason\n", stderr);
        return CLI_USAGE;
    }
    question =
        json_pack("{s:s,s:s}", "cmd", "domain close check", "name", c.name);
    check = cli_ask(cli, question);
    json_decref(question);
    if (check && cli->is_direct) {
        err_set(&err, ERR_RETRY, "mailhauld does not run");
        cli_complain(cli, &err);
    } else if (check) {
        srandom((unsigned)(clock_unix_ms() ^ getpid()));
        c.accounts = wire_int(check, "accounts", 0);
        rc = close_domain(&c, request, check);
    }
    json_decref(check);
    json_decref(c.page);
    return rc;
}

/* --- open again */

static void print_reopened(const json_t *r)
{
    printf("%s is open: %lld trails go on", cli_text(r, "name"),
           (long long)wire_int(r, "trails", 0));
    if (wire_int(r, "without_password", 0))
        printf(", %lld cannot, their passwords are wiped",
               (long long)wire_int(r, "without_password", 0));
    putchar('\n');
}

int cli_domain_reopen(struct cli *cli, json_t *request)
{
    json_t *result = cli_ask_pages(cli, request);

    if (!result)
        return CLI_BAD;
    if (cli->is_json)
        cli_print_json(result);
    else
        print_reopened(result);
    json_decref(result);
    return CLI_GOOD;
}

/* --- strangers */

static void print_strangers(const json_t *result)
{
    const json_t *s;
    size_t i;

    json_array_foreach(json_object_get(result, "strangers"), i, s)
        printf("%-40s %8lld mails, first %s, last %s\n", cli_text(s, "address"),
               (long long)wire_int(s, "mails", 0),
               cli_time(wire_int(s, "first_at", 0)),
               cli_time(wire_int(s, "last_at", 0)));
    printf("%lld addresses that legacy takes mail for and that are no account",
           (long long)wire_int(result, "addresses", 0));
    if (wire_int(result, "unlisted_mails", 0))
        printf(", and %lld mails to others",
               (long long)wire_int(result, "unlisted_mails", 0));
    putchar('\n');
}

int cli_domain_strangers(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_strangers);
}
