/*
 * LOGIN -> PROOF (IMAP) -> TEACH -> END; a proven one begins at TEACH.
 */
#include "login-proxy/lesson.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "login-proxy/proof.h"

#define AGAIN_MS 5000 /* state could not be asked */

enum lesson_state { LE_LOGIN, LE_PROOF, LE_TEACH, LE_END, LE_COUNT };

static const char *const state_names[] = {"login", "proof", "teach", "end"};
_Static_assert(sizeof state_names / sizeof state_names[0] == LE_COUNT,
               "a name for each state");

struct lesson {
    struct login *login; /* borrowed */
    struct lesson *next; /* in login->lessons */
    struct lesson **link;
    enum lesson_state state;
    lesson_fn *fn; /* NULL: nobody waits */
    void *ctx;

    char *typed; /* owned, as all texts */
    char *address;
    char *legacy_user;
    char *prefix;
    char *separator;
    uint32_t uidvalidity;
    const char *via; /* a literal */
    struct secret password;
    struct mail_url server;
    struct tracked tracked;

    struct backend *backend;       /* owned in LOGIN */
    struct proof *proof;           /* owned in PROOF */
    struct directory_query *query; /* in TEACH */
    struct timer *again;
    bool is_inquiry;
    bool is_refused;
};

static void lesson_delete(void *ctx)
{
    struct lesson *l = ctx;

    secret_wipe(&l->password);
    free(l->typed);
    free(l->address);
    free(l->legacy_user);
    free(l->prefix);
    free(l->separator);
    free(l);
}

/* Let go of everything; the memory goes later. */
static void lesson_end(struct lesson *l)
{
    struct login *login = l->login;

    if (l->state == LE_END)
        return;
    l->state = LE_END;
    l->fn = NULL;
    if (l->is_inquiry)
        inquiry_end(login->inquiries, l->address, &l->password, l->is_refused,
                    loop_now_ms(login->options.loop));
    backend_cancel(&l->backend);
    proof_cancel(&l->proof);
    if (l->query != NULL)
        directory_cancel(&l->query);
    timer_free(&l->again);
    kick_remove(login->kick, &l->tracked);
    *l->link = l->next;
    if (l->next != NULL)
        l->next->link = l->link;
    login->lesson_count--;
    loop_defer(login->options.loop, lesson_delete, l);
    login_one_less(login);
}

/* The only exit with an answer. */
static void lesson_finish(struct lesson *l, const struct lesson_answer *answer)
{
    lesson_fn *fn = l->fn;

    log_debug("lesson %s ended in=%s outcome=%s", l->address,
              state_names[l->state], backend_outcome_name(answer->outcome));
    l->is_refused = answer->outcome == BACKEND_DENIED;
    if (answer->outcome == BACKEND_IN)
        prints_put(l->login->prints, l->address, &l->password);
    l->fn = NULL;
    if (fn != NULL)
        fn(l->ctx, answer);
    lesson_end(l);
}

static void lesson_fail(struct lesson *l, enum backend_outcome outcome,
                        const struct err *err)
{
    struct lesson_answer answer = {.outcome = outcome, .err = err};

    lesson_finish(l, &answer);
}

static void lesson_on_answer(void *ctx, const struct directory_answer *answer,
                             const struct err *err)
{
    struct lesson *l = ctx;
    struct lesson_answer taught = {.outcome = BACKEND_IN, .answer = answer};

    l->query = NULL;
    if (err == NULL || err->kind == ERR_NONE) {
        lesson_finish(l, &taught);
    } else if (l->fn != NULL && err->kind == ERR_RETRY) {
        timer_start(l->again, AGAIN_MS);
    } else {
        log_warn("lesson %s not taught error=\"%s\"", l->address, err->text);
        lesson_fail(l, BACKEND_TEMPORARY, err);
    }
}

/* -1 if the password cannot be sealed. */
static int lesson_teach(struct lesson *l)
{
    struct directory_learn learnt = {.typed = l->typed,
                                     .legacy_user = l->legacy_user,
                                     .via = l->via,
                                     .prefix = l->prefix,
                                     .separator = l->separator,
                                     .uidvalidity = l->uidvalidity};
    struct seal seal;
    struct err err;

    l->state = LE_TEACH;
    kick_remove(l->login->kick, &l->tracked);
    if (seal_close(l->login->options.seal_public_key, l->address, &l->password,
                   &seal, &err) == -1) {
        log_warn("lesson %s not sealed error=\"%s\"", l->address, err.text);
        return -1;
    }
    learnt.seal = &seal;
    l->query =
        directory_learn(l->login->directory, &learnt, lesson_on_answer, l);
    return 0;
}

