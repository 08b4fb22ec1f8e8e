#include "smtp-proxy/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conn.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/smtp.h"
#include "smtp-proxy/trace.h"

#define INPUT_MAX 8192

/* RFC 5321 4.5.3.2; connecting is our own. */
#define CONNECT_MS 30000
#define COMMAND_MS 300000
#define DATA_MS    120000
#define BLOCK_MS   180000
#define DOT_MS     600000

/* CONNECT -> BANNER -> HELLO (-> HELO) (-> STARTTLS -> SHAKE -> HELLO) -> READY
   READY -> MAIL -> RCPT -> OPEN; OPEN -> RCPT; OPEN -> DATA -> TEXT -> DOT
   DOT -> READY; OPEN, refused -> RSET -> MAIL; anything -> END */
enum backend_state {
    BS_CONNECT,
    BS_BANNER,
    BS_HELLO,
    BS_HELO,
    BS_STARTTLS,
    BS_SHAKE,
    BS_READY,
    BS_RSET,
    BS_MAIL,
    BS_RCPT,
    BS_OPEN, /* MAIL was accepted, nothing is asked */
    BS_DATA,
    BS_TEXT,
    BS_DOT,
    BS_END,
    BS_COUNT
};

static const char *const state_name[] = {
    "connect", "banner", "hello", "helo", "starttls", "shake", "ready", "rset",
    "mail",    "rcpt",   "open",  "data", "text",     "dot",   "end"};
_Static_assert(sizeof(state_name) / sizeof(state_name[0]) == BS_COUNT,
               "a name for each state");

struct backend {
    struct backend_options options;
    struct mail_url url;
    enum backend_state state;
    struct conn *conn; /* owned */
    struct smtp_reply reply;
    bool has_size; /* what the hop offers */
    bool has_8bitmime;
    bool is_asked; /* recipient is waiting for its turn */
    bool is_deadline_set;
    unsigned accepted_count;
    unsigned verdict_count;
    char sender[SMTP_PATH_MAX];
    struct backend_envelope envelope;
    char recipient[SMTP_PATH_MAX];
};

static void backend_lose(struct backend *b, enum err_kind kind,
                         const char *what);

static bool is_lmtp(const struct backend *b)
{
    return b->url.protocol == MAIL_LMTP;
}

static void say_mail(struct backend *b)
{
    const struct backend_envelope *e = &b->envelope;
    char size[40] = "";

    if (e->has_size && b->has_size)
        snprintf(size, sizeof(size), " SIZE=%llu",
                 (unsigned long long)e->size_bytes);
    conn_printf(b->conn, "MAIL FROM:<%s>%s%s\r\n", e->sender, size,
                e->is_8bit && b->has_8bitmime ? " BODY=8BITMIME" : "");
}

static int64_t deadline_ms(enum backend_state state)
{
    switch (state) {
    case BS_CONNECT: /* the conn has its own */
    case BS_READY:
    case BS_OPEN:
    case BS_TEXT: /* set while bytes wait */
    case BS_END:
    case BS_COUNT: return 0;
    case BS_SHAKE: return CONNECT_MS;
    case BS_DATA: return DATA_MS;
    case BS_DOT: return DOT_MS;
    case BS_BANNER:
    case BS_HELLO:
    case BS_HELO:
    case BS_STARTTLS:
    case BS_RSET:
    case BS_MAIL:
    case BS_RCPT: break;
    }
    return COMMAND_MS;
}

