#include "cli/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conn.h"
#include "base/dns.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/tls.h"
#include "db/states.h"
#include "proto/smtp_reply.h"

#define LANES      4  /* connections at once */
#define GROUP      10 /* of one connection: servers count refusals */
#define TRIES      3  /* of connections in a row that answered nothing */
#define CONNECT_MS 30000
#define REPLY_MS   60000
#define INPUT_MAX  8192
#define FIRST_MAX  5
#define AGAIN_MS   500
#define REASON_MAX 200

struct probe;

/* CONNECT -> BANNER -> HELLO (-> STARTTLS -> SHAKE -> HELLO) -> MAIL -> RCPT
   -> RSET -> MAIL ...; a group is over, or a failure -> WAIT -> CONNECT;
   nobody is left to ask -> END */
enum lane_state {
    LANE_WAIT,
    LANE_CONNECT,
    LANE_BANNER,
    LANE_HELLO,
    LANE_STARTTLS,
    LANE_SHAKE,
    LANE_MAIL,
    LANE_RCPT,
    LANE_RSET,
    LANE_END,
    LANE_STATE_COUNT
};

static const char *const state_names[] = {
    "wait", "connect", "greeting", "EHLO", "STARTTLS",
    "TLS",  "MAIL",    "RCPT",     "RSET", "end"};
_Static_assert(sizeof(state_names) / sizeof(state_names[0]) == LANE_STATE_COUNT,
               "a name for each state");

struct lane {
    struct probe *probe;
    enum lane_state state;
    struct conn *conn;   /* owned */
    struct timer *again; /* owned */
    struct smtp_reply reply;
    char address[ADDRESS_MAX]; /* being asked for */
    unsigned answered;         /* by this connection */
    unsigned tries;            /* of connections that answered nothing */
};

struct probe {
    const struct probe_options *options;
    struct probe_result *result;
    struct loop *loop;
    struct dns *dns;
    struct tls_client *tls;
    struct lane lanes[LANES];
    unsigned ended;
    bool is_given_up; /* the server talks to nobody */
    char why[REASON_MAX];
};

static void lane_connect(struct lane *l);

/* --- the answers */

/* That nobody of this name is there, or that no mail is taken for him. A full
   mailbox (552), a command that was not understood, or a want of TLS or of a
   login say nothing of that kind. */
static bool is_refusal(int code)
{
    return code == 550 || code == 551 || code == 553 || code == 554 ||
           code == 556 || code == 521;
}

static void judge(struct probe *p, const char *address, int code,
                  const char *why)
{
    struct probe_result *r = p->result;
    char text[ADDRESS_MAX + REASON_MAX + 4];

    r->asked++;
    if (is_refusal(code)) {
        r->refused++;
    } else if (code / 100 == 2) {
        r->accepted++;
        if (json_array_size(r->accepted_first) < FIRST_MAX)
            json_array_append_new(r->accepted_first, json_string(address));
    } else {
        r->unclear++;
        snprintf(text, sizeof(text), "%s: %s", address, why);
        if (json_array_size(r->unclear_first) < FIRST_MAX)
            json_array_append_new(r->unclear_first, json_string(text));
    }
    if (p->options->progress)
        p->options->progress(p->options->ctx, r->asked);
}

/* RFC 5321 4.1.2: a local part that is no dot-string is quoted. */
static void write_path(const char *address, char *out, size_t size)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyz0123456789"
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ.!#$%&'*+-/=?^_`{|}~";
    const char *at = strrchr(address, '@');
    size_t length = at ? (size_t)(at - address) : strlen(address), used = 0;

    if (strspn(address, plain) >= length) {
        snprintf(out, size, "%s", address);
        return;
    }
    out[used++] = '"';
    for (size_t i = 0; i < length && used + 4 < size; i++) {
        if (address[i] == '"' || address[i] == '\\')
            out[used++] = '\\';
        out[used++] = address[i];
    }
    snprintf(out + used, size - used, "\"%s", at ? at : "");
}

