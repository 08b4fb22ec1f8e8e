/*
 * One try to log in: who serves the user, logging in there, proof and lesson
 * where the account is new or its password is, and the splice.
 */
#include <stdlib.h>
#include <string.h>

#include "account/username.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tally.h"
#include "login-proxy/lesson.h"
#include "login-proxy/session.h"
#include "proto/sasl.h"

#define STARTS_MAX 8 /* of one attempt, when holds and flips come between */

#define FAREWELL "* BYE Mailbox is moving, please reconnect\r\n"

struct attempt {
    struct username name;
    struct secret password;
    struct directory_answer answer;
    unsigned starts;
    bool has_checked;              /* legacy was asked after local's refusal */
    bool is_lesson_due;            /* once in: teach this password */
    struct directory_query *query; /* owned in ASK */
    struct backend *backend;       /* owned in BACKEND */
    struct proof *proof;           /* owned in PROVE */
    struct conn *conn;             /* owned in LEARN: logged in, waiting */
    char *untagged;                /* owned: what the backend said */
    char *greeting;
    struct imap_caps caps;
};

static void attempt_drop_backend(struct attempt *a)
{
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
    free(a);
}

static bool is_towards_legacy(const struct attempt *a)
{
    return a->answer.answer != ROUTE_TO_LOCAL;
}

static const struct mail_url *server_of(const struct session *s)
{
    const struct login_options *options = &s->login->options;
    const struct directory_answer *answer = &s->attempt->answer;

    if (is_towards_legacy(s->attempt))
        return s->protocol == MAIL_POP3 ? &answer->legacy_pop3
                                        : &answer->legacy_imap;
    return s->protocol == MAIL_POP3 ? &options->local_pop3
                                    : &options->local_imap;
}

static const char *address_of(const struct attempt *a)
{
    return a->answer.address[0] != '\0' ? a->answer.address : a->name.address;
}

static const char *legacy_user_of(const struct session *s)
{
    const struct attempt *a = s->attempt;

    return a->answer.legacy_user[0] != '\0' ? a->answer.legacy_user : s->user;
}

static void session_ask(struct session *s);

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

static void session_on_told_to_end(void *ctx, int64_t wait_ms)
{
    struct session *s = ctx;

    relay_drain(s->relay, s->may_say_bye ? FAREWELL : NULL, wait_ms);
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
};

static enum track_kind spliced_kind(const struct session *s)
{
    return s->protocol == MAIL_POP3 ? TRACK_POP3 : TRACK_IMAP;
}

/* The lesson of a session that is spliced already: it begins to be tracked. */
static void session_on_taught_late(void *ctx,
                                   const struct lesson_answer *lesson)
{
    struct session *s = ctx;
    const struct directory_answer *answer = lesson->answer;

    s->lesson = NULL;
    if (lesson->outcome != BACKEND_IN || answer->account_id == 0)
        return;
    if (answer->answer == ROUTE_TO_LOCAL ||
        (answer->answer != ROUTE_TO_LEGACY && s->protocol == MAIL_POP3)) {
        /* Moved, or moving, behind our back: what it reads is no longer the
           truth. Without its QUIT nothing is deleted where nobody looks. */
        session_on_told_to_end(s, 1000);
        return;
    }
    s->tracked.side = HOLD_LEGACY;
    kick_add(s->login->kick, &s->tracked, answer->account_id, answer->epoch,
             spliced_kind(s));
}

static struct lesson_subject subject_of(const struct session *s)
{
    const struct attempt *a = s->attempt;
    struct lesson_subject subject = {
        .typed = s->user,
        .address = address_of(a),
        .legacy_user = legacy_user_of(s),
        .via = s->protocol == MAIL_POP3 ? "pop3" : "imap",
        .password = &a->password,
        .account_id =
            a->answer.answer == ROUTE_TO_LEGACY ? a->answer.account_id : 0,
        .epoch = a->answer.epoch,
        .server = a->answer.legacy_imap.host[0] != '\0'
                      ? &a->answer.legacy_imap
                      : &a->answer.legacy_pop3,
    };

    return subject;
}

/* In over POP3, or with a password that is new: taught beside the session. */
static void teach_beside(struct session *s)
{
    struct lesson_subject subject = subject_of(s);
    bool is_unknown = s->attempt->answer.answer == ROUTE_PROVE;

    s->attempt->is_lesson_due = false;
    s->lesson = lesson_start(s->login, &subject,
                             is_unknown ? session_on_taught_late : NULL, s);
    if (!is_unknown)
        lesson_leave(&s->lesson);
}

