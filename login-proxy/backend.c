#include "login-proxy/backend_dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define BACKEND_INPUT_MAX 16384
/* What a server may say until it has let us in, TLS and all. */
#define BEFORE_LOGIN_MAX (64u << 10)

static const char *const outcome_names[] = {
    [BACKEND_IN] = "in",
    [BACKEND_DENIED] = "denied",
    [BACKEND_TEMPORARY] = "temporary",
    [BACKEND_IN_USE] = "in-use",
    [BACKEND_LOGIN_DELAY] = "login-delay",
};

const char *backend_outcome_name(enum backend_outcome outcome)
{
    return outcome_names[outcome];
}

static void backend_delete(void *ctx)
{
    struct backend *b = ctx;

    imap_resp_release(&b->resp);
    buf_release(&b->untagged);
    free(b->user);
    free(b->as);
    free(b->greeting);
    free(b);
}

static void backend_answer(struct backend *b, struct backend_answer *answer)
{
    backend_fn *fn = b->fn;

    if (fn == NULL)
        return;
    b->fn = NULL;
    answer->conn_take = &b->conn;
    answer->untagged = buf_text(&b->untagged);
    answer->greeting = b->greeting;
    answer->caps = b->caps;
    fn(b->ctx, answer);
    if (b->conn != NULL)
        conn_free(&b->conn);
    loop_defer(b->loop, backend_delete, b);
}

void backend_succeed(struct backend *b)
{
    struct backend_answer answer = {.outcome = BACKEND_IN};

    conn_set_deadline_ms(b->conn, 0);
    backend_answer(b, &answer);
}

void backend_fail(struct backend *b, enum backend_outcome outcome,
                  enum err_kind kind, const char *what)
{
    struct backend_answer answer = {.outcome = outcome};
    struct err err;

    err_set(&err, kind, "%s:%u: %s", b->server.host, b->server.port, what);
    answer.err = &err;
    backend_answer(b, &answer);
}

void backend_send_wiped(struct backend *b, struct buf *line)
{
    conn_write(b->conn, line->bytes, line->used);
    buf_wipe(line);
}

const char *backend_quote(char out[128], struct slice text)
{
    size_t length = text.length < 127 ? text.length : 127;

    memcpy(out, text.bytes, length);
    out[length] = '\0';
    return log_safe(out);
}

static void backend_on_ready(void *ctx)
{
    struct backend *b = ctx;

    conn_set_deadline_ms(b->conn, b->answer_ms);
    b->dialogue->on_ready(b);
}

static void backend_on_input(void *ctx)
{
    struct backend *b = ctx;

    b->dialogue->on_input(b);
    if (b->fn != NULL && conn_is_eof(b->conn))
        backend_fail(b, BACKEND_TEMPORARY, ERR_RETRY,
                     "closed the connection before the login");
    else if (b->fn != NULL && conn_bytes_in(b->conn) > BEFORE_LOGIN_MAX)
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER,
                     "says too much before the login");
}

static void backend_on_end(void *ctx, const struct err *err)
{
    backend_fail(ctx, BACKEND_TEMPORARY, err->kind, err->text);
}

static const struct conn_ops backend_ops = {
    .on_ready = backend_on_ready,
    .on_input = backend_on_input,
    .on_end = backend_on_end,
};

struct backend *backend_start(const struct backend_query *query, backend_fn *fn,
                              void *ctx)
{
    struct backend *b = mem_alloc(sizeof *b);
    struct conn_target target = {
        .host = query->server->host,
        .port = query->server->port,
        .mode = query->server->tls,
        .tls = query->tls,
        .dns = query->dns,
        .wait_ms = (int)query->answer_ms,
    };

    b->dialogue = query->server->protocol == MAIL_POP3 ? &backend_pop3_dialogue
                                                       : &backend_imap_dialogue;
    b->loop = query->loop;
    b->server = *query->server;
    b->user = mem_dup_text(query->user);
    b->as = mem_dup_text(query->as);
    b->password = query->password;
    b->answer_ms = query->answer_ms;
    b->wants_stat = query->wants_stat;
    b->fn = fn;
    b->ctx = ctx;
    imap_resp_init(&b->resp);
    buf_init(&b->untagged, IMAP_RESP_MAX);
    b->conn =
        conn_connect(b->loop, &target, BACKEND_INPUT_MAX, &backend_ops, b);
    return b;
}

void backend_cancel(struct backend **backend)
{
    struct backend *b = *backend;

    *backend = NULL;
    if (b == NULL || b->fn == NULL)
        return;
    b->fn = NULL;
    conn_free(&b->conn);
    loop_defer(b->loop, backend_delete, b);
}
