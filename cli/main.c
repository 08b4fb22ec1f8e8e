/*
 * mailhaul: the administrator's command. A table of subcommands.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/version.h"
#include "cli/cli.h"

#define CONF_PATH   "/etc/mailhaul/mailhaul.yaml"
#define OPTIONS_MAX 40

struct cli_option {
    const char *name; /* "hold-seconds"; the field is "hold_seconds" */
    enum { OPTION_TEXT, OPTION_NUMBER, OPTION_FLAG } kind;
    const char *help;
};

struct cli_command {
    const char *name; /* "domain add" */
    const char *arguments;
    const char *summary;
    const struct cli_option *options;
    const char *field;        /* of the arguments; NULL: none are taken */
    int min_count, max_count; /* of the arguments; more than one: an array */
    cli_run_fn *run;
};

static const struct cli_option domain_options[] = {
    {"imap", OPTION_TEXT,
     "URL   old server: imap://host:port, imaps://, "
     "imap+starttls://"},
    {"pop3", OPTION_TEXT, "URL   its POP3, so that UIDLs are kept"},
    {"smtp", OPTION_TEXT, "URL   its MX"},
    {"submission", OPTION_TEXT, "URL   kept, not served yet"},
    {"sieve", OPTION_TEXT, "URL   kept, not served yet"},
    {"serve", OPTION_TEXT, "after-copy"},
    {"cutover", OPTION_TEXT,
     "auto|manual|WINDOWS   when a mailbox flips:\n"
     "      \"Sa-Su 22:00-05:00, We 01:00-04:00 Europe/Berlin\""},
    {"blackout", OPTION_TEXT,
     "DAYS   nothing flips: \"2026-12-24..2026-12-26 2027-01-01\""},
    {"admit", OPTION_TEXT,
     "1%|all|list   who is taken in at a login (all); `domain admit`"},
    {"admit-rate", OPTION_TEXT, "N/min|none   how many a minute (none)"},
    {"username", OPTION_TEXT,
     "TEMPLATE   name on the old server, from "
     "{address} {local} {domain}"},
    {"hold-seconds", OPTION_NUMBER, "N   the longest wait at the flip (20)"},
    {"rollback-days", OPTION_NUMBER,
     "N   so long after its flip a mailbox can be taken back (14)"},
    {"quiet-days", OPTION_NUMBER,
     "N   so long no late mail may have come before `domain close` (7)"},
    {"learn-days", OPTION_NUMBER,
     "N   after its flip an account's unknown passwords are asked of the old "
     "server (30)"},
    {"master-user", OPTION_TEXT,
     "USER   opens every mailbox on the old server, for the copying"},
    {"master-password-file", OPTION_TEXT, "FILE|-   his password; kept sealed"},
    {"master-login", OPTION_TEXT,
     "TEMPLATE   how he logs in for {user}: {user}*{master} (SASL if offered)"},
    {"on-flip", OPTION_TEXT,
     "COMMAND   run with address and old user name "
     "after each flip"},
    {"exclude", OPTION_TEXT,
     "NAMES   folders that are not copied: \"Virtual, Lists/*-old\""},
    {"disabled", OPTION_FLAG, "take nobody in yet (add)"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option close_options[] = {
    {"force", OPTION_FLAG,
     "whatever stands against it; needs a --reason, which the audit keeps"},
    {"keep-key", OPTION_FLAG, "no \"key rotate\" afterwards"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option strangers_options[] = {
    {"limit", OPTION_NUMBER, "N   list so many, most mails first (1000)"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option domain_option[] = {
    {"domain", OPTION_TEXT, "D   only of this domain"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option freeze_options[] = {
    {"domain", OPTION_TEXT, "D   only this domain"},
    {"host", OPTION_TEXT, "H   only domains whose old servers are on H"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option admit_options[] = {
    {"file", OPTION_TEXT, "FILE   one address a line; - is stdin"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option cutover_options[] = {
    {"domain", OPTION_TEXT, "D   every copied account of this domain"},
    {"now", OPTION_FLAG, "also on a day of the blackout"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option rotate_options[] = {
    {"wait", OPTION_FLAG, "until the old key is gone"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option import_options[] = {
    {"dry-run", OPTION_FLAG, "print the differences, change nothing"},
    {"partial", OPTION_FLAG, "apply the good lines though others are bad"},
    {"encoding", OPTION_TEXT, "utf-8|windows-1252   of the file (utf-8)"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option migrate_options[] = {
    {"domain", OPTION_TEXT, "D   every account of this domain"},
    {"csv", OPTION_TEXT, "FILE   lines of address,legacy_user,password"},
    {"encoding", OPTION_TEXT, "utf-8|windows-1252   of the list (utf-8)"},
    {"dry-run", OPTION_FLAG, "say what would be done"},
    {"wait", OPTION_FLAG, "until it is done; exit 1 if something fails"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option status_options[] = {
    {"domain", OPTION_TEXT, "D   only of this domain"},
    {"watch", OPTION_FLAG, "again and again, until interrupted"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option verify_options[] = {
    {"domain", OPTION_TEXT, "D   every account of this domain"},
    {"full", OPTION_FLAG, "compare every byte (always done)"},
    {"sample", OPTION_TEXT, "P%   so many of them, drawn by lot; one at least"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option audit_options[] = {
    {"domain", OPTION_TEXT, "D   of this domain and its accounts"},
    {"since", OPTION_TEXT,
     "TIME   from then on: \"2026-03-01 12:00\", 30m, 2h, 7d"},
    {"limit", OPTION_NUMBER, "N   the newest N (100)"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option rollback_options[] = {
    {"domain", OPTION_TEXT, "D   every account of this domain"},
    {"changes", OPTION_FLAG, "take flags and deletions back, too"},
    {"wait", OPTION_FLAG, "until it is done; exit 1 if it fails"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option check_options[] = {
    {"repair", OPTION_FLAG,
     "take over what the witnesses know better (the daemon is stopped)"},
    {"walk", OPTION_FLAG, "read the witness of every mailbox for that"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option rebuild_options[] = {
    {"from", OPTION_TEXT, "BACKUP   begin with this copy of the control db"},
    {"walk", OPTION_FLAG,
     "read the witness of every mailbox, not only the journal"},
    {"doubtful", OPTION_TEXT,
     "legacy|local   who serves mailboxes whose flip nothing proves"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option trace_options[] = {
    {"at", OPTION_TEXT, "TIME   half an hour before and after it"},
    {"since", OPTION_TEXT, "TIME   from then on (24h, of an address)"},
    {"message-id", OPTION_TEXT, "ID   what became of this mail"},
    {"session", OPTION_TEXT, "ID   all of one session"},
    {"log", OPTION_TEXT, "FILE   in this log, not in what is kept"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option password_options[] = {
    {"file", OPTION_TEXT, "FILE|-   its first line; without: it is asked for"},
    {"keep", OPTION_FLAG, "the other passwords still count"},
    {"label", OPTION_TEXT, "TEXT   what `account show` calls it"},
    {"reason", OPTION_TEXT, "TEXT   for the audit"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option lock_options[] = {
    {"login", OPTION_FLAG, "IMAP and POP3"},
    {"submission", OPTION_FLAG, "sending mail"},
    {"all", OPTION_FLAG, "both"},
    {"reason", OPTION_TEXT, "TEXT   for the audit"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option name_options[] = {
    {"legacy-user", OPTION_TEXT, "USER   what the old server calls him"},
    {NULL, OPTION_FLAG, NULL}};

static const struct cli_option no_options[] = {{NULL, OPTION_FLAG, NULL}};

static const struct cli_command commands[] = {
    {"init", "", "make state directory, key, database", no_options, NULL, 0, 0,
     cli_init},
    {"domain add", "NAME --imap URL [OPTION...]", "serve a domain",
     domain_options, "name", 1, 1, cli_domain_add},
    {"domain list", "", "all domains", no_options, NULL, 0, 0, cli_domain_list},
    {"domain show", "NAME", "one domain", no_options, "name", 1, 1,
     cli_domain_show},
    {"domain set", "NAME OPTION...", "change a domain", domain_options, "name",
     1, 1, cli_domain_set},
    {"domain enable", "NAME", "take accounts in", no_options, "name", 1, 1,
     cli_domain_show},
    {"domain disable", "NAME", "take nobody in, pass through", no_options,
     "name", 1, 1, cli_domain_show},
    {"domain admit", "NAME [ADDRESS...] [--file FILE]",
     "take these in, whatever --admit says; list them", admit_options, "words",
     1, 100000, cli_domain_admit},
    {"domain unadmit", "NAME [ADDRESS...] [--file FILE]",
     "name them no more; who is in stays in", admit_options, "words", 1, 100000,
     cli_domain_admit},
    {"domain close", "NAME [--force --reason TEXT] [--keep-key]",
     "end its trails: legacy takes no more mail for it", close_options, "name",
     1, 1, cli_domain_close},
    {"domain reopen", "NAME", "undo that as far as it can be", no_options,
     "name", 1, 1, cli_domain_reopen},
    {"domain strangers", "NAME [--limit N]",
     "who gets mail on legacy and is no account", strangers_options, "name", 1,
     1, cli_domain_strangers},
    {"domain remove", "NAME", "forget a domain without accounts", no_options,
     "name", 1, 1, cli_remove},
    {"account list", "[--domain D]", "all accounts", domain_option, NULL, 0, 0,
     cli_account_list},
    {"account show", "ADDRESS", "one account", no_options, "address", 1, 1,
     cli_account_show},
    {"account password", "ADDRESS [--file FILE|-] [--keep] [--label TEXT]",
     "set a password on the new side", password_options, "address", 1, 1,
     cli_account_password},
    {"account lock", "ADDRESS --login|--submission|--all",
     "refuse logins, end sessions; mail is still delivered", lock_options,
     "address", 1, 1, cli_account_lock},
    {"account unlock", "ADDRESS [--login] [--submission]", "let in again",
     lock_options, "address", 1, 1, cli_account_lock},
    {"account pause", "ADDRESS", "stop its copying", no_options, "address", 1,
     1, cli_account_show},
    {"account resume", "ADDRESS", "go on, also after a failure", no_options,
     "address", 1, 1, cli_account_show},
    {"account remove", "ADDRESS", "forget an account that legacy serves",
     no_options, "address", 1, 1, cli_remove},
    {"key show", "", "the sealing keys, and how far a rotation is", no_options,
     NULL, 0, 0, cli_key_show},
    {"key rotate", "[--wait]",
     "seal to a new key, wrap what is sealed anew, drop the old key",
     rotate_options, NULL, 0, 0, cli_key_rotate},
    {"account forget-legacy", "ADDRESS",
     "end the trail of one who has moved: that mailbox is not his any more",
     no_options, "address", 1, 1, cli_account_show},
    {"account rename", "ADDRESS NEW [--legacy-user USER]",
     "another address of the same mailbox, while the old server serves it",
     name_options, "words", 2, 2, cli_account_rename},
    {"account import", "FILE [--dry-run] [--partial] [--encoding E]",
     "make accounts what a list says of them", import_options, "file", 1, 1,
     cli_account_import},
    {"account accept", "ADDRESS ITEM...",
     "flip without these messages; \"identity\": he is the same person",
     no_options, "words", 2, 10000, cli_account_accept},
    {"name add", "NAME ADDRESS [--legacy-user USER]",
     "who logs in as NAME is ADDRESS", name_options, "words", 2, 2,
     cli_name_add},
    {"name remove", "NAME", "he is not any more", no_options, "name", 1, 1,
     cli_remove},
    {"name list", "[--domain D]", "the login map", domain_option, NULL, 0, 0,
     cli_name_list},
    {"migrate", "ADDRESS... | --domain D | --csv FILE [--dry-run] [--wait]",
     "start or hurry copying", migrate_options, "addresses", 0, 100000,
     cli_migrate},
    {"status", "[--domain D] [--watch]",
     "totals, rates, time left, what is stuck", status_options, NULL, 0, 0,
     cli_status},
    {"verify", "ADDRESS | --domain D [--sample P%]",
     "compare both sides, exit 1 on a difference", verify_options, "address", 0,
     1, cli_verify},
    {"cutover", "ADDRESS | --domain D [--now]", "flip now", cutover_options,
     "address", 0, 1, cli_cutover},
    {"freeze", "[--domain D | --host H]",
     "nothing new is taken in, copied or flipped; the rest goes on",
     freeze_options, NULL, 0, 0, cli_freeze},
    {"thaw", "[--domain D | --host H]", "end a freeze; without options: all",
     freeze_options, NULL, 0, 0, cli_thaw},
    {"rollback", "ADDRESS | --domain D [--changes] [--wait]",
     "take new mail back to the old server, which serves again",
     rollback_options, "address", 0, 1, cli_rollback},
    {"audit", "[ADDRESS] [--domain D] [--since TIME] [--limit N]",
     "who changed what, when and why", audit_options, "address", 0, 1,
     cli_audit},
    {"trace", "ADDRESS [--at TIME] | --message-id ID | --session ID",
     "what happened to a mail or a login", trace_options, "address", 0, 1,
     cli_trace},
    {"db check", "[--repair [--walk]]",
     "compare control db, auth.db and witnesses, exit 1 on a difference",
     check_options, NULL, 0, 0, cli_db_check},
    {"db backup", "FILE|DIR", "a consistent copy, without the sealing key",
     no_options, "file", 1, 1, cli_db_backup},
    {"db rebuild", "[--from BACKUP] [--walk] [--doubtful legacy|local]",
     "a new control db from the witnesses (the daemon is stopped)",
     rebuild_options, NULL, 0, 0, cli_db_rebuild},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *to)
{
    fputs("usage: mailhaul [-c FILE] [--json] COMMAND\n\n", to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-21s  %s\n", commands[i].name, commands[i].summary);
    fputs("\n  -c FILE   the configuration (" CONF_PATH ")\n"
          "  --json    print one JSON document\n"
          "  --version\n"
          "\n`mailhaul COMMAND --help` tells more. Commands that change "
          "something\ntake --reason TEXT, which the audit keeps.\n",
          to);
}

static void print_help(const struct cli_command *command, FILE *to)
{
    fprintf(to, "usage: mailhaul [-c FILE] [--json] %s %s\n\n%s\n",
            command->name, command->arguments, command->summary);
    if (command->options->name)
        fputc('\n', to);
    for (const struct cli_option *o = command->options; o->name; o++)
        fprintf(to, "  --%s %s\n", o->name, o->help);
}

/* The command that the first words name; *used_out counts them. */
static const struct cli_command *find_command(int argc, char **argv,
                                              int *used_out)
{
    char two[64];

    for (int words = 2; words >= 1; words--) {
        if (argc < words)
            continue;
        snprintf(two, sizeof(two), words == 2 ? "%s %s" : "%s", argv[0],
                 words == 2 ? argv[1] : "");
        for (size_t i = 0; i < COMMAND_COUNT; i++)
            if (strcmp(commands[i].name, two) == 0) {
                *used_out = words;
                return &commands[i];
            }
    }
    return NULL;
}

static int refuse_command(int argc, char **argv)
{
    size_t length = argc > 0 ? strlen(argv[0]) : 0;
    bool is_group = false;

    for (size_t i = 0; i < COMMAND_COUNT && length > 0; i++)
        if (strncmp(commands[i].name, argv[0], length) == 0 &&
            commands[i].name[length] == ' ')
            is_group = true;
    if (argc > 0 && !is_group)
        fprintf(stderr, "mailhaul: unknown command %s\n", argv[0]);
    else if (argc > 1)
        fprintf(stderr, "mailhaul: unknown command %s %s\n", argv[0], argv[1]);
    print_usage(stderr);
    return CLI_USAGE;
}

static bool is_number(const char *value)
{
    char *end;

    errno = 0;
    strtoll(value, &end, 10);
    return end != value && *end == '\0' && errno == 0;
}

static void put_option(json_t *request, const struct cli_option *option,
                       const char *value)
{
    char field[32];

    snprintf(field, sizeof(field), "%s", option->name);
    for (char *p = field; *p; p++)
        if (*p == '-')
            *p = '_';
    if (option->kind == OPTION_FLAG)
        json_object_set_new(request, field, json_true());
    else if (option->kind == OPTION_TEXT)
        json_object_set_new(request, field, json_string(value));
    else
        json_object_set_new(request, field,
                            json_integer(strtoll(value, NULL, 10)));
}

/* CLI_GOOD, CLI_USAGE, or -1 after --help. */
static int take_options(const struct cli_command *command, struct cli *cli,
                        int argc, char **argv, json_t *request)
{
    struct option longs[OPTIONS_MAX + 4] = {0};
    int count = 0, index, option;

    for (; command->options[count].name && count < OPTIONS_MAX; count++) {
        longs[count].name = command->options[count].name;
        longs[count].has_arg = command->options[count].kind == OPTION_FLAG
                                   ? no_argument
                                   : required_argument;
    }
    longs[count] = (struct option){"json", no_argument, NULL, 'j'};
    longs[count + 1] = (struct option){"help", no_argument, NULL, 'h'};
    longs[count + 2] = (struct option){"reason", required_argument, NULL, 'r'};
    optind = 0;
    while ((option = getopt_long(argc, argv, "h", longs, &index)) != -1) {
        if (option == 'j') {
            cli->is_json = true;
        } else if (option == 'r') {
            json_object_set_new(request, "reason", json_string(optarg));
        } else if (option == 'h') {
            print_help(command, stdout);
            return -1;
        } else if (option == 0) {
            if (command->options[index].kind == OPTION_NUMBER &&
                !is_number(optarg)) {
                fprintf(stderr, "mailhaul: --%s: not a number: %s\n",
                        command->options[index].name, optarg);
                return CLI_USAGE;
            }
            put_option(request, &command->options[index], optarg);
        } else {
            print_help(command, stderr);
            return CLI_USAGE;
        }
    }
    return CLI_GOOD;
}

static int take_arguments(const struct cli_command *command, int argc,
                          char **argv, json_t *request)
{
    int count = argc - optind;

    if (count < command->min_count || count > command->max_count) {
        print_help(command, stderr);
        return CLI_USAGE;
    }
    if (command->max_count > 1) {
        json_t *list = json_array();

        while (optind < argc)
            json_array_append_new(list, json_string(argv[optind++]));
        json_object_set_new(request, command->field, list);
    } else if (count == 1) {
        json_object_set_new(request, command->field, json_string(argv[optind]));
    }
    return CLI_GOOD;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int used = 0, rc;
    const struct cli_command *command = find_command(argc, argv, &used);
    json_t *request;
    struct err err;

    if (!command)
        return refuse_command(argc, argv);
    request = json_pack("{s:s}", "cmd", command->name);
    rc = take_options(command, cli, argc - used + 1, argv + used - 1, request);
    if (rc == CLI_GOOD)
        rc = take_arguments(command, argc - used + 1, argv + used - 1, request);
    if (rc == CLI_GOOD && conf_load(cli->conf_path, &cli->conf, &err) == -1) {
        fprintf(stderr, "mailhaul: %s\n", err.text);
        rc = CLI_USAGE;
    }
    if (rc == CLI_GOOD)
        rc = command->run(cli, request);
    json_decref(request);
    cli_close(cli);
    conf_free(&cli->conf);
    return rc == -1 ? CLI_GOOD : rc;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0}};
    struct cli cli = {.conf_path = CONF_PATH, .caller = getuid(), .fd = -1};
    int option;

    /* "+": what stands behind the command is its own */
    while ((option = getopt_long(argc, argv, "+c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': cli.conf_path = optarg; break;
        case 'j': cli.is_json = true; break;
        case 'h': print_usage(stdout); return CLI_GOOD;
        case 'v': puts("mailhaul " MAILHAUL_VERSION); return CLI_GOOD;
        default: print_usage(stderr); return CLI_USAGE;
        }
    }
    return run(&cli, argc - optind, argv + optind);
}