static void count_login(const struct session *s)
{
    const char *protocol = s->protocol == MAIL_POP3 ? "pop3" : "imap";
    const char *side = s->is_local ? "local" : "legacy";

    tally_add(1, "logins_total{protocol=\"%s\",side=\"%s\",result=\"ok\"}",
              protocol, side);
    tally_add(1, "sessions_spliced{protocol=\"%s\",side=\"%s\"}", protocol,
              side);
}

/* Answer the client and join both sides; conn is taken. */
static void session_splice(struct session *s, struct conn **conn,
                           const struct backend_answer *backend)
{
    struct attempt *a = s->attempt;

    s->dialogue->accept(s, backend);
    s->is_local = !is_towards_legacy(a);
    s->may_say_bye = s->protocol == MAIL_IMAP && backend->caps.is_known &&
                     !backend->caps.has_compress;
    if (s->is_local && a->answer.password_state != PASSWORD_CONFIRMED)
        directory_confirm(s->login->directory, a->answer.account_id);
    if (a->is_lesson_due)
        teach_beside(s);
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
        kick_change(s->login->kick, &s->tracked, spliced_kind(s));
    attempt_free(s);
}

/* ---- proof and lesson on the way ---- */

/* Splice with what was kept while proof and lesson ran. */
static void splice_kept(struct session *s, struct conn **conn)
{
    struct attempt *a = s->attempt;
    struct backend_answer kept = {
        .outcome = BACKEND_IN,
        .untagged = a->untagged,
        .greeting = a->greeting,
        .caps = a->caps,
    };
    struct conn *backend = *conn;

    *conn = NULL;
    session_splice(s, &backend, &kept);
}

static void session_on_taught(void *ctx, const struct lesson_answer *lesson)
{
    struct session *s = ctx;
    struct attempt *a = s->attempt;

    if (s->state != SESSION_LEARN) {
        session_on_taught_late(s, lesson);
        return;
    }
    s->lesson = NULL;
    timer_cancel(s->wait);
    if (lesson->outcome == BACKEND_IN &&
        lesson->answer->answer != ROUTE_TO_LEGACY &&
        lesson->answer->answer != ROUTE_PASS) {
        session_ask(s); /* held or moved meanwhile */
        return;
    }
    if (lesson->outcome == BACKEND_IN)
        kick_add(s->login->kick, &s->tracked, lesson->answer->account_id,
                 lesson->answer->epoch, TRACK_LOGIN);
    splice_kept(s, &a->conn);
}

/* The state process is slow: the login does not wait, the lesson goes on. */
void session_on_wait(void *ctx)
{
    struct session *s = ctx;

    if (s->state == SESSION_LEARN)
        splice_kept(s, &s->attempt->conn);
}

static void kept_on_end(void *ctx, const struct err *err)
{
    session_fail(ctx, LOGIN_TEMPORARY, err->text);
}

static const struct conn_ops kept_ops = {.on_end = kept_on_end};

static void session_learn(struct session *s, struct conn **conn,
                          const struct proof_answer *proof)
{
    struct attempt *a = s->attempt;
    struct lesson_subject subject = subject_of(s);

    subject.prefix = proof ? proof->prefix : NULL;
    subject.separator = proof ? proof->separator : NULL;
    if (a->answer.answer == ROUTE_TO_LEGACY) {
        struct lesson *beside =
            lesson_start_proven(s->login, &subject, NULL, NULL);

        lesson_leave(&beside);
        splice_kept(s, conn);
        return;
    }
    s->lesson = lesson_start_proven(s->login, &subject, session_on_taught, s);
    if (s->lesson == NULL) {
        splice_kept(s, conn);
        return;
    }
    a->conn = *conn;
    *conn = NULL;
    conn_set_user(a->conn, &kept_ops, s);
    session_enter(s, SESSION_LEARN);
    timer_start(s->wait, s->login->options.learn_ms);
}

static void session_on_proof(void *ctx, const struct proof_answer *proof)
{
    struct session *s = ctx;

    s->attempt->proof = NULL;
    s->attempt->is_lesson_due = false;
    if (proof->outcome == PROOF_BROKEN) {
        session_fail(s, LOGIN_TEMPORARY, proof->err->text);
    } else if (proof->outcome == PROOF_REFUSED) {
        /* legacy let the client in: so do we, and record nothing */
        log_warn("session user=\"%s\" not taken in: %s", log_safe(s->user),
                 proof->err->text);
        splice_kept(s, proof->conn_take);
    } else {
        session_learn(s, proof->conn_take, proof);
    }
}