/* The only writer of b->state: says our line and sets the deadline. */
static void backend_enter(struct backend *b, enum backend_state next)
{
    log_debug("smtp hop %s: %s -> %s", b->url.host, state_name[b->state],
              state_name[next]);
    b->state = next;
    smtp_reply_init(&b->reply);
    switch (next) {
    case BS_HELLO:
        conn_printf(b->conn, "%s %s\r\n", is_lmtp(b) ? "LHLO" : "EHLO",
                    b->options.node);
        break;
    case BS_HELO: conn_printf(b->conn, "HELO %s\r\n", b->options.node); break;
    case BS_STARTTLS: conn_printf(b->conn, "STARTTLS\r\n"); break;
    case BS_SHAKE: conn_start_tls(b->conn); break;
    case BS_RSET: conn_printf(b->conn, "RSET\r\n"); break;
    case BS_MAIL:
        b->accepted_count = 0;
        b->verdict_count = 0;
        say_mail(b);
        break;
    case BS_RCPT:
        b->is_asked = false;
        conn_printf(b->conn, "RCPT TO:<%s>\r\n", b->recipient);
        break;
    case BS_DATA: conn_printf(b->conn, "DATA\r\n"); break;
    case BS_DOT: conn_printf(b->conn, ".\r\n"); break;
    case BS_CONNECT:
    case BS_BANNER:
    case BS_READY:
    case BS_OPEN:
    case BS_TEXT:
    case BS_END:
    case BS_COUNT: break;
    }
    conn_set_deadline_ms(b->conn, deadline_ms(next));
    b->is_deadline_set = deadline_ms(next) != 0;
}

/* The hop is ready for a message. */
static void backend_settle(struct backend *b)
{
    backend_enter(b, b->is_asked ? BS_MAIL : BS_READY);
}

/* The only exit of our own making. */
static void backend_lose(struct backend *b, enum err_kind kind,
                         const char *what)
{
    struct err err;

    err_set(&err, kind, "%s:%u %s: %s", b->url.host, b->url.port,
            state_name[b->state], what);
    b->state = BS_END;
    conn_free(&b->conn);
    b->options.ops->on_lost(b->options.ctx, &err);
}

/* EHLO, LHLO or HELO was answered. */
static void on_hello(struct backend *b)
{
    bool wants_tls = b->url.tls == TLS_STARTTLS && !conn_is_tls(b->conn);

    b->has_size = smtp_reply_offers(&b->reply, "SIZE", NULL);
    b->has_8bitmime = smtp_reply_offers(&b->reply, "8BITMIME", NULL);
    if (!wants_tls) {
        backend_settle(b);
        return;
    }
    if (b->options.tls == NULL ||
        !smtp_reply_offers(&b->reply, "STARTTLS", NULL)) {
        backend_lose(b, ERR_SETUP, "STARTTLS is not offered");
        return;
    }
    backend_enter(b, BS_STARTTLS);
}

static void answer_recipient(struct backend *b)
{
    b->is_asked = false;
    b->options.ops->on_recipient(b->options.ctx, &b->reply);
}

static void on_mail_or_rcpt(struct backend *b)
{
    bool is_good = b->reply.code / 100 == 2;
    bool is_mail = b->state == BS_MAIL;
    struct smtp_reply reply = b->reply;

    if (reply.code / 100 == 3) {
        backend_lose(b, ERR_PEER, "a reply out of turn");
        return;
    }
    if (is_mail && is_good) {
        backend_enter(b, BS_RCPT);
        return;
    }
    if (!is_mail && is_good)
        b->accepted_count++;
    backend_enter(b, is_mail ? BS_READY : BS_OPEN);
    b->reply = reply;
    answer_recipient(b);
}

static void on_data_reply(struct backend *b)
{
    struct smtp_reply reply = b->reply;

    if (reply.code / 100 == 2) {
        backend_lose(b, ERR_PEER, "a reply out of turn");
        return;
    }
    backend_enter(b, reply.code / 100 == 3 ? BS_TEXT : BS_OPEN);
    b->options.ops->on_start_text(b->options.ctx, &reply);
}

