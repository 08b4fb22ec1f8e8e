/*
 * One try to log in: who serves the user, logging in there, and the splice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/tally.h"
#include "login-proxy/lesson.h"
#include "login-proxy/session_attempt.h"
#include "login-proxy/session_line.h"
#include "proto/sasl.h"

#define STARTS_MAX 8 /* of one attempt, when holds and flips come between */

#define FAREWELL     "* BYE Mailbox is moving, please reconnect\r\n"
#define FAREWELL_CUT "* BYE Session ended, please log in again\r\n"

#define MASTER_RESTS_MS 60000 /* after local has refused him */

static void attempt_drop_backend(struct attempt *a)
{
    turn_end(&a->turn, TURN_GIVEN_UP);
    backend_cancel(&a->backend);
    proof_cancel(&a->proof);
    conn_free(&a->conn);
    free(a->untagged);
    free(a->greeting);
    a->untagged = NULL;
    a->greeting = NULL;
}

void attempt_free(struct session *s)
{
    struct attempt *a = s->attempt;

    if (a == NULL)
        return;
    s->attempt = NULL;
    if (a->query != NULL)
        directory_cancel(&a->query);
    attempt_drop_backend(a);
    secret_wipe(&a->password);
    free(a->master_trouble);
    free(a);
}

bool attempt_is_towards_legacy(const struct attempt *a)
{
    return a->answer.answer != ROUTE_TO_LOCAL;
}

static const struct mail_url *server_of(const struct session *s)
{
    const struct login_options *options = &s->login->options;
    const struct directory_answer *answer = &s->attempt->answer;

    if (attempt_is_towards_legacy(s->attempt))
        return s->protocol == MAIL_POP3 ? &answer->legacy_pop3
                                        : &answer->legacy_imap;
    return s->protocol == MAIL_POP3 ? &options->local_pop3
                                    : &options->local_imap;
}

const char *attempt_address(const struct attempt *a)
{
    return a->answer.address[0] != '\0' ? a->answer.address : a->login_name;
}

const char *session_legacy_user(const struct session *s)
{
    const struct attempt *a = s->attempt;

    return a->answer.legacy_user[0] != '\0' ? a->answer.legacy_user : s->user;
}

/* ---- the splice ---- */

static void session_on_relay_end(void *ctx, enum relay_end end)
{
    static const char *const reasons[] = {
        [RELAY_CLIENT_CLOSED] = "client-closed",
        [RELAY_BACKEND_CLOSED] = "server-closed",
        [RELAY_CLIENT_FAILED] = "client-failed",
        [RELAY_BACKEND_FAILED] = "server-failed",
    };
    struct session *s = ctx;

    session_finish(s, s->tracked.is_ending ? "moved" : reasons[end]);
}

static bool session_is_quiet(void *ctx, int64_t quiet_ms)
{
    const struct session *s = ctx;

    return relay_is_quiet(s->relay, quiet_ms);
}

void session_on_told_to_end(void *ctx, int64_t wait_ms)
{
    struct session *s = ctx;

    relay_drain(s->relay, s->may_say_bye ? FAREWELL : NULL, wait_ms);
}

static void session_on_told_to_go(void *ctx, const char *reason)
{
    struct session *s = ctx;

    relay_cut(s->relay, s->may_say_bye ? FAREWELL_CUT : NULL);
    s->kick_reason = mem_dup_text(reason);
    session_finish(s, "kicked");
}

/* A hold: the backend is dropped, the client waits for the new answer. */
static void session_on_told_to_leave(void *ctx)
{
    struct session *s = ctx;

    lesson_leave(&s->lesson);
    session_ask(s);
}

const struct track_ops session_track_ops = {
    .leave = session_on_told_to_leave,
    .is_quiet = session_is_quiet,
    .end = session_on_told_to_end,
    .cut = session_on_told_to_go,
};

