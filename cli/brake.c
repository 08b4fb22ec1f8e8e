/*
 * mailhaul freeze, thaw, domain admit, domain unadmit.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "base/mem.h"

#define LINE_MAX_SIZE 1024
#define LINES_MAX     100000

int cli_print_freezes(const json_t *holder)
{
    const json_t *f;
    int lines = 0;
    size_t i;

    json_array_foreach(json_object_get(holder, "freezes"), i, f)
    {
        const char *name = cli_text(f, "name");
        const char *reason = cli_text(f, "reason");

        printf("FROZEN %s%s%s since %s by %s%s%s\n",
               strcmp(cli_text(f, "kind"), "all") == 0 ? "everything"
                                                       : cli_text(f, "kind"),
               *name ? " " : "", name, cli_time(wire_int(f, "since", 0)),
               cli_text(f, "by"), *reason ? ": " : "", reason);
        lines++;
    }
    return lines;
}

static void print_freeze(const json_t *result)
{
    if (!wire_bool(result, "is_new"))
        printf("%s was frozen already\n", cli_text(result, "frozen"));
    cli_print_freezes(result);
}

int cli_freeze(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_freeze);
}

static void print_thaw(const json_t *result)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(result, "thawed"), i, name)
        printf("thawed: %s\n", json_string_value(name));
    if (cli_print_freezes(result) > 0)
        puts("these freezes go on");
}

int cli_thaw(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_thaw);
}

/* --- who is taken in */

/* One address a line; empty lines and what follows a # are left out. */
static int read_addresses(const char *path, json_t *list, struct err *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char line[LINE_MAX_SIZE];
    int rc = 0;

    if (!file)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    while (rc == 0 && fgets(line, sizeof(line), file)) {
        char *word = line + strspn(line, " \t");

        if (!strchr(line, '\n') && !feof(file))
            rc = err_set(err, ERR_SETUP, "%s: a line is too long", path);
        word[strcspn(word, " \t\r\n#")] = '\0';
        if (*word)
            json_array_append_new(list, json_string(word));
        if (json_array_size(list) > LINES_MAX)
            rc = err_set(err, ERR_SETUP, "%s: too long; split it", path);
    }
    if (rc == 0 && ferror(file))
        rc = err_set(err, ERR_SETUP, "%s: cannot be read", path);
    if (file != stdin)
        fclose(file);
    return rc;
}

static void print_admitted(const json_t *result)
{
    const json_t *address;
    size_t i;

    json_array_foreach(json_object_get(result, "admitted"), i, address)
        printf("%s\n", json_string_value(address));
    printf("%zu taken in by name, %lld changed\n",
           json_array_size(json_object_get(result, "admitted")),
           (long long)wire_int(result, "changed", 0));
}

/* The first argument is the domain, the others are addresses. */
int cli_domain_admit(struct cli *cli, json_t *request)
{
    json_t *words = json_object_get(request, "words");
    const char *path = wire_text(request, "file");
    json_t *list = json_array();
    struct err err;

    json_object_set(request, "name", json_array_get(words, 0));
    for (size_t i = 1; i < json_array_size(words); i++)
        json_array_append(list, json_array_get(words, i));
    json_object_del(request, "words");
    json_object_set_new(request, "addresses", list);
    if (path && read_addresses(path, list, &err) == -1)
        return cli_complain(cli, &err);
    return cli_ask_and_print(cli, request, print_admitted);
}
