/*
 * mailhaul domain ...
 */
#include "cli/cli.h"

#include "account/command.h"
#include "account/wire.h"

static void print_field(const json_t *d, const char *label, const char *field)
{
    const char *text = cli_text(d, field);

    if (*text)
        printf("  %-14s %s\n", label, text);
}

/* Who is taken in, and when mailboxes flip. */
static void print_brake(const json_t *d)
{
    print_field(d, "window", "cutover_window");
    print_field(d, "blackout", "blackout");
    if (wire_int(d, "opens_at", 0))
        printf("  %-14s %s\n", "flips from",
               cli_time(wire_int(d, "opens_at", 0)));
    print_field(d, "admit", "admit");
    if (wire_int(d, "admit_rate", 0))
        printf("  %-14s %lld/min\n", "admit rate",
               (long long)wire_int(d, "admit_rate", 0));
    if (wire_int(d, "admitted", 0))
        printf("  %-14s %lld\n", "admitted",
               (long long)wire_int(d, "admitted", 0));
}

static void print_domain(const json_t *d)
{
    printf("%s%s\n", cli_text(d, "name"),
           wire_bool(d, "enabled") ? "" : " (disabled)");
    cli_print_freezes(d);
    print_field(d, "imap", "imap");
    print_field(d, "pop3", "pop3");
    print_field(d, "smtp", "smtp");
    print_field(d, "submission", "submission");
    print_field(d, "sieve", "sieve");
    print_field(d, "serve", "serve");
    print_field(d, "cutover", "cutover");
    print_brake(d);
    print_field(d, "username", "username");
    print_field(d, "master user", "master_user");
    print_field(d, "on flip", "on_flip");
    print_field(d, "exclude", "exclude");
    printf("  %-14s %lld\n", "hold seconds",
           (long long)wire_int(d, "hold_seconds", 0));
    printf("  %-14s %lld\n", "rollback days",
           (long long)wire_int(d, "rollback_days", 0));
    printf("  %-14s %lld\n", "quiet days",
           (long long)wire_int(d, "quiet_days", 0));
    if (wire_int(d, "closed_at", 0))
        printf("  %-14s %s\n", "closed", cli_time(wire_int(d, "closed_at", 0)));
    if (wire_int(d, "strangers", 0))
        printf("  %-14s %lld addresses\n", "strangers",
               (long long)wire_int(d, "strangers", 0));
    if (json_object_get(d, "accounts"))
        printf("  %-14s %lld, %lld of them local\n", "accounts",
               (long long)wire_int(d, "accounts", 0),
               (long long)wire_int(d, "accounts_local", 0));
}

int cli_domain_show(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_domain);
}

static void print_domains(const json_t *result)
{
    const json_t *d;
    size_t i;

    json_array_foreach(json_object_get(result, "domains"), i, d)
        printf("%-30s %-8s %-7s %s\n", cli_text(d, "name"),
               wire_bool(d, "enabled") ? "enabled" : "disabled",
               cli_text(d, "cutover"), cli_text(d, "imap"));
}

int cli_domain_list(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_domains);
}

/* Sealed for the name as it is stored: no address, so no user's seal. */
static int seal_master(const struct cli *cli, json_t *request, struct err *err)
{
    const char *path = wire_text(request, "master_password_file");
    const char *given = wire_text(request, "name");
    json_t *sealed;
    char name[256];
    size_t i;

    if (!path)
        return 0;
    for (i = 0; given[i] && i < sizeof(name) - 1; i++)
        name[i] = given[i] >= 'A' && given[i] <= 'Z' ? (char)(given[i] | 0x20)
                                                     : given[i];
    name[i] = '\0';
    sealed = json_object();
    json_object_set_new(request, "master", sealed);
    if (cli_seal_secret(cli, path, name, sealed, err) == -1)
        return -1;
    return json_object_del(request, "master_password_file");
}

/* What can be seen to be wrong without a look at the database is a mistake of
   the call. */
static int change(struct cli *cli, json_t *request, bool is_new)
{
    struct err err;

    if (command_check_domain(request, is_new, &err) == -1) {
        fprintf(stderr, "mailhaul: %s\n", err.text);
        return CLI_USAGE;
    }
    if (is_new && *cli_text(request, "master_user") &&
        !wire_text(request, "master_password_file")) {
        fprintf(stderr, "mailhaul: --master-password-file: is missing\n");
        return CLI_USAGE;
    }
    if (seal_master(cli, request, &err) == -1)
        return cli_complain(cli, &err);
    return cli_domain_show(cli, request);
}

int cli_domain_add(struct cli *cli, json_t *request)
{
    return change(cli, request, true);
}

int cli_domain_set(struct cli *cli, json_t *request)
{
    return change(cli, request, false);
}
