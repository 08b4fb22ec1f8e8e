/*
 * The control socket: one JSON request a frame, one answer each.
 *
 *   {"cmd": "account show", "address": "..."}
 *   {"ok": true, "result": {...}} or {"ok": false, "error": "...",
 *    "kind": "setup"}
 *
 * Commands run in a transaction of their own. `verify` is answered when its
 * worker has ended, `account password` when local knows the password.
 */
#include "daemon/state.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/command.h"
#include "account/command_parts.h"
#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

static void client_free(struct state_client *client)
{
    struct state_client **at = &client->state->clients;

    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    channel_free(&client->channel);
    free(client);
}

/* One of the admin role has no more to ask, and is freed. */
static void client_answer(struct state_client *client, json_t *answer)
{
    if (client->channel) {
        channel_send_take(client->channel, answer, -1);
        return;
    }
    if (client->peer && client->peer->channel)
        channel_send_take(client->peer->channel,
                          json_pack("{s:s,s:I,s:o}", "m", "commanded", "id",
                                    (json_int_t)client->id, "answer", answer),
                          -1);
    else
        json_decref(answer);
    client_free(client);
}

static json_t *answer_result(json_t *result)
{
    return json_pack("{s:b,s:o}", "ok", 1, "result", result);
}

static json_t *answer_error(const struct err *err)
{
    json_t *answer = json_pack("{s:b,s:s,s:s}", "ok", 0, "error", err->text,
                               "kind", err_kind_name(err->kind));

    /* a peer's words in it may be no UTF-8 */
    return answer ? answer
                  : json_pack("{s:b,s:s,s:s}", "ok", 0, "error",
                              log_safe(err->text), "kind",
                              err_kind_name(err->kind));
}

static void on_closed(void *ctx)
{
    client_free(ctx);
}

/* --- verify */

static int verify_begin(struct state_client *client, struct command *c,
                        const json_t *request, struct err *err)
{
    struct state *s = client->state;
    const char *address = command_need_text(request, "address", err);
    struct account account;
    struct domain domain;

    if (!address || command_need_account(c, address, &account, err) == -1)
        return -1;
    if (s->is_full)
        return err_set(err, ERR_RETRY, "no room on the disk of state_dir");
    if (!state_load(s, account.id, &account, &domain))
        return err_set(err, ERR_SETUP, "%s is gone", account.address);
    if (!account.has_seal && !domain.master_user[0])
        return err_set(err, ERR_SETUP, "%s: no password is known for legacy",
                       account.address);
    if (account.route == ROUTE_HELD)
        return err_set(err, ERR_RETRY, "%s is just being flipped",
                       account.address);
    client->verifies = account.id;
    state_jobs_queue(s, &account, &domain, JOB_VERIFY, clock_unix_ms());
    return 0;
}

void state_control_verified(struct state *s, const struct account *account,
                            const struct migration_report *report,
                            const struct err *outcome)
{
    log_info("account %s verified differences=%lld %s", account->address,
             (long long)report->differences, log_safe(outcome->text));
    for (struct state_client *c = s->clients, *next; c; c = next) {
        json_t *result;

        next = c->next;
        if (c->verifies != account->id)
            continue;
        c->verifies = 0;
        if (outcome->kind != ERR_NONE) {
            client_answer(c, answer_error(outcome));
            continue;
        }
        result = json_pack(
            "{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "address", account->address,
            "route", account_route_name(account->route), "differences",
            (json_int_t)report->differences, "folders",
            (json_int_t)report->folders, "messages",
            (json_int_t)report->messages, "bytes", (json_int_t)report->bytes,
            "set_aside", (json_int_t)report->set_aside);
        json_object_set_new(result, "details",
                            report->details ? json_incref(report->details)
                                            : json_array());
        client_answer(c, answer_result(result));
    }
}

/* --- a password set by an operator */

static int password_begin(struct state_client *client, struct command *c,
                          const json_t *request, struct err *err)
{
    struct state *s = client->state;
    const char *address = command_need_text(request, "address", err);
    const char *label = wire_text(request, "label");
    const char *reason = wire_text(request, "reason");
    struct local_password password = {.label = label ? label : "",
                                      .keeps_others =
                                          wire_bool(request, "keep")};
    struct account account;
    struct domain domain;
    struct seal seal;

    if (!address || command_need_account(c, address, &account, err) == -1)
        return -1;
    if (!state_load(s, account.id, &account, &domain))
        return err_set(err, ERR_SETUP, "%s is gone", account.address);
    if (s->is_full)
        return err_set(err, ERR_RETRY, "no room on the disk of state_dir");
    if (account.route != ROUTE_LOCAL)
        return err_set(err, ERR_SETUP,
                       "%s is still served by the old server: its password is "
                       "changed there, and learnt at the next login",
                       account.address);
    if (strlen(password.label) >= sizeof(((struct credential *)0)->label))
        return err_set(err, ERR_SETUP, "--label: too long");
    if (wire_seal(request, &seal, err) == -1)
        return err_prefix(err, "the password");
    password.seal = &seal;
    c->reason = reason && strlen(reason) < 400 ? reason : "";
    if (command_audit(c, account.id, "account password", account.address,
                      err) == -1)
        return -1;
    client->sets_password = account.id;
    client->keeps_others = password.keeps_others;
    client->asked_at = c->now_ms;
    state_credentials_set(s, &account, &domain, &password);
    return 0;
}