static bool take_next(struct lane *l)
{
    const char *next = l->probe->options->next(l->probe->options->ctx);

    if (!next)
        return false;
    snprintf(l->address, sizeof(l->address), "%s", next);
    return true;
}

static void lane_end(struct lane *l)
{
    if (l->state == LANE_END)
        return;
    l->state = LANE_END;
    if (l->conn) {
        conn_printf(l->conn, "QUIT\r\n");
        conn_finish(&l->conn);
    }
    if (++l->probe->ended == LANES)
        loop_stop(l->probe->loop);
}

/* The server talks to nobody: all that are left are unclear. */
static void give_up(struct lane *l)
{
    struct probe *p = l->probe;

    do
        judge(p, l->address, 0, p->why);
    while (take_next(l));
    lane_end(l);
}

/* --- the dialogue */

static void lane_enter(struct lane *l, enum lane_state next)
{
    char path[2 * ADDRESS_MAX + 3];

    l->state = next;
    smtp_reply_init(&l->reply);
    switch (next) {
    case LANE_HELLO:
        conn_printf(l->conn, "EHLO %s\r\n", l->probe->options->node);
        break;
    case LANE_STARTTLS: conn_printf(l->conn, "STARTTLS\r\n"); break;
    case LANE_SHAKE: conn_start_tls(l->conn); break;
    case LANE_MAIL: conn_printf(l->conn, "MAIL FROM:<>\r\n"); break;
    case LANE_RCPT:
        write_path(l->address, path, sizeof(path));
        conn_printf(l->conn, "RCPT TO:<%s>\r\n", path);
        break;
    case LANE_RSET: conn_printf(l->conn, "RSET\r\n"); break;
    case LANE_WAIT:
    case LANE_CONNECT:
    case LANE_BANNER:
    case LANE_END:
    case LANE_STATE_COUNT: break;
    }
    if (l->conn && next != LANE_CONNECT)
        conn_set_deadline_ms(l->conn, REPLY_MS);
}

static void on_again(void *ctx)
{
    struct lane *l = ctx;

    if (l->probe->is_given_up)
        give_up(l);
    else
        lane_connect(l);
}

/* This connection is of no more use; the address waits for another, unless
   none has answered anything for some time. */
static void lane_lose(struct lane *l, const char *why)
{
    struct probe *p = l->probe;

    if (p->why[0] == '\0' || l->answered == 0)
        snprintf(p->why, sizeof(p->why), "%s: %s", state_names[l->state], why);
    l->state = LANE_WAIT;
    conn_free(&l->conn);
    l->tries = l->answered > 0 ? 0 : l->tries + 1;
    if (l->tries >= TRIES)
        p->is_given_up = true;
    timer_start(l->again, l->answered > 0 ? 0 : AGAIN_MS);
}

static void on_hello(struct lane *l)
{
    bool wants_tls =
        l->probe->options->server.tls == TLS_STARTTLS && !conn_is_tls(l->conn);

    if (wants_tls && !smtp_reply_offers(&l->reply, "STARTTLS", NULL))
        lane_lose(l, "STARTTLS is not offered");
    else
        lane_enter(l, wants_tls ? LANE_STARTTLS : LANE_MAIL);
}

static void on_recipient(struct lane *l)
{
    char why[REASON_MAX];

    snprintf(why, sizeof(why), "%d %s", l->reply.code, log_safe(l->reply.text));
    judge(l->probe, l->address, l->reply.code, why);
    l->answered++;
    l->tries = 0;
    if (!take_next(l)) {
        lane_end(l);
    } else if (l->answered >= GROUP) {
        l->state = LANE_WAIT;
        conn_printf(l->conn, "QUIT\r\n");
        conn_finish(&l->conn);
        timer_start(l->again, 0);
    } else {
        lane_enter(l, LANE_RSET);
    }
}