enum track_kind session_spliced_kind(const struct session *s)
{
    return s->protocol == MAIL_POP3 ? TRACK_POP3 : TRACK_IMAP;
}

static void count_login(const struct session *s)
{
    const char *protocol = session_protocol_name(s);
    const char *side = session_side_name(s);

    tally_add(1, "logins_total{protocol=\"%s\",side=\"%s\",result=\"ok\"}",
              protocol, side);
    tally_add(1, "sessions_spliced{protocol=\"%s\",side=\"%s\"}", protocol,
              side);
}

/* ---- pairs that local has accepted ---- */

static void session_connect(struct session *s);

static void session_on_turn(void *ctx, enum turn_end end)
{
    struct session *s = ctx;

    s->attempt->goes_alone = end == TURN_REFUSED;
    session_connect(s);
}

static struct verified_pair pair_of(const struct attempt *a)
{
    struct verified_pair pair = {.account_id = a->answer.account_id,
                                 .epoch = a->answer.epoch,
                                 .version = a->answer.version,
                                 .address = attempt_address(a),
                                 .password = &a->password};

    return pair;
}

/* Local's master user could let him in, were the pair verified. */
static bool has_master(const struct session *s)
{
    const struct login *login = s->login;
    const struct attempt *a = s->attempt;

    return !attempt_is_towards_legacy(a) && login->options.verified != NULL &&
           login->options.local_master != NULL && a->master_trouble == NULL &&
           loop_now_ms(login->options.loop) >= login->master_rests_until_ms;
}

static bool may_enter_by_master(const struct session *s)
{
    struct verified_pair pair = pair_of(s->attempt);

    return has_master(s) && verified_has(s->login->options.verified, &pair);
}

/* False: another login with this pair has it verified now; session_connect()
   follows when that is over. */
static bool take_turn(struct session *s)
{
    struct attempt *a = s->attempt;
    struct verified_pair pair = pair_of(a);
    struct verified_print print;

    if (a->goes_alone || a->answer.version == 0 || !has_master(s))
        return true;
    verified_print(s->login->options.verified, &pair, &print);
    a->turn.fn = session_on_turn;
    a->turn.ctx = s;
    return turn_take(&s->login->turns, &a->turn, &print);
}

/* In on local. By his own password where the master user could not: that was
   not the user's fault, and others would be kept waiting by it too. */
static void note_verified(struct session *s)
{
    struct login *login = s->login;
    const struct attempt *a = s->attempt;
    struct verified_pair pair = pair_of(a);
    int64_t now = loop_now_ms(login->options.loop);

    if (login->options.verified == NULL || a->is_by_master)
        return;
    if (a->master_trouble != NULL && now >= login->master_rests_until_ms) {
        login->master_rests_until_ms = now + MASTER_RESTS_MS;
        log_warn("login master=\"%s\" session=%s is not let in by local, users "
                 "log in themselves for %d s: %s",
                 log_safe(login->options.local_master), s->id,
                 MASTER_RESTS_MS / 1000, a->master_trouble);
    }
    verified_put(login->options.verified, &pair);
}

void session_splice(struct session *s, struct conn **conn,
                    const struct backend_answer *backend)
{
    struct attempt *a = s->attempt;

    s->dialogue->accept(s, backend);
    s->is_by_master = a->is_by_master;
    snprintf(s->server_ip, sizeof s->server_ip, "%s", conn_peer_address(*conn));
    session_line_accepted(s);
    s->may_say_bye = s->protocol == MAIL_IMAP && backend->caps.is_known &&
                     !backend->caps.has_compress;
    if (!attempt_is_towards_legacy(a) &&
        a->answer.password_state != PASSWORD_CONFIRMED)
        directory_confirm(s->login->directory, a->answer.account_id);
    if (!attempt_is_towards_legacy(a))
        note_verified(s);
    turn_end(&a->turn, TURN_GOOD);
    if (a->is_lesson_due)
        session_teach_beside(s);
    session_enter(s, SESSION_SPLICED);
    timer_free(&s->deadline);
    timer_free(&s->wait);
    s->dialogue->free(s->dialogue_state);
    s->dialogue_state = NULL;
    conn_resume(s->client);
    s->relay = relay_start_take(s->login->options.loop, &s->client, conn,
                                session_on_relay_end, s);
    count_login(s);
    if (s->tracked.account_id != 0)
        kick_change(s->login->kick, &s->tracked, session_spliced_kind(s));
    attempt_free(s);
}

