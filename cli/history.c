/*
 * mailhaul audit: who changed what, when and why; oldest first.
 */
#include "cli/cli.h"

#include "account/wire.h"

static void print_entry(const json_t *e)
{
    const char *was = cli_text(e, "was"), *became = cli_text(e, "became");

    printf("%s  %-14s %-15s %s", cli_time(wire_int(e, "at", 0)),
           cli_text(e, "actor"), cli_text(e, "event"), cli_text(e, "address"));
    if (*cli_text(e, "reason"))
        printf("  (%s)", cli_text(e, "reason"));
    if (*cli_text(e, "detail"))
        printf("  %s", cli_text(e, "detail"));
    putchar('\n');
    if (*was)
        printf("    was     %s\n", was);
    if (*became)
        printf("    became  %s\n", became);
}

static void print_audit(const json_t *result)
{
    const json_t *entries = json_object_get(result, "entries");

    for (size_t i = json_array_size(entries); i-- > 0;)
        print_entry(json_array_get(entries, i));
}

int cli_audit(struct cli *cli, json_t *request)
{
    const char *since = wire_text(request, "since");
    json_int_t from = since ? cli_time_parse(since) : 0;

    if (from == -1) {
        fprintf(stderr, "mailhaul: --since: not a time: %s\n", since);
        return CLI_USAGE;
    }
    if (since)
        json_object_set_new(request, "since", json_integer(from));
    return cli_ask_and_print(cli, request, print_audit);
}
