/*
 * Logging in to a POP3 server.
 *
 * GREETING -> (STLS -> TLS) -> USER -> PASS (-> STAT) -> END
 * USER unknown or refused -> AUTH -> RESPONSE (-> STAT) -> END
 * to act as somebody else: GREETING -> (STLS -> TLS) -> AUTH -> ...
 */
#include "login-proxy/backend_dialogue.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proto/pop3.h"
#include "proto/sasl.h"

enum backend_pop3_state {
    BP_GREETING,
    BP_STLS,
    BP_TLS,
    BP_USER,
    BP_PASS,
    BP_AUTH,
    BP_RESPONSE,
    BP_STAT,
    BP_END,
    BP_COUNT
};

static const char *const state_names[] = {"greeting", "stls", "tls",
                                          "user",     "pass", "auth",
                                          "response", "stat", "end"};
_Static_assert(sizeof state_names / sizeof state_names[0] == BP_COUNT,
               "a name for each state");

#define LINE_MAX_BYTES 8192
#define INITIAL_MAX    255

static void send_secret(struct backend *b, bool is_response)
{
    struct buf line;

    buf_init(&line, LINE_MAX_BYTES);
    if (is_response) {
        sasl_plain_encode(&line, b->as, b->user, b->password);
    } else {
        buf_append_text(&line, "PASS ");
        buf_append(&line, b->password->bytes, b->password->length);
    }
    buf_append_text(&line, "\r\n");
    backend_send_wiped(b, &line);
}

/* The response goes with it where a line may be so long (RFC 5034 4). */
static void send_auth(struct backend *b)
{
    struct buf line;

    buf_init(&line, INITIAL_MAX);
    buf_append_text(&line, "AUTH PLAIN ");
    if (b->as == NULL ||
        sasl_plain_encode(&line, b->as, b->user, b->password) == -1 ||
        buf_append_text(&line, "\r\n") == -1) {
        buf_wipe(&line);
        conn_printf(b->conn, "AUTH PLAIN\r\n");
        return;
    }
    b->state = BP_RESPONSE;
    backend_send_wiped(b, &line);
}

/* The only writer of b->state: say our line, set the deadline. */
static void backend_pop3_enter(struct backend *b, enum backend_pop3_state next)
{
    log_debug("backend %s pop3 %s -> %s", b->server.host, state_names[b->state],
              state_names[next]);
    b->state = next;
    conn_set_deadline_ms(b->conn, b->answer_ms);
    switch (next) {
    case BP_STLS: conn_printf(b->conn, "STLS\r\n"); break;
    case BP_TLS: conn_start_tls(b->conn); break;
    case BP_USER: conn_printf(b->conn, "USER %s\r\n", b->user); break;
    case BP_PASS: send_secret(b, false); break;
    case BP_AUTH: send_auth(b); break;
    case BP_RESPONSE: send_secret(b, true); break;
    case BP_STAT: conn_printf(b->conn, "STAT\r\n"); break;
    case BP_GREETING:
    case BP_END:
    case BP_COUNT: break;
    }
}

static void on_refusal(struct backend *b, const struct pop3_reply *reply)
{
    char text[128];
    const char *what = backend_quote(text, reply->text);
    bool is_login = b->state == BP_PASS || b->state == BP_RESPONSE ||
                    b->state == BP_AUTH || b->state == BP_USER;

    if (b->state == BP_USER && pop3_reply_is_refusal(reply)) {
        backend_pop3_enter(b, BP_AUTH);
    } else if (is_login && pop3_reply_is_refusal(reply)) {
        backend_fail(b, BACKEND_DENIED, ERR_DENIED, what);
    } else {
        backend_fail(b,
                     reply->code == POP3_CODE_IN_USE ? BACKEND_IN_USE
                     : reply->code == POP3_CODE_LOGIN_DELAY
                         ? BACKEND_LOGIN_DELAY
                         : BACKEND_TEMPORARY,
                     ERR_RETRY, what);
    }
}

static void on_login_good(struct backend *b, const struct pop3_reply *reply)
{
    size_t size = reply->text.length + sizeof "+OK ";

    b->greeting = mem_alloc(size);
    snprintf(b->greeting, size, "+OK %.*s", (int)reply->text.length,
             reply->text.bytes);
    if (b->wants_stat)
        backend_pop3_enter(b, BP_STAT);
    else
        backend_succeed(b);
}

static enum backend_pop3_state first_step(const struct backend *b)
{
    return b->as != NULL ? BP_AUTH : BP_USER;
}

static void on_good(struct backend *b, const struct pop3_reply *reply)
{
    switch ((enum backend_pop3_state)b->state) {
    case BP_GREETING:
        backend_pop3_enter(b, b->server.tls == TLS_STARTTLS ? BP_STLS
                                                            : first_step(b));
        break;
    case BP_STLS: backend_pop3_enter(b, BP_TLS); break;
    case BP_USER: backend_pop3_enter(b, BP_PASS); break;
    case BP_PASS:
    case BP_RESPONSE: on_login_good(b, reply); break;
    case BP_STAT: backend_succeed(b); break;
    case BP_AUTH:
    case BP_TLS:
    case BP_END:
    case BP_COUNT:
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "+OK out of turn");
        break;
    }
}

static void backend_pop3_on_line(struct backend *b, struct slice line)
{
    struct pop3_reply reply;

    if (pop3_reply_parse(line, &reply) == PARSE_BAD)
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "does not speak POP3");
    else if (reply.status == POP3_ERR)
        on_refusal(b, &reply);
    else if (reply.status == POP3_OK)
        on_good(b, &reply);
    else if (b->state == BP_AUTH)
        backend_pop3_enter(b, BP_RESPONSE);
    else
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "'+' out of turn");
}

static void backend_pop3_on_input(struct backend *b)
{
    while (b->fn != NULL && b->state != BP_TLS) {
        struct buf *input = conn_input(b->conn);
        char copy[POP3_LINE_MAX];
        struct slice line;
        size_t used;

        switch (
            pop3_line(input->bytes, input->used, sizeof copy, &line, &used)) {
        case PARSE_MORE: return;
        case PARSE_BAD:
            backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "line too long");
            return;
        case PARSE_DONE: break;
        }
        memcpy(copy, line.bytes, line.length);
        line.bytes = copy;
        buf_consume(input, used);
        backend_pop3_on_line(b, line);
    }
}

static void backend_pop3_on_ready(struct backend *b)
{
    if (b->state == BP_TLS)
        backend_pop3_enter(b, first_step(b));
}

const struct backend_dialogue backend_pop3_dialogue = {
    .on_ready = backend_pop3_on_ready,
    .on_input = backend_pop3_on_input,
};