static void on_dot_reply(struct backend *b)
{
    struct smtp_reply reply = b->reply;
    unsigned index = b->verdict_count++;
    unsigned awaited = is_lmtp(b) ? b->accepted_count : 1;

    if (reply.code / 100 == 3) {
        backend_lose(b, ERR_PEER, "a reply out of turn");
        return;
    }
    if (b->verdict_count >= awaited) {
        b->accepted_count = 0;
        backend_enter(b, BS_READY);
    } else {
        smtp_reply_init(&b->reply);
        conn_set_deadline_ms(b->conn, DOT_MS);
    }
    b->options.ops->on_verdict(b->options.ctx, index, &reply);
}

static void on_text_reply(struct backend *b)
{
    if (b->reply.code >= 400)
        b->options.ops->on_refused(b->options.ctx, &b->reply);
    else
        backend_lose(b, ERR_PEER, "a reply before the end of the text");
}

static bool is_ourselves(const struct backend *b)
{
    char greeting[TRACE_GREETING_MAX];

    trace_greeting(b->options.node, is_lmtp(b), greeting);
    return b->state == BS_BANNER && strcmp(b->reply.text, greeting) == 0;
}

static void on_opening_reply(struct backend *b)
{
    bool is_good = b->reply.code / 100 == 2;

    if (is_ourselves(b)) {
        backend_lose(b, ERR_SETUP, "this hop is mailhaul itself");
        return;
    }
    if (!is_good && b->state == BS_HELLO && !is_lmtp(b) &&
        b->reply.code / 100 == 5 && b->url.tls != TLS_STARTTLS) {
        backend_enter(b, BS_HELO);
        return;
    }
    if (!is_good) {
        backend_lose(b, ERR_RETRY, log_safe(b->reply.text));
        return;
    }
    if (b->state == BS_BANNER)
        backend_enter(b, BS_HELLO);
    else if (b->state == BS_STARTTLS)
        backend_enter(b, BS_SHAKE);
    else
        on_hello(b);
}

/* The only listener: a whole reply, by the state that waits for it. */
static void backend_on_reply(struct backend *b)
{
    if (b->reply.code == 421 && b->state != BS_DOT && b->state != BS_TEXT) {
        backend_lose(b, ERR_RETRY, log_safe(b->reply.text));
        return;
    }
    switch (b->state) {
    case BS_BANNER:
    case BS_HELLO:
    case BS_HELO:
    case BS_STARTTLS: on_opening_reply(b); return;
    case BS_RSET:
        if (b->reply.code / 100 == 2)
            backend_settle(b);
        else
            backend_lose(b, ERR_PEER, "RSET was refused");
        return;
    case BS_MAIL:
    case BS_RCPT: on_mail_or_rcpt(b); return;
    case BS_DATA: on_data_reply(b); return;
    case BS_TEXT: on_text_reply(b); return;
    case BS_DOT: on_dot_reply(b); return;
    case BS_CONNECT:
    case BS_SHAKE:
    case BS_READY:
    case BS_OPEN:
    case BS_END:
    case BS_COUNT: break;
    }
    backend_lose(b, ERR_PEER, "a reply that nobody asked for");
}

/* One line out of the input; false when there is none. */
static bool take_line(struct backend *b)
{
    struct buf *in = conn_input(b->conn);
    const char *end = in->used > 0 ? memchr(in->bytes, '\n', in->used) : NULL;
    enum smtp_reply_step step;
    size_t length;

    if (end == NULL) {
        if (in->used >= SMTP_REPLY_LINE_MAX)
            backend_lose(b, ERR_PEER, "a line too long");
        return false;
    }
    length = (size_t)(end - in->bytes);
    step = smtp_reply_add(&b->reply, in->bytes,
                          length > 0 && end[-1] == '\r' ? length - 1 : length);
    buf_consume(in, length + 1);
    if (step == SMTP_REPLY_BAD)
        backend_lose(b, ERR_PEER, "no SMTP reply");
    else if (step == SMTP_REPLY_DONE)
        backend_on_reply(b);
    return true;
}

