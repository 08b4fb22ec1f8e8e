/*
 * Logging in to an IMAP server.
 *
 * GREETING -> (STARTTLS -> TLS) -> CAPABILITY if not told -> one of
 *   LOGIN                            quoted, or non-synchronising literals
 *   USER_LITERAL -> PASSWORD_LITERAL -> LOGIN
 *   AUTHENTICATE -> LOGIN            PLAIN without initial response
 * -> LEARN_CAPS if the OK did not say -> END; any state, error -> END
 */
#include "login-proxy/backend_dialogue.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proto/quote.h"
#include "proto/sasl.h"

enum backend_imap_state {
    BI_GREETING,
    BI_STARTTLS,
    BI_TLS,
    BI_CAPABILITY,
    BI_USER_LITERAL,
    BI_PASSWORD_LITERAL,
    BI_AUTHENTICATE,
    BI_LOGIN,
    BI_LEARN_CAPS,
    BI_END,
    BI_COUNT
};

static const char *const state_names[] = {
    "greeting",         "starttls",     "tls",   "capability", "user-literal",
    "password-literal", "authenticate", "login", "learn-caps", "end"};
_Static_assert(sizeof state_names / sizeof state_names[0] == BI_COUNT,
               "a name for each state");

#define LINE_MAX_BYTES 8192 /* of a command with name and password */

static void send_plain(struct backend *b, const char *before)
{
    struct buf line;

    buf_init(&line, LINE_MAX_BYTES);
    buf_append_text(&line, before);
    sasl_plain_encode(&line, b->as, b->user, b->password);
    buf_append_text(&line, "\r\n");
    backend_send_wiped(b, &line);
}

/* Name and password in quotes, or both as literals that nobody waits for. */
static void send_login(struct backend *b, bool is_quoted)
{
    struct buf line;

    buf_init(&line, LINE_MAX_BYTES);
    buf_append_text(&line, "L LOGIN ");
    if (is_quoted) {
        quote_append(&line, b->user, strlen(b->user));
        buf_append_text(&line, " ");
        quote_append(&line, b->password->bytes, b->password->length);
    } else {
        quote_append_literal(&line, strlen(b->user), false);
        buf_append_text(&line, b->user);
        buf_append_text(&line, " ");
        quote_append_literal(&line, b->password->length, false);
        buf_append(&line, b->password->bytes, b->password->length);
    }
    buf_append_text(&line, "\r\n");
    backend_send_wiped(b, &line);
}

static void send_password_literal(struct backend *b)
{
    struct buf line;

    buf_init(&line, LINE_MAX_BYTES);
    buf_append(&line, b->password->bytes, b->password->length);
    buf_append_text(&line, "\r\n");
    backend_send_wiped(b, &line);
}

/* The only writer of b->state: say our line, set the deadline. */
static void backend_imap_enter(struct backend *b, enum backend_imap_state next)
{
    log_debug("backend %s imap %s -> %s", b->server.host, state_names[b->state],
              state_names[next]);
    b->state = next;
    conn_set_deadline_ms(b->conn, b->answer_ms);
    switch (next) {
    case BI_STARTTLS: conn_printf(b->conn, "S STARTTLS\r\n"); break;
    case BI_TLS: conn_start_tls(b->conn); break;
    case BI_CAPABILITY:
    case BI_LEARN_CAPS: conn_printf(b->conn, "C CAPABILITY\r\n"); break;
    case BI_USER_LITERAL:
        conn_printf(b->conn, "L LOGIN {%zu}\r\n", strlen(b->user));
        break;
    case BI_PASSWORD_LITERAL:
        conn_printf(b->conn, "%s {%zu}\r\n", b->user, b->password->length);
        break;
    case BI_AUTHENTICATE:
        conn_printf(b->conn, "L AUTHENTICATE PLAIN\r\n");
        break;
    case BI_LOGIN:
        /* void with a good login (RFC 3501 6.2.3), unless said anew with it */
        memset(&b->caps, 0, sizeof b->caps);
        break;
    case BI_GREETING:
    case BI_END:
    case BI_COUNT: break;
    }
}

/* LOGIN in quotes is what every server has; what cannot be quoted goes by
   PLAIN, and as literals where there is no PLAIN. */
static void choose_login(struct backend *b)
{
    const struct imap_caps *caps = &b->caps;
    bool is_quotable =
        b->as == NULL && quote_is_possible(b->user, strlen(b->user)) &&
        quote_is_possible(b->password->bytes, b->password->length);

    if (!caps->has_login_disabled && is_quotable) {
        backend_imap_enter(b, BI_LOGIN);
        send_login(b, true);
    } else if (caps->has_plain && caps->has_sasl_ir) {
        backend_imap_enter(b, BI_LOGIN);
        send_plain(b, "L AUTHENTICATE PLAIN ");
    } else if (caps->has_plain) {
        backend_imap_enter(b, BI_AUTHENTICATE);
    } else if (b->as != NULL) {
        backend_fail(b, BACKEND_TEMPORARY, ERR_SETUP, "does not offer PLAIN");
    } else if (caps->has_login_disabled) {
        backend_fail(b, BACKEND_TEMPORARY, ERR_SETUP,
                     "offers no way to log in without TLS");
    } else if (caps->has_literal_plus) {
        backend_imap_enter(b, BI_LOGIN);
        send_login(b, false);
    } else {
        backend_imap_enter(b, BI_USER_LITERAL);
    }
}