/* ---- the backend ---- */

static void session_on_checked(void *ctx, const struct lesson_answer *lesson)
{
    struct session *s = ctx;
    struct attempt *a = s->attempt;

    s->lesson = NULL;
    if (lesson->outcome == BACKEND_DENIED) {
        session_fail(s, LOGIN_DENIED, "refused by local and legacy");
    } else if (lesson->outcome != BACKEND_IN) {
        session_fail(s, LOGIN_TEMPORARY, lesson->err->text);
    } else {
        a->has_checked = true;
        session_ask(s);
    }
}

/* Local refuses, but does not know yet that any password of this account is
   good: legacy may know one that was set since it was learnt. */
static void session_check(struct session *s)
{
    struct lesson_subject subject = subject_of(s);

    if (subject.server->host[0] == '\0') {
        session_fail(s, LOGIN_DENIED, "refused by local");
        return;
    }
    session_enter(s, SESSION_CHECK);
    s->lesson = lesson_start(s->login, &subject, session_on_checked, s);
}

static void session_on_refused(struct session *s,
                               const struct backend_answer *answer)
{
    struct attempt *a = s->attempt;

    if (answer->outcome == BACKEND_DENIED && !is_towards_legacy(a) &&
        a->answer.password_state != PASSWORD_CONFIRMED) {
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
    if (answer->outcome != BACKEND_IN) {
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
    session_enter(s, SESSION_PROVE);
    a->proof =
        proof_start_take(s->login->options.loop, answer->conn_take,
                         s->login->options.backend_ms, session_on_proof, s);
}

static bool is_lesson_due(const struct session *s)
{
    const struct attempt *a = s->attempt;

    if (a->answer.answer == ROUTE_PROVE)
        return true;
    return a->answer.answer == ROUTE_TO_LEGACY &&
           (a->answer.password_state == PASSWORD_NONE ||
            !prints_has(s->login->prints, address_of(a), &a->password));
}

static void session_connect(struct session *s)
{
    struct attempt *a = s->attempt;
    const struct mail_url *server = server_of(s);
    bool is_legacy = is_towards_legacy(a);
    struct backend_query query = {
        .loop = s->login->options.loop,
        .dns = s->login->options.dns,
        .tls = is_legacy ? s->login->options.legacy_tls
                         : s->login->options.local_tls,
        .server = server,
        .user = is_legacy                         ? legacy_user_of(s)
                : a->answer.local_user[0] != '\0' ? a->answer.local_user
                                                  : address_of(a),
        .password = &a->password,
        .answer_ms = s->login->options.backend_ms,
    };

    if (server->host[0] == '\0') {
        session_fail(s, LOGIN_TEMPORARY, "no server for this protocol");
        return;
    }
    a->is_lesson_due = is_legacy && is_lesson_due(s);
    query.wants_stat =
        a->is_lesson_due && a->answer.legacy_imap.host[0] == '\0';
    s->tracked.side = is_legacy ? HOLD_LEGACY : HOLD_LOCAL;
    if (is_legacy && a->answer.account_id == 0)
        kick_add_stranger(s->login->kick, &s->tracked, s->address, TRACK_LOGIN);
    else
        kick_add(s->login->kick, &s->tracked, a->answer.account_id,
                 a->answer.epoch, TRACK_LOGIN);
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
    s->address = mem_dup_text(address_of(a));
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

/* From the beginning, with nothing left towards any server. */
static void session_ask(struct session *s)
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

void session_login_take(struct session *s, const char *user, size_t length,
                        struct secret *password)
{
    struct attempt *a = mem_alloc(sizeof *a);
    struct err err;

    a->password = *password;
    secret_init(password);
    s->attempt = a;
    free(s->user);
    s->user = mem_alloc(length + 1);
    memcpy(s->user, user, length);
    conn_pause(s->client);
    if (username_parse(user, length, &a->name, &err) == -1)
        session_fail(s, LOGIN_DENIED, err.text);
    else if (a->password.length == 0 ||
             !sasl_is_plain_text(a->password.bytes, a->password.length))
        session_fail(s, LOGIN_DENIED, "no such password is allowed");
    else
        session_ask(s);
}