static void lesson_on_again(void *ctx)
{
    lesson_teach(ctx);
}

static void teach_or_fail(struct lesson *l)
{
    struct err err;

    if (lesson_teach(l) == 0)
        return;
    err_set(&err, ERR_ITEM, "password cannot be sealed");
    lesson_fail(l, BACKEND_TEMPORARY, &err);
}

static void lesson_on_proof(void *ctx, const struct proof_answer *answer)
{
    struct lesson *l = ctx;

    l->proof = NULL;
    if (answer->outcome != PROOF_GOOD) {
        lesson_fail(l, BACKEND_TEMPORARY, answer->err);
        return;
    }
    l->prefix = mem_dup_text(answer->prefix);
    l->separator = mem_dup_text(answer->separator);
    l->uidvalidity = answer->uidvalidity;
    conn_printf(*answer->conn_take, "Q LOGOUT\r\n");
    conn_finish(answer->conn_take);
    teach_or_fail(l);
}

static void lesson_on_backend(void *ctx, const struct backend_answer *answer)
{
    struct lesson *l = ctx;

    l->backend = NULL;
    if (answer->outcome != BACKEND_IN) {
        lesson_fail(l, answer->outcome, answer->err);
    } else if (l->server.protocol == MAIL_IMAP) {
        l->state = LE_PROOF;
        l->proof =
            proof_start_take(l->login->options.loop, answer->conn_take,
                             l->login->options.backend_ms, lesson_on_proof, l);
    } else {
        conn_printf(*answer->conn_take, "QUIT\r\n");
        conn_finish(answer->conn_take);
        teach_or_fail(l);
    }
}

/* A hold, or a kick: the next good login teaches it. Who waits asks the state
   process again and does not get here while the account is held. */
static void lesson_on_leave(void *ctx)
{
    struct lesson *l = ctx;
    struct err err;

    err_set(&err, ERR_RETRY, "the account is being changed");
    lesson_fail(l, BACKEND_TEMPORARY, &err);
}

static const struct track_ops lesson_track_ops = {.leave = lesson_on_leave};

static struct lesson *lesson_new(struct login *login,
                                 const struct lesson_subject *subject,
                                 lesson_fn *fn, void *ctx)
{
    struct lesson *l = mem_alloc(sizeof *l);

    l->login = login;
    l->fn = fn;
    l->ctx = ctx;
    l->typed = mem_dup_text(subject->typed);
    l->address = mem_dup_text(subject->address);
    l->legacy_user = mem_dup_text(subject->legacy_user);
    l->prefix = mem_dup_text(subject->prefix);
    l->separator = mem_dup_text(subject->separator);
    l->via = subject->via;
    l->is_inquiry = subject->is_inquiry;
    secret_init(&l->password);
    secret_set(&l->password, subject->password->bytes,
               subject->password->length);
    l->again = timer_new(login->options.loop, lesson_on_again, l);
    l->tracked.ops = &lesson_track_ops;
    l->tracked.ctx = l;
    l->next = login->lessons;
    l->link = &login->lessons;
    if (l->next != NULL)
        l->next->link = &l->next;
    login->lessons = l;
    login->lesson_count++;
    return l;
}

struct lesson *lesson_start_proven(struct login *login,
                                   const struct lesson_subject *subject,
                                   lesson_fn *fn, void *ctx)
{
    struct lesson *l = lesson_new(login, subject, fn, ctx);

    if (lesson_teach(l) == 0)
        return l;
    lesson_end(l);
    return NULL;
}

struct lesson *lesson_start(struct login *login,
                            const struct lesson_subject *subject, lesson_fn *fn,
                            void *ctx)
{
    struct lesson *l = lesson_new(login, subject, fn, ctx);
    struct backend_query query = {
        .loop = login->options.loop,
        .dns = login->options.dns,
        .tls = login->options.legacy_tls,
        .server = subject->server,
        .user = l->legacy_user,
        .password = &l->password,
        .answer_ms = login->options.backend_ms,
        .wants_stat = true,
    };

    l->server = *subject->server;
    kick_add(login->kick, &l->tracked, subject->account_id, subject->epoch,
             TRACK_LOGIN);
    l->backend = backend_start(&query, lesson_on_backend, l);
    return l;
}

void lesson_leave(struct lesson **lesson)
{
    if (*lesson != NULL)
        (*lesson)->fn = NULL;
    *lesson = NULL;
}

void lesson_free_all(struct login *login)
{
    while (login->lessons != NULL)
        lesson_end(login->lessons);
}
