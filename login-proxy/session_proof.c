/*
 * Proof and lesson of a login: what makes state learn an account or a password.
 */
#include "login-proxy/session_attempt.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "login-proxy/lesson.h"

#define CHECK_WAIT_MS   200 /* for another question about the same address */
#define CHECK_WAITS_MAX 150

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
             session_spliced_kind(s));
}

static struct lesson_subject subject_of(const struct session *s)
{
    const struct attempt *a = s->attempt;
    struct lesson_subject subject = {
        .typed = s->user,
        .address = attempt_address(a),
        .legacy_user = session_legacy_user(s),
        .via = s->protocol == MAIL_POP3 ? "pop3" : "imap",
        .password = &a->password,
        .account_id = a->answer.account_id,
        .epoch = a->answer.epoch,
        .server = a->answer.legacy_imap.host[0] != '\0'
                      ? &a->answer.legacy_imap
                      : &a->answer.legacy_pop3,
    };

    return subject;
}

void session_teach_beside(struct session *s)
{
    struct lesson_subject subject = subject_of(s);
    bool is_unknown = s->attempt->answer.answer == ROUTE_PROVE;

    s->attempt->is_lesson_due = false;
    s->lesson = lesson_start(s->login, &subject,
                             is_unknown ? session_on_taught_late : NULL, s);
    if (!is_unknown)
        lesson_leave(&s->lesson);
}

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
    else if (s->state == SESSION_CHECK)
        session_check(s);
}

static void kept_on_end(void *ctx, const struct err *err)
{
    session_fail(ctx, LOGIN_TEMPORARY, err->text);
}

static const struct conn_ops kept_ops = {.on_end = kept_on_end};

void session_learn(struct session *s, struct conn **conn,
                   const struct proof_answer *proof)
{
    struct attempt *a = s->attempt;
    struct lesson_subject subject = subject_of(s);

    subject.prefix = proof ? proof->prefix : NULL;
    subject.separator = proof ? proof->separator : NULL;
    subject.uidvalidity = proof ? proof->uidvalidity : 0;
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
        log_warn("session %s user=\"%s\" not taken in: %s", s->id,
                 log_safe(s->user), proof->err->text);
        splice_kept(s, proof->conn_take);
    } else {
        session_learn(s, proof->conn_take, proof);
    }
}

void session_prove(struct session *s, struct conn **conn)
{
    session_enter(s, SESSION_PROVE);
    s->attempt->proof =
        proof_start_take(s->login->options.loop, conn,
                         s->login->options.backend_ms, session_on_proof, s);
}

static void session_on_checked(void *ctx, const struct lesson_answer *lesson)
{
    struct session *s = ctx;
    struct attempt *a = s->attempt;

    s->lesson = NULL;
    if (lesson->outcome == BACKEND_DENIED) {
        session_fail(s, LOGIN_DENIED, "refused by local and legacy");
    } else if (lesson->outcome != BACKEND_IN) {
        session_fail(s, LOGIN_TEMPORARY, lesson->err->text);
    } else if (lesson->answer->answer == ROUTE_REFUSE) {
        session_fail(s, LOGIN_DENIED, "it opens another mailbox on legacy");
    } else {
        a->has_checked = true;
        session_ask(s);
    }
}

void session_check(struct session *s)
{
    struct lesson_subject subject = subject_of(s);
    struct attempt *a = s->attempt;

    if (subject.server->host[0] == '\0') {
        session_fail(s, LOGIN_DENIED, "refused by local");
        return;
    }
    if (s->state != SESSION_CHECK)
        session_enter(s, SESSION_CHECK);
    switch (inquiry_begin(s->login->inquiries, subject.address,
                          subject.password,
                          loop_now_ms(s->login->options.loop))) {
    case INQUIRY_ASK:
        subject.is_inquiry = true;
        s->lesson = lesson_start(s->login, &subject, session_on_checked, s);
        break;
    case INQUIRY_WAIT:
        if (++a->check_waits <= CHECK_WAITS_MAX)
            timer_start(s->wait, CHECK_WAIT_MS);
        else
            session_fail(s, LOGIN_TEMPORARY, "legacy is being asked");
        break;
    case INQUIRY_REFUSED:
        session_fail(s, LOGIN_DENIED, "refused by local, and lately by legacy");
        break;
    case INQUIRY_LATER:
        /* it may be right: nobody hears of a wrong password unasked */
        session_fail(s, LOGIN_TEMPORARY, "legacy is asked too often for it");
        break;
    }
}

bool session_is_lesson_due(const struct session *s)
{
    const struct attempt *a = s->attempt;

    if (a->answer.answer == ROUTE_PROVE)
        return true;
    return a->answer.answer == ROUTE_TO_LEGACY &&
           (a->answer.password_state == PASSWORD_NONE ||
            !prints_has(s->login->prints, attempt_address(a), &a->password));
}