/* Local has heard of it, or it has no hash. */
void state_control_hashed(struct state *s, int64_t account_id)
{
    struct account a;

    if (!state_load(s, account_id, &a, NULL))
        return;
    for (struct state_client *c = s->clients, *next; c; c = next) {
        struct err err;

        next = c->next;
        if (c->sets_password != account_id)
            continue;
        c->sets_password = 0;
        if (a.local_password_at >= c->asked_at &&
            a.provisioned_epoch == a.epoch) {
            client_answer(
                c, answer_result(json_pack("{s:s,s:b}", "address", a.address,
                                           "kept", c->keeps_others)));
            continue;
        }
        err_set(&err, ERR_RETRY, "%s",
                a.local_password_at >= c->asked_at
                    ? "the password is stored, but local could not be told yet"
                : a.last_error[0] ? a.last_error
                                  : "no hash could be made of the password");
        client_answer(c, answer_error(&err));
    }
}

/* --- every command */

/* Local first: who is thrown out must not come in again. */
static void tell_of_change(struct state *s, const struct command *c)
{
    struct account account;

    if (!state_load(s, c->changed_account, &account, NULL))
        return;
    state_provision_later(s, account.id);
    state_peers_forget(s, &account);
    if (c->kick_service)
        state_peers_kick(s, &account, c->kick_service, "locked");
}

static void apply_effects(struct state *s, const struct command *c)
{
    for (unsigned i = 0; i < c->stopped_count; i++)
        for (int kind = 0; kind < JOB_KIND_COUNT; kind++)
            if (kind != JOB_HASH)
                state_jobs_stop(s, c->stopped[i], kind);
    if (c->has_freezes)
        state_brake_freezes_changed(s);
    if (c->has_queued)
        state_jobs_wake(s);
    if (c->changed_account)
        tell_of_change(s, c);
}

/* May free the client. */
static void run(struct state_client *client, uid_t uid, const json_t *message)
{
    struct state *s = client->state;
    const char *cmd = wire_text(message, "cmd");
    bool is_verify = cmd && strcmp(cmd, "verify") == 0;
    bool is_password = cmd && strcmp(cmd, "account password") == 0;
    char actor[COMMAND_ACTOR_MAX];
    struct command c = {
        .db = s->db,
        .provision = s->provision,
        .public_key = s->role->has_public_key ? s->role->public_key : NULL,
        .actor = actor,
        .now_ms = clock_unix_ms()};
    json_t *result = NULL;
    struct err err;
    int rc;

    command_actor(uid, actor);
    state_settle(s); /* what others wrote is not undone with this command */
    if (!s->is_full)
        state_write(s);
    if (state_keys_check(s, message, &err) == -1)
        rc = -1;
    else if (is_verify)
        rc = verify_begin(client, &c, message, &err);
    else if (is_password)
        rc = password_begin(client, &c, message, &err);
    else if (cmd && strcmp(cmd, "key show") == 0)
        rc = (result = state_keys_json(s)) ? 0 : -1;
    else if (cmd && strcmp(cmd, "domain close") == 0)
        rc = state_close_begin(s, &c, message, &result, &err);
    else if (cmd && strcmp(cmd, "domain close progress") == 0)
        rc = state_close_progress(s, &c, message, &result, &err);
    else
        rc = command_run(&c, message, &result, &err);
    if (rc == -1 || c.is_undone)
        db_rollback(s->db);
    else
        apply_effects(s, &c);
    state_settle(s);
    if (rc == 0 && strncmp(cmd, "domain ", 7) == 0)
        state_witness_domains(s, wire_text(message, "name"));
    log_debug("%s ran %s: %s", actor, log_safe(cmd ? cmd : "?"),
              rc == -1 ? log_safe(err.text) : "ok");
    if (rc == -1)
        client_answer(client, answer_error(&err));
    else if (!is_verify && !is_password)
        client_answer(client, answer_result(result));
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct state_client *client = ctx;

    if (fd >= 0)
        close(fd);
    run(client, channel_peer_uid(client->channel), message);
}

static bool may_command(const struct state *s, uid_t uid)
{
    const struct passwd *user = s->conf->user ? getpwnam(s->conf->user) : NULL;

    return uid == 0 || uid == geteuid() || (user && uid == user->pw_uid);
}

void state_control_accept_take(struct state *s, int fd)
{
    struct state_client *client = mem_alloc(sizeof(*client));
    uid_t uid;

    client->state = s;
    client->next = s->clients;
    s->clients = client;
    client->channel =
        channel_new_take(s->loop, fd, on_message, on_closed, client);
    uid = channel_peer_uid(client->channel);
    if (!may_command(s, uid)) {
        log_warn("control refused uid=%u", (unsigned)uid);
        on_closed(client);
    }
}

void state_control_command(struct state *s, struct state_peer *peer,
                           const json_t *message)
{
    int64_t uid = wire_int(message, "uid", -1);
    const json_t *request = json_object_get(message, "request");
    struct state_client *client;
    struct err err;

    if (strcmp(peer->role, "admin") != 0)
        return;
    client = mem_alloc(sizeof(*client));
    client->state = s;
    client->peer = peer;
    client->id = wire_int(message, "id", 0);
    client->next = s->clients;
    s->clients = client;
    if (uid >= 0 && uid < UINT32_MAX && may_command(s, (uid_t)uid)) {
        run(client, (uid_t)uid, request);
        return;
    }
    log_warn("control refused uid=%lld over=admin", (long long)uid);
    err_set(&err, ERR_DENIED, "not for uid %lld", (long long)uid);
    client_answer(client, answer_error(&err));
}

void state_control_forget_peer(struct state *s, const struct state_peer *peer)
{
    for (struct state_client *c = s->clients, *next; c; c = next) {
        next = c->next;
        if (c->peer == peer)
            client_free(c);
    }
}
