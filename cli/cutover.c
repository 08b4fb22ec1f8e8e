/*
 * mailhaul cutover: flip now.
 */
#include "cli/cli.h"

#include <string.h>

#include "account/wire.h"

int cli_cutover(struct cli *cli, json_t *request)
{
    int rc = CLI_GOOD;
    const json_t *a;
    json_t *result;
    size_t i;

    if (!wire_text(request, "address") == !wire_text(request, "domain")) {
        fputs("mailhaul: cutover ADDRESS or --domain D\n", stderr);
        return CLI_USAGE;
    }
    result = cli_ask_pages(cli, request);
    if (!result)
        return CLI_BAD;
    if (cli->is_json)
        cli_print_json(result);
    json_array_foreach(json_object_get(result, "accounts"), i, a)
    {
        const char *word = cli_text(a, "cutover");
        bool is_good = strcmp(word, "asked") == 0 || strcmp(word, "local") == 0;

        if (!is_good)
            rc = CLI_BAD;
        if (!cli->is_json)
            printf("%-32s %s\n", cli_text(a, "address"),
                   strcmp(word, "asked") == 0   ? "flips as soon as it is clean"
                   : strcmp(word, "local") == 0 ? "is local already"
                   : strcmp(word, "set_aside") == 0
                       ? "has messages set aside: see account show, accept"
                   : strcmp(word, "no_hash") == 0
                       ? "cannot flip: its password cannot be hashed"
                   : strcmp(word, "refused") == 0
                       ? "stays: the control db is older than the store"
                       : word);
    }
    json_decref(result);
    return rc;
}