static void after_caps(struct backend *b)
{
    if (b->caps.is_known)
        choose_login(b);
    else
        backend_imap_enter(b, BI_CAPABILITY);
}

static void on_greeting(struct backend *b)
{
    char text[128];

    if (b->resp.kind != IMAP_UNTAGGED || b->resp.status != IMAP_OK)
        backend_fail(b, BACKEND_TEMPORARY, ERR_RETRY,
                     backend_quote(text, b->resp.rest));
    else if (b->server.tls == TLS_STARTTLS)
        backend_imap_enter(b, BI_STARTTLS);
    else
        after_caps(b);
}

static void on_refusal(struct backend *b)
{
    bool is_login = b->state != BI_STARTTLS && b->state != BI_CAPABILITY;
    char text[128];
    const char *what = backend_quote(text, b->resp.rest);

    if (is_login && b->resp.status == IMAP_NO &&
        imap_resp_refusal(&b->resp) == IMAP_REFUSAL_FINAL)
        backend_fail(b, BACKEND_DENIED, ERR_DENIED, what);
    else
        backend_fail(b, BACKEND_TEMPORARY, ERR_RETRY, what);
}

static void on_login_good(struct backend *b)
{
    b->greeting = mem_alloc(b->resp.rest.length + 1);
    memcpy(b->greeting, b->resp.rest.bytes, b->resp.rest.length);
    if (b->caps.is_known)
        backend_succeed(b);
    else
        backend_imap_enter(b, BI_LEARN_CAPS);
}

static void on_tagged(struct backend *b)
{
    if (b->resp.status != IMAP_OK && b->state != BI_LEARN_CAPS) {
        on_refusal(b);
        return;
    }
    switch ((enum backend_imap_state)b->state) {
    case BI_STARTTLS:
        memset(&b->caps, 0, sizeof b->caps);
        backend_imap_enter(b, BI_TLS);
        break;
    case BI_CAPABILITY:
        b->caps.is_known = true;
        choose_login(b);
        break;
    case BI_LOGIN: on_login_good(b); break;
    case BI_LEARN_CAPS: backend_succeed(b); break;
    case BI_GREETING:
    case BI_TLS:
    case BI_USER_LITERAL:
    case BI_PASSWORD_LITERAL:
    case BI_AUTHENTICATE:
    case BI_END:
    case BI_COUNT:
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "answer out of turn");
        break;
    }
}

static void on_go_ahead(struct backend *b)
{
    switch ((enum backend_imap_state)b->state) {
    case BI_USER_LITERAL: backend_imap_enter(b, BI_PASSWORD_LITERAL); break;
    case BI_PASSWORD_LITERAL:
        backend_imap_enter(b, BI_LOGIN);
        send_password_literal(b);
        break;
    case BI_AUTHENTICATE:
        backend_imap_enter(b, BI_LOGIN);
        send_plain(b, "");
        break;
    case BI_LOGIN: /* a challenge behind the only response: cancel */
        conn_printf(b->conn, "*\r\n");
        break;
    case BI_GREETING:
    case BI_STARTTLS:
    case BI_TLS:
    case BI_CAPABILITY:
    case BI_LEARN_CAPS:
    case BI_END:
    case BI_COUNT:
        backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "'+' out of turn");
        break;
    }
}

/* What comes untagged with the login is meant for the client. */
static void on_untagged(struct backend *b)
{
    char text[128];

    if (b->resp.status == IMAP_BYE) {
        backend_fail(b, BACKEND_TEMPORARY, ERR_RETRY,
                     backend_quote(text, b->resp.rest));
        return;
    }
    if (b->state < BI_USER_LITERAL || b->resp.skipped > 0)
        return;
    if (b->untagged.max - b->untagged.used < b->resp.text.used + 2)
        return;
    buf_append(&b->untagged, b->resp.text.bytes, b->resp.text.used);
    buf_append_text(&b->untagged, "\r\n");
}

static void backend_imap_on_response(struct backend *b)
{
    struct imap_caps caps;
    bool has_caps = imap_resp_caps(&b->resp, &caps);

    if (has_caps)
        b->caps = caps;
    if (b->state == BI_GREETING)
        on_greeting(b);
    else if (b->resp.kind == IMAP_TAGGED)
        on_tagged(b);
    else if (b->resp.kind == IMAP_GO_AHEAD)
        on_go_ahead(b);
    else
        on_untagged(b);
}

static void backend_imap_on_input(struct backend *b)
{
    while (b->fn != NULL && b->state != BI_TLS) {
        struct buf *input = conn_input(b->conn);
        enum parse_result result;
        size_t used;

        if (input->used == 0)
            return;
        result = imap_resp_feed(&b->resp, input->bytes, input->used, &used);
        buf_consume(input, used);
        if (result == PARSE_BAD)
            backend_fail(b, BACKEND_TEMPORARY, ERR_PEER, "does not speak IMAP");
        else if (result == PARSE_DONE)
            backend_imap_on_response(b);
    }
}

static void backend_imap_on_ready(struct backend *b)
{
    if (b->state == BI_TLS)
        backend_imap_enter(b, BI_CAPABILITY);
}

const struct backend_dialogue backend_imap_dialogue = {
    .on_ready = backend_imap_on_ready,
    .on_input = backend_imap_on_input,
};