/* ---- the backend ---- */

/* The master user is not in: the user himself, as if nothing was remembered.
   False where that would change nothing. */
static bool try_himself(struct session *s, const struct backend_answer *answer)
{
    struct attempt *a = s->attempt;

    if (!a->is_by_master || answer->outcome == BACKEND_IN_USE ||
        answer->outcome == BACKEND_LOGIN_DELAY)
        return false;
    a->master_trouble = mem_dup_text(answer->err->text);
    session_connect(s);
    return true;
}

static void session_on_refused(struct session *s,
                               const struct backend_answer *answer)
{
    struct attempt *a = s->attempt;

    if (answer->outcome == BACKEND_DENIED && !attempt_is_towards_legacy(a) &&
        a->answer.may_ask_legacy) {
        if (!a->has_checked)
            session_check(s);
        else
            session_fail(s, LOGIN_TEMPORARY,
                         "refused by local, though legacy accepts it");
        return;
    }
    session_fail(s,
                 answer->outcome == BACKEND_DENIED        ? LOGIN_DENIED
                 : answer->outcome == BACKEND_IN_USE      ? LOGIN_IN_USE
                 : answer->outcome == BACKEND_LOGIN_DELAY ? LOGIN_DELAY
                                                          : LOGIN_TEMPORARY,
                 answer->err->text);
}

static void session_keep(struct session *s, const struct backend_answer *answer)
{
    struct attempt *a = s->attempt;

    a->untagged = mem_dup_text(answer->untagged);
    a->greeting = mem_dup_text(answer->greeting);
    a->caps = answer->caps;
}

static void session_on_backend(void *ctx, const struct backend_answer *answer)
{
    struct session *s = ctx;
    struct attempt *a = s->attempt;

    a->backend = NULL;
    if (answer->outcome != BACKEND_IN && try_himself(s, answer))
        return;
    if (answer->outcome != BACKEND_IN) {
        turn_end(&a->turn, TURN_REFUSED);
        session_on_refused(s, answer);
        return;
    }
    if (!a->is_lesson_due ||
        (s->protocol == MAIL_POP3 && a->answer.legacy_imap.host[0] != '\0')) {
        session_splice(s, answer->conn_take, answer);
        return;
    }
    session_keep(s, answer);
    if (s->protocol == MAIL_POP3) { /* its STAT was the proof */
        a->is_lesson_due = false;
        session_learn(s, answer->conn_take, NULL);
        return;
    }
    session_prove(s, answer->conn_take);
}

static void note_server(struct session *s, const struct mail_url *server)
{
    size_t size = strlen(server->host) + sizeof ":65535";

    s->side = attempt_is_towards_legacy(s->attempt) ? SESSION_SIDE_LEGACY
                                                    : SESSION_SIDE_LOCAL;
    free(s->server);
    s->server = mem_alloc(size);
    snprintf(s->server, size, "%s:%u", server->host, server->port);
    s->server_ip[0] = '\0';
}