static void on_reply(struct lane *l)
{
    bool is_good = l->reply.code / 100 == 2;

    if (l->state == LANE_RCPT && l->reply.code != 421 &&
        l->reply.code / 100 != 3) {
        on_recipient(l);
        return;
    }
    if (!is_good) {
        char why[REASON_MAX];

        snprintf(why, sizeof(why), "%d %s", l->reply.code,
                 log_safe(l->reply.text));
        lane_lose(l, why);
        return;
    }
    switch (l->state) {
    case LANE_BANNER: lane_enter(l, LANE_HELLO); return;
    case LANE_HELLO: on_hello(l); return;
    case LANE_STARTTLS: lane_enter(l, LANE_SHAKE); return;
    case LANE_MAIL: lane_enter(l, LANE_RCPT); return;
    case LANE_RSET: lane_enter(l, LANE_MAIL); return;
    case LANE_RCPT:
    case LANE_WAIT:
    case LANE_CONNECT:
    case LANE_SHAKE:
    case LANE_END:
    case LANE_STATE_COUNT: break;
    }
    lane_lose(l, "a reply that nobody asked for");
}

/* One line out of the input; false when there is none. */
static bool take_line(struct lane *l)
{
    struct buf *in = conn_input(l->conn);
    const char *end = in->used > 0 ? memchr(in->bytes, '\n', in->used) : NULL;
    enum smtp_reply_step step;
    size_t length;

    if (!end) {
        if (in->used >= SMTP_REPLY_LINE_MAX)
            lane_lose(l, "a line too long");
        return false;
    }
    length = (size_t)(end - in->bytes);
    step = smtp_reply_add(&l->reply, in->bytes,
                          length > 0 && end[-1] == '\r' ? length - 1 : length);
    buf_consume(in, length + 1);
    if (step == SMTP_REPLY_BAD)
        lane_lose(l, "no SMTP reply");
    else if (step == SMTP_REPLY_DONE)
        on_reply(l);
    return true;
}

static void on_input(void *ctx)
{
    struct lane *l = ctx;

    while (l->conn && l->state != LANE_SHAKE && take_line(l))
        continue;
    if (l->conn && conn_is_eof(l->conn))
        lane_lose(l, "closed by the server");
}

static void on_ready(void *ctx)
{
    struct lane *l = ctx;

    lane_enter(l, l->state == LANE_SHAKE ? LANE_HELLO : LANE_BANNER);
}

static void on_end(void *ctx, const struct err *err)
{
    lane_lose(ctx, log_safe(err->text));
}

static const struct conn_ops conn_ops = {
    .on_ready = on_ready, .on_input = on_input, .on_end = on_end};

static void lane_connect(struct lane *l)
{
    const struct mail_url *server = &l->probe->options->server;
    struct conn_target target = {.host = server->host,
                                 .port = server->port,
                                 .mode = server->tls,
                                 .tls = l->probe->tls,
                                 .dns = l->probe->dns,
                                 .wait_ms = CONNECT_MS};

    l->answered = 0;
    lane_enter(l, LANE_CONNECT);
    l->conn = conn_connect(l->probe->loop, &target, INPUT_MAX, &conn_ops, l);
}

/* --- the whole */

static void run(struct probe *p)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &p->lanes[i];

        l->probe = p;
        l->again = timer_new(p->loop, on_again, l);
        if (take_next(l))
            lane_connect(l);
        else
            l->state = LANE_END, p->ended++;
    }
    if (p->ended < LANES)
        loop_run(p->loop);
    for (int i = 0; i < LANES; i++)
        timer_free(&p->lanes[i].again);
}

int probe_run(const struct probe_options *options,
              struct probe_result *result_out, struct err *err)
{
    struct probe p = {.options = options, .result = result_out};
    int rc = -1;

    memset(result_out, 0, sizeof(*result_out));
    result_out->accepted_first = json_array();
    result_out->unclear_first = json_array();
    p.loop = loop_new();
    p.dns = dns_new(p.loop, err);
    if (p.dns && (p.tls = tls_client_new(options->ca_file, NULL, err))) {
        run(&p);
        rc = 0;
    }
    tls_client_free(&p.tls);
    dns_free(&p.dns);
    loop_free(&p.loop);
    return rc;
}

void probe_result_release(struct probe_result *result)
{
    json_decref(result->accepted_first);
    json_decref(result->unclear_first);
    result->accepted_first = result->unclear_first = NULL;
}
