/*
 * How a command gets its answer: from the state process over its control
 * socket; or, while no daemon runs, from the database itself.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/command.h"
#include "account/wire.h"
#include "base/channel.h"
#include "base/clock.h"
#include "db/control.h"

int cli_become_user(const struct conf *conf, struct err *err)
{
    const struct passwd *user;

    if (!conf->user || geteuid() != 0)
        return 0;
    user = getpwnam(conf->user);
    if (!user)
        return err_set(err, ERR_SETUP, "no such user: %s", conf->user);
    if (initgroups(conf->user, user->pw_gid) == -1 ||
        setgid(user->pw_gid) == -1 || setuid(user->pw_uid) == -1)
        return err_set(err, ERR_SETUP, "%s: %s", conf->user, strerror(errno));
    return 0;
}

static int connect_state(struct cli *cli, struct err *err)
{
    char *path = conf_state_path(cli->conf, "control.sock");

    cli->fd = channel_connect_unix(path, err);
    free(path);
    return cli->fd == -1 ? -1 : 0;
}

static bool may_ask(const struct cli *cli)
{
    const struct passwd *user =
        cli->conf->user ? getpwnam(cli->conf->user) : NULL;

    return cli->caller == 0 || (user && cli->caller == user->pw_uid);
}

/* The state process hangs up on who may not ask, before it reads a word. */
static int refuse_caller(const struct cli *cli, struct err *err)
{
    char actor[COMMAND_ACTOR_MAX];

    command_actor(cli->caller, actor);
    return err_set(err, ERR_DENIED,
                   "%s may not ask: only root and the user %s are answered",
                   actor, cli->conf->user ? cli->conf->user : "of mailhauld");
}

static int call_state(struct cli *cli, const json_t *request,
                      json_t **result_out, struct err *err)
{
    json_t *answer;
    const char *text;

    if (channel_send_blocking(cli->fd, request, err) == -1 ||
        channel_receive_blocking(cli->fd, -1, &answer, err) == -1)
        return may_ask(cli) ? err_prefix(err, "the state process")
                            : refuse_caller(cli, err);
    if (wire_bool(answer, "ok")) {
        *result_out = json_incref(json_object_get(answer, "result"));
        json_decref(answer);
        return 0;
    }
    text = wire_text(answer, "kind");
    err_set(err, text ? err_kind_named(text) : ERR_SETUP, "%s",
            cli_text(answer, "error"));
    json_decref(answer);
    return -1;
}

bool cli_read_public_key(const struct conf *conf, uint8_t key[SEAL_KEY_SIZE])
{
    char *path = conf_state_path(conf, "seal.pub");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_whole = fd != -1 && read(fd, key, SEAL_KEY_SIZE) == SEAL_KEY_SIZE;

    if (fd != -1)
        close(fd);
    free(path);
    return is_whole;
}

static void tell_local(struct db *db, struct provision *provision,
                       int64_t account_id)
{
    struct account account;
    struct err err;

    if (account_get(db, account_id, &account, &err) == 1 &&
        provision_settle(provision, db, &account, &err) == -1)
        fprintf(stderr, "mailhaul: local is not told yet: %s\n", err.text);
}

static int run_here(struct cli *cli, const json_t *request, json_t **result_out,
                    struct err *err)
{
    uint8_t key[SEAL_KEY_SIZE];
    char actor[COMMAND_ACTOR_MAX];
    struct provision *provision = NULL;
    struct command c = {
        .db = cli->db, .actor = actor, .now_ms = clock_unix_ms()};
    int rc;

    command_actor(cli->caller, actor);
    if (cli_read_public_key(cli->conf, key))
        c.public_key = key;
    if (provision_open(cli->conf, &provision, err) == -1)
        return -1;
    c.provision = provision;
    rc = db_begin(cli->db, err);
    if (rc == 0) {
        rc = command_run(&c, request, result_out, err);
        if (rc == 0 && !c.is_undone)
            rc = db_commit(cli->db, err);
        else
            db_rollback(cli->db);
    }
    /* a daemon that starts tells local again, should this fail */
    if (rc == 0 && c.changed_account != 0)
        tell_local(cli->db, provision, c.changed_account);
    provision_close(&provision);
    return rc;
}

/* These go through all accounts: seconds for a million of them, and no login
   would be answered meanwhile. They are run here, by a second reader, as
   whoever may read the database. */
static bool goes_through_all(const char *cmd)
{
    static const char *const names[] = {"status", "account list", "name list",
                                        "domain show", "domain close check"};

    for (size_t i = 0; cmd && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(cmd, names[i]) == 0)
            return true;
    return false;
}

static struct db *open_reader(const struct cli *cli)
{
    struct db *db = NULL;
    char path[4096];
    struct err err;

    if (control_path(cli->conf->database, cli->conf->state_dir, path,
                     sizeof(path), &err) == 0 &&
        control_open_reader(path, &db, &err) == 0)
        return db;
    return NULL;
}

/* 1: it cannot be read here. */
static int read_here(struct cli *cli, const json_t *request,
                     json_t **result_out, struct err *err)
{
    char actor[COMMAND_ACTOR_MAX];
    struct command c = {
        .db = open_reader(cli), .actor = actor, .now_ms = clock_unix_ms()};
    int rc;

    if (!c.db)
        return 1;
    command_actor(cli->caller, actor);
    rc = command_run(&c, request, result_out, err);
    db_close(&c.db);
    return rc;
}

static int open_here(struct cli *cli, struct err *err)
{
    if (cli_become_user(cli->conf, err) == -1)
        return -1;
    if (control_open(cli->conf->database, cli->conf->state_dir, false, &cli->db,
                     err) == -1)
        return err_prefix(err, "mailhauld does not run, and");
    cli->is_direct = true;
    return 0;
}

int cli_call(struct cli *cli, const json_t *request, json_t **result_out,
             struct err *err)
{
    const char *cmd = wire_text(request, "cmd");
    int rc = 1;

    if (cli->fd == -1 && !cli->is_direct && connect_state(cli, err) == -1) {
        if (errno == EACCES)
            return -1;
        if (!command_is_known(cmd))
            return err_set(err, ERR_RETRY, "mailhauld does not run");
        if (open_here(cli, err) == -1)
            return -1;
    }
    if (cli->is_direct)
        rc = run_here(cli, request, result_out, err);
    else if (goes_through_all(cmd))
        rc = read_here(cli, request, result_out, err);
    if (rc == 1)
        rc = call_state(cli, request, result_out, err);
    if (rc == -1)
        return -1;
    if (!cli->is_json)
        cli_make_plain(*result_out);
    return 0;
}

json_t *cli_ask(struct cli *cli, const json_t *request)
{
    json_t *result = NULL;
    struct err err;

    if (cli_call(cli, request, &result, &err) == 0)
        return result;
    cli_complain(cli, &err);
    return NULL;
}

int cli_ask_and_print(struct cli *cli, const json_t *request,
                      void (*print)(const json_t *result))
{
    json_t *result = cli_ask(cli, request);

    if (!result)
        return CLI_BAD;
    if (cli->is_json)
        cli_print_json(result);
    else
        print(result);
    json_decref(result);
    return CLI_GOOD;
}

static void print_removed(const json_t *result)
{
    printf("%s is removed\n", cli_text(result, "removed"));
}

int cli_remove(struct cli *cli, json_t *request)
{
    return cli_ask_and_print(cli, request, print_removed);
}

void cli_close(struct cli *cli)
{
    if (cli->fd != -1)
        close(cli->fd);
    cli->fd = -1;
    db_close(&cli->db);
}