static void session_connect(struct session *s)
{
    struct attempt *a = s->attempt;
    const struct mail_url *server = server_of(s);
    bool is_legacy = attempt_is_towards_legacy(a);
    struct backend_query query = {
        .loop = s->login->options.loop,
        .dns = s->login->options.dns,
        .tls = is_legacy ? s->login->options.legacy_tls
                         : s->login->options.local_tls,
        .server = server,
        .user = is_legacy                         ? session_legacy_user(s)
                : a->answer.local_user[0] != '\0' ? a->answer.local_user
                                                  : attempt_address(a),
        .password = &a->password,
        .answer_ms = s->login->options.backend_ms,
    };

    a->is_by_master = may_enter_by_master(s);
    if (a->is_by_master) {
        query.as = query.user;
        query.user = s->login->options.local_master;
        query.password = s->login->options.local_master_password;
    }
    if (server->host[0] == '\0') {
        session_fail(s, LOGIN_TEMPORARY, "no server for this protocol");
        return;
    }
    note_server(s, server);
    a->is_lesson_due = is_legacy && session_is_lesson_due(s);
    query.wants_stat =
        a->is_lesson_due && a->answer.legacy_imap.host[0] == '\0';
    s->tracked.side = is_legacy ? HOLD_LEGACY : HOLD_LOCAL;
    if (is_legacy && a->answer.account_id == 0)
        kick_add_stranger(s->login->kick, &s->tracked, s->address, TRACK_LOGIN);
    else
        kick_add(s->login->kick, &s->tracked, a->answer.account_id,
                 a->answer.epoch, TRACK_LOGIN);
    if (!a->is_by_master && !take_turn(s)) {
        session_enter(s, SESSION_TURN);
        return;
    }
    session_enter(s, SESSION_BACKEND);
    a->backend = backend_start(&query, session_on_backend, s);
}

/* ---- who serves the user ---- */

static void session_on_answer(void *ctx, const struct directory_answer *answer,
                              const struct err *err)
{
    struct session *s = ctx;
    struct attempt *a = s->attempt;

    a->query = NULL;
    a->answer = *answer;
    free(s->address);
    s->address = mem_dup_text(attempt_address(a));
    switch (answer->answer) {
    case ROUTE_TO_LEGACY:
    case ROUTE_TO_LOCAL:
    case ROUTE_PROVE:
    case ROUTE_PASS: session_connect(s); break;
    case ROUTE_REFUSE:
        session_fail(s, LOGIN_DENIED, "not one of our users");
        break;
    case ROUTE_WAIT:
    case ROUTE_UNAVAILABLE:
    case ROUTE_ANSWER_COUNT:
        session_fail(s, LOGIN_TEMPORARY,
                     err != NULL && err->text[0] != '\0'
                         ? err->text
                         : "the account is not to be had now");
        break;
    }
}

void session_ask(struct session *s)
{
    struct attempt *a = s->attempt;

    attempt_drop_backend(a);
    kick_remove(s->login->kick, &s->tracked);
    timer_cancel(s->wait);
    if (++a->starts > STARTS_MAX) {
        session_fail(s, LOGIN_TEMPORARY, "the account is being moved");
        return;
    }
    session_enter(s, SESSION_ASK);
    a->query = directory_ask(s->login->directory, SERVICE_LOGIN, s->user,
                             session_on_answer, s);
}

void session_login_take(struct session *s, struct slice user,
                        struct secret *password, const char *mechanism)
{
    struct attempt *a = mem_alloc(sizeof *a);
    struct err err;

    a->password = *password;
    secret_init(password);
    s->attempt = a;
    free(s->user);
    s->user = mem_alloc(user.length + 1);
    memcpy(s->user, user.bytes, user.length);
    s->mechanism = mechanism;
    s->asked_ms = loop_now_ms(s->login->options.loop);
    conn_pause(s->client);
    if (username_login_name(user.bytes, user.length, a->login_name, &err) == -1)
        session_fail(s, LOGIN_DENIED, err.text);
    else if (a->password.length == 0 ||
             !sasl_is_plain_text(a->password.bytes, a->password.length))
        session_fail(s, LOGIN_DENIED, "no such password is allowed");
    else
        session_ask(s);
}