static void on_input(void *ctx)
{
    struct backend *b = ctx;

    while (b->state != BS_END && b->state != BS_SHAKE && take_line(b))
        continue;
    if (b->state != BS_END && conn_is_eof(b->conn))
        backend_lose(b, ERR_RETRY, "closed by the hop");
}

static void on_ready(void *ctx)
{
    struct backend *b = ctx;

    backend_enter(b, b->state == BS_SHAKE ? BS_HELLO : BS_BANNER);
}

static void on_drained(void *ctx)
{
    struct backend *b = ctx;

    if (b->state != BS_TEXT)
        return;
    conn_set_deadline_ms(b->conn, 0);
    b->is_deadline_set = false;
    b->options.ops->on_drained(b->options.ctx);
}

static void on_end(void *ctx, const struct err *err)
{
    struct backend *b = ctx;

    backend_lose(b, err->kind, err->text);
}

static const struct conn_ops conn_ops = {.on_ready = on_ready,
                                         .on_input = on_input,
                                         .on_drained = on_drained,
                                         .on_end = on_end};

struct backend *backend_open(const struct backend_options *options,
                             const struct mail_url *url)
{
    struct backend *b = mem_alloc(sizeof(*b));
    struct conn_target target = {.host = b->url.host,
                                 .port = url->port,
                                 .mode = url->tls,
                                 .tls = options->tls,
                                 .dns = options->dns,
                                 .wait_ms = CONNECT_MS};

    b->options = *options;
    b->url = *url;
    b->state = BS_CONNECT;
    smtp_reply_init(&b->reply);
    b->conn = conn_connect(options->loop, &target, INPUT_MAX, &conn_ops, b);
    return b;
}

/* Inside a callback of ours b is still in use further up the stack. */
static void free_now(void *ctx)
{
    free(ctx);
}

void backend_close(struct backend **backend)
{
    struct backend *b = *backend;

    if (b == NULL)
        return;
    *backend = NULL;
    if (b->state == BS_READY || b->state == BS_OPEN) {
        conn_printf(b->conn, "QUIT\r\n");
        conn_finish(&b->conn);
    } else if (b->conn != NULL) {
        conn_free(&b->conn);
    }
    b->state = BS_END;
    loop_defer(b->options.loop, free_now, b);
}

const struct mail_url *backend_url(const struct backend *backend)
{
    return &backend->url;
}

void backend_recipient(struct backend *backend,
                       const struct backend_envelope *envelope,
                       const char *recipient)
{
    struct backend *b = backend;

    snprintf(b->sender, sizeof(b->sender), "%s", envelope->sender);
    b->envelope = *envelope;
    b->envelope.sender = b->sender;
    snprintf(b->recipient, sizeof(b->recipient), "%s", recipient);
    b->is_asked = true;
    if (b->state == BS_READY)
        backend_enter(b, BS_MAIL);
    else if (b->state == BS_OPEN)
        backend_enter(b, BS_RCPT);
}

void backend_reset(struct backend *backend)
{
    if (backend->state == BS_OPEN)
        backend_enter(backend, BS_RSET);
}

void backend_start_text(struct backend *backend)
{
    if (backend->state == BS_OPEN)
        backend_enter(backend, BS_DATA);
}

void backend_text(struct backend *backend, const void *bytes, size_t length)
{
    if (backend->state != BS_TEXT)
        return;
    conn_write(backend->conn, bytes, length);
    if (!backend->is_deadline_set && conn_output_bytes(backend->conn) > 0) {
        conn_set_deadline_ms(backend->conn, BLOCK_MS);
        backend->is_deadline_set = true;
    }
}

void backend_end_text(struct backend *backend)
{
    if (backend->state == BS_TEXT)
        backend_enter(backend, BS_DOT);
}

size_t backend_waiting_bytes(const struct backend *backend)
{
    return backend->state == BS_END ? 0 : conn_output_bytes(backend->conn);
}
