/*
 * mailhaul verify: compare both sides, message by message.
 */
#include "cli/cli.h"

#include "account/wire.h"

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

struct domain_verify {
    struct cli *cli;
    json_t *list; /* borrowed */
    int rc;
};

static void verify_page(void *ctx, json_t *page)
{
    struct domain_verify *v = ctx;
    const json_t *a;
    size_t i;

    json_array_foreach(json_object_get(page, "accounts"), i, a)
    {
        if (verify(v->cli, cli_text(a, "address"), v->list) != CLI_GOOD)
            v->rc = CLI_BAD;
    }
}

static int verify_domain(struct cli *cli, const char *domain, json_t *list)
{
    struct domain_verify v = {.cli = cli, .list = list, .rc = CLI_GOOD};
    json_t *request =
        json_pack("{s:s,s:s}", "cmd", "account list", "domain", domain);

    if (cli_each_page(cli, request, verify_page, &v) != CLI_GOOD)
        v.rc = CLI_BAD;
    json_decref(request);
    return v.rc;
}

int cli_verify(struct cli *cli, json_t *request)
{
    const char *address = wire_text(request, "address");
    const char *domain = wire_text(request, "domain");
    json_t *list, *document;
    int rc;

    if (!address == !domain) {
        fputs("mailhaul: verify ADDRESS or --domain D\n", stderr);
        return CLI_USAGE;
    }
    list = json_array();
    rc =
        address ? verify(cli, address, list) : verify_domain(cli, domain, list);
    document = json_pack("{s:o}", "accounts", list);
    if (cli->is_json)
        cli_print_json(document);
    json_decref(document);
    return rc;
}
