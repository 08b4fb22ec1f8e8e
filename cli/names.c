/*
 * mailhaul name ...
 */
#include "cli/cli.h"

#include <string.h>

static void print_name(const json_t *name)
{
    printf("%-32s %s%s%s\n", cli_text(name, "name"), cli_text(name, "address"),
           *cli_text(name, "legacy_user") ? "  legacy user " : "",
           cli_text(name, "legacy_user"));
}

int cli_name_add(struct cli *cli, json_t *request)
{
    json_t *words = json_incref(json_object_get(request, "words"));

    json_object_del(request, "words");
    json_object_set(request, "name", json_array_get(words, 0));
    json_object_set(request, "address", json_array_get(words, 1));
    json_decref(words);
    return cli_ask_and_print(cli, request, print_name);
}

static void print_names(const json_t *result)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(result, "names"), i, name)
        print_name(name);
}

int cli_name_list(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_names);
}
