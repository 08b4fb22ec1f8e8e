/*
 * mailhaul verify: compare both sides, message by message; of a domain all
 * accounts, or a sample drawn by lot.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "account/admission.h"
#include "account/wire.h"
#include "base/clock.h"
#include "db/states.h"

#define SHARE_ALL 1000000 /* millionths */

static void print_result(const json_t *r)
{
    json_int_t differences = wire_int(r, "differences", 0);
    const json_t *detail;
    size_t i;

    if (*cli_text(r, "error")) {
        printf("%-32s %s\n", cli_text(r, "address"), cli_text(r, "error"));
        return;
    }
    printf("%-32s %s: %lld folders, %lld messages, %s", cli_text(r, "address"),
           differences ? "DIFFERENT" : "same",
           (long long)wire_int(r, "folders", 0),
           (long long)wire_int(r, "messages", 0),
           cli_bytes(wire_int(r, "bytes", 0)));
    if (differences)
        printf(", %lld differences", (long long)differences);
    putchar('\n');
    json_array_foreach(json_object_get(r, "details"), i, detail)
        printf("  %s\n", json_string_value(detail));
}

/* One account; its result, or what went wrong, goes into list. */
static int verify(struct cli *cli, const char *address, json_t *list)
{
    json_t *request =
        json_pack("{s:s,s:s}", "cmd", "verify", "address", address);
    json_t *result = NULL;
    struct err err;
    int rc = cli_call(cli, request, &result, &err);

    json_decref(request);
    if (rc == -1)
        result = json_pack("{s:s,s:s,s:s}", "address", address, "error",
                           err.text, "kind", err_kind_name(err.kind));
    if (!cli->is_json) {
        print_result(result);
        fflush(stdout);
    }
    json_array_append(list, result);
    if (rc == 0 && wire_int(result, "differences", 0) != 0)
        rc = -1;
    json_decref(result);
    return rc == 0 ? CLI_GOOD : CLI_BAD;
}

/* A domain, or so many of its accounts. */
struct domain_verify {
    struct cli *cli;
    unsigned share;           /* millionths */
    json_t *list;             /* borrowed */
    int64_t accounts, chosen; /* of the domain, of the sample */
    char spare[ADDRESS_MAX];  /* one of those that were not chosen */
    int rc;
};

static void compare(struct domain_verify *v, const char *address)
{
    v->chosen++;
    if (verify(v->cli, address, v->list) != CLI_GOOD)
        v->rc = CLI_BAD;
}

static void verify_page(void *ctx, json_t *page)
{
    struct domain_verify *v = ctx;
    const json_t *a;
    size_t i;

    json_array_foreach(json_object_get(page, "accounts"), i, a)
    {
        v->accounts++;
        if ((unsigned)(random() % SHARE_ALL) < v->share)
            compare(v, cli_text(a, "address"));
        else if (random() % v->accounts == 0)
            snprintf(v->spare, sizeof(v->spare), "%s", cli_text(a, "address"));
    }
}

static int verify_domain(struct domain_verify *v, const char *domain)
{
    json_t *request =
        json_pack("{s:s,s:s}", "cmd", "account list", "domain", domain);

    srandom((unsigned)(clock_unix_ms() ^ getpid()));
    if (cli_each_page(v->cli, request, verify_page, v) != CLI_GOOD)
        v->rc = CLI_BAD;
    else if (v->chosen == 0 && v->spare[0])
        compare(v, v->spare);
    json_decref(request);
    if (v->share < SHARE_ALL && !v->cli->is_json)
        printf("%lld of %lld accounts compared\n", (long long)v->chosen,
               (long long)v->accounts);
    return v->rc;
}

static int take_share(const json_t *request, unsigned *share_out)
{
    const char *text = wire_text(request, "sample");
    struct err err;

    *share_out = SHARE_ALL;
    if (!text)
        return 0;
    if (!wire_text(request, "domain")) {
        fputs("mailhaul: --sample is of a --domain\n", stderr);
        return -1;
    }
    if (admission_parse_share(text, share_out, &err) == 0)
        return 0;
    fprintf(stderr, "mailhaul: --sample: %s\n", err.text);
    return -1;
}

int cli_verify(struct cli *cli, json_t *request)
{
    const char *address = wire_text(request, "address");
    const char *domain = wire_text(request, "domain");
    struct domain_verify v = {.cli = cli, .rc = CLI_GOOD};
    json_t *document;
    int rc;

    if (!address == !domain) {
        fputs("mailhaul: verify ADDRESS or --domain D\n", stderr);
        return CLI_USAGE;
    }
    if (take_share(request, &v.share) == -1)
        return CLI_USAGE;
    v.list = json_array();
    rc = address ? verify(cli, address, v.list) : verify_domain(&v, domain);
    document = json_pack("{s:o}", "accounts", v.list);
    if (domain)
        json_object_set_new(document, "of", json_integer(v.accounts));
    if (cli->is_json)
        cli_print_json(document);
    json_decref(document);
    return rc;
}
