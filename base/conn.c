#include "base/conn.h"

#include "base/conn_inside.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVER_SHAKE_MS 30000
#define FINISH_MS       5000
#define KEEP_IDLE_S     600 /* a peer that vanished is found out */
#define KEEP_INTERVAL_S 60
#define KEEP_COUNT      4

static const char *const state_name[] = {
    "resolve", "connect", "shake", "open", "clear_out", "finish", "end",
};
_Static_assert(sizeof state_name / sizeof *state_name == CS_COUNT,
               "one name for each state");

static const struct conn_ops no_ops = {0};

/* The only writer of c->state. */
void conn_enter(struct conn *c, enum conn_state next)
{
    log_trace("conn %s:%u %s -> %s", c->peer_address, (unsigned)c->peer_port,
              state_name[c->state], state_name[next]);
    c->state = next;
    if (next == CS_OPEN)
        c->setup_until_ms = 0;
    if (next == CS_SHAKE || next == CS_CLEAR_OUT) {
        int64_t wait_ms = c->dial != NULL ? c->dial->wait_ms : SERVER_SHAKE_MS;

        if (c->setup_until_ms == 0)
            c->setup_until_ms = loop_now_ms(c->loop) + wait_ms;
        conn_set_timer(c);
        conn_review_later(c);
    }
}

static void close_socket(struct conn *c)
{
    watch_free(&c->watch);
    tls_session_free(&c->session);
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
}

static void conn_on_destroyed(void *ctx)
{
    free(ctx);
}

void conn_destroy(struct conn *c)
{
    if (c->is_freed)
        return;
    c->is_freed = true;
    close_socket(c);
    timer_free(&c->timer);
    loop_forget(c->loop, &c->survivor);
    conn_dial_free(&c->dial);
    buf_wipe(&c->input);
    buf_wipe(&c->output);
    free(c->err);
    c->err = NULL;
    /* callbacks of this turn may still be on the stack */
    loop_defer(c->loop, conn_on_destroyed, c);
}

void conn_fail(struct conn *c, enum err_kind kind, const char *text)
{
    if (c->state == CS_END || c->is_freed)
        return;
    if (c->state == CS_FINISH) {
        conn_destroy(c);
        return;
    }
    c->err = mem_alloc(sizeof *c->err);
    err_set(c->err, kind, "%s", text);
    if (c->dial != NULL)
        err_prefix(c->err, "%s port %u", log_safe(c->dial->host),
                   (unsigned)c->dial->port);
    if (c->timer != NULL)
        timer_cancel(c->timer);
    close_socket(c);
    buf_wipe(&c->output);
    conn_enter(c, CS_END);
    conn_review_later(c);
}

void conn_set_wants(struct conn *c)
{
    bool read = false, write = false;

    if (c->is_freed || c->watch == NULL)
        return;
    switch (c->state) {
    case CS_CONNECT: write = true; break;
    case CS_SHAKE:
        read = !c->shake_waits_write;
        write = c->shake_waits_write;
        break;
    case CS_CLEAR_OUT: write = true; break;
    case CS_OPEN:
        read =
            (conn_may_read(c) && !c->read_waits_write) || c->write_waits_read;
        write =
            (c->output.used > 0 && !c->write_waits_read) ||
            (c->is_half_closing && !c->is_half_closed && !c->is_write_broken) ||
            (c->read_waits_write && conn_may_read(c));
        break;
    case CS_FINISH:
        read = c->is_half_closed || c->write_waits_read;
        write = !c->is_half_closed && !c->write_waits_read;
        break;
    case CS_RESOLVE:
    case CS_END:
    case CS_COUNT: break;
    }
    watch_want(c->watch, read, write);
}

static void conn_on_event(int fd, bool can_read, bool can_write, void *ctx)
{
    struct conn *c = ctx;

    (void)fd;
    switch (c->state) {
    case CS_CONNECT: conn_dial_on_writable(c); break;
    case CS_SHAKE: conn_shake(c); break;
    case CS_CLEAR_OUT: conn_flush(c); break;
    case CS_OPEN:
        if (can_write || c->write_waits_read)
            conn_flush(c);
        if ((can_read || c->read_waits_write) && !c->is_freed &&
            conn_may_read(c))
            conn_read(c);
        break;
    case CS_FINISH: conn_linger(c); break;
    case CS_RESOLVE:
    case CS_END:
    case CS_COUNT: break;
    }
    conn_set_wants(c);
}

static void tell_end(struct conn *c)
{
    if (c->is_end_told)
        return;
    c->is_end_told = true;
    if (c->ops->on_end != NULL)
        c->ops->on_end(c->ctx, c->err);
}

static void review_open(struct conn *c)
{
    if (c->is_ready_due) {
        c->is_ready_due = false;
        if (c->ops->on_ready != NULL)
            c->ops->on_ready(c->ctx);
    }
    if (!c->is_freed && c->state == CS_OPEN &&
        (c->output.used > 0 || c->is_half_closing || c->is_write_broken))
        conn_flush(c);
    if (!c->is_freed && conn_may_read(c) && c->session != NULL &&
        tls_session_has_pending(c->session))
        conn_read(c);
    if (!c->is_freed && c->input.used == 0)
        buf_wipe(&c->input);
}

/* What a call of the user has put off: from here he may be called back. */
static void conn_on_review(void *ctx)
{
    struct conn *c = ctx;

    c->is_review_due = false;
    if (c->is_freed)
        return;
    switch (c->state) {
    case CS_OPEN: review_open(c); break;
    case CS_SHAKE: conn_shake(c); break;
    case CS_CLEAR_OUT: conn_flush(c); break;
    case CS_FINISH: conn_linger(c); break;
    case CS_END: tell_end(c); break;
    case CS_RESOLVE:
    case CS_CONNECT:
    case CS_COUNT: break;
    }
    conn_set_wants(c);
}

void conn_review_later(struct conn *c)
{
    if (c->is_review_due || c->is_freed)
        return;
    c->is_review_due = true;
    loop_defer(c->loop, conn_on_review, c);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void conn_on_timer(void *ctx)
{
    struct conn *c = ctx;
    int64_t now_ms = loop_now_ms(c->loop);

    if (c->state == CS_FINISH) {
        if (now_ms >= c->finish_until_ms)
            conn_destroy(c);
        else
            conn_set_timer(c);
        return;
    }
    /* what is not listened to cannot be heard */
    if (c->idle_ms > 0 && !conn_may_read(c))
        c->heard_ms = now_ms;
    if ((c->deadline_ms != 0 && now_ms >= c->deadline_ms) ||
        (c->setup_until_ms != 0 && now_ms >= c->setup_until_ms) ||
        (c->idle_ms > 0 && now_ms >= c->heard_ms + c->idle_ms)) {
        conn_fail(c, ERR_RETRY, "timed out");
        return;
    }
    if (c->state == CS_CONNECT && now_ms >= c->dial->until_ms)
        conn_dial_on_timeout(c);
    else
        conn_set_timer(c);
}

/* One timer for all limits. Arrivals do not touch it: when it fires too early
   it is set anew. */
void conn_set_timer(struct conn *c)
{
    int64_t next_ms = sooner(c->deadline_ms, c->setup_until_ms);

    if (c->state == CS_END || c->is_freed)
        return;
    if (c->idle_ms > 0)
        next_ms = sooner(next_ms, c->heard_ms + c->idle_ms);
    if (c->state == CS_CONNECT)
        next_ms = sooner(next_ms, c->dial->until_ms);
    if (c->state == CS_FINISH)
        next_ms = c->finish_until_ms;
    if (next_ms == 0) {
        if (c->timer != NULL)
            timer_cancel(c->timer);
        return;
    }
    if (c->timer == NULL)
        c->timer = timer_new(c->loop, conn_on_timer, c);
    timer_start(c->timer, next_ms - loop_now_ms(c->loop));
}

void conn_watch_fd(struct conn *c, int fd)
{
    c->fd = fd;
    c->watch = watch_new(c->loop, fd, conn_on_event, c);
}

static uint16_t print_address(const struct sockaddr_storage *address,
                              char out[INET6_ADDRSTRLEN])
{
    const struct sockaddr_in *four = (const void *)address;
    const struct sockaddr_in6 *six = (const void *)address;

    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &four->sin_addr, out, INET6_ADDRSTRLEN);
        return ntohs(four->sin_port);
    }
    if (address->ss_family != AF_INET6)
        return 0;
    /* a client of a socket for both families is known by its IPv4 address */
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &six->sin6_addr, out, INET6_ADDRSTRLEN);
    return ntohs(six->sin6_port);
}

static void learn_peer(struct conn *c)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;

    if (getpeername(c->fd, (struct sockaddr *)&address, &size) == 0)
        c->peer_port = print_address(&address, c->peer_address);
}

static void set_option(int fd, int level, int name, int value)
{
    /* a socket that is no TCP socket (a test's pair) has no such options */
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

void conn_established(struct conn *c, enum tls_mode mode)
{
    learn_peer(c);
    set_option(c->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(c->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S);
    set_option(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S);
    set_option(c->fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
    if (mode == TLS_IMPLICIT) {
        conn_enter(c, CS_SHAKE);
        return;
    }
    conn_enter(c, CS_OPEN);
    c->is_ready_due = true;
    conn_review_later(c);
}

static struct conn *conn_new(struct loop *loop, size_t input_max,
                             const struct conn_ops *ops, void *ctx)
{
    struct conn *c = mem_alloc(sizeof *c);

    c->loop = loop;
    c->ops = ops;
    c->ctx = ctx;
    c->fd = -1;
    c->state = CS_RESOLVE;
    buf_init(&c->input, input_max);
    /* whoever streams watches conn_output_bytes() */
    buf_init(&c->output, SIZE_MAX / 4);
    return c;
}

struct conn *conn_accept_take(struct loop *loop, int fd, enum tls_mode mode,
                              struct tls_server *tls, size_t input_max,
                              const struct conn_ops *ops, void *ctx)
{
    struct conn *c = conn_new(loop, input_max, ops, ctx);
    int flags = fcntl(fd, F_GETFL);

    if (flags != -1 && !(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    c->server = tls;
    conn_watch_fd(c, fd);
    conn_established(c, mode);
    return c;
}

struct conn *conn_connect(struct loop *loop, const struct conn_target *target,
                          size_t input_max, const struct conn_ops *ops,
                          void *ctx)
{
    struct conn *c = conn_new(loop, input_max, ops, ctx);

    conn_dial_start(c, target);
    return c;
}

void conn_set_user(struct conn *c, const struct conn_ops *ops, void *ctx)
{
    c->ops = ops;
    c->ctx = ctx;
    /* the other one may want to read where this one did not */
    conn_review_later(c);
}

void conn_start_tls(struct conn *c)
{
    if (c->state != CS_OPEN)
        return;
    if (c->session != NULL) {
        conn_fail(c, ERR_PEER, "TLS is up already");
        return;
    }
    /* sent in clear, perhaps by somebody else: never to be used after it */
    buf_wipe(&c->input);
    conn_enter(c, c->output.used > 0 ? CS_CLEAR_OUT : CS_SHAKE);
}

struct buf *conn_input(struct conn *c)
{
    /* whoever asks may make room: look again after him */
    if (c->input.used > 0)
        conn_review_later(c);
    return &c->input;
}

bool conn_is_eof(const struct conn *c)
{
    return c->is_eof;
}

bool conn_is_tls(const struct conn *c)
{
    return c->session != NULL && c->state != CS_SHAKE;
}

const char *conn_tls_version(const struct conn *c)
{
    return conn_is_tls(c) ? tls_session_version(c->session) : "";
}

const char *conn_tls_cipher(const struct conn *c)
{
    return conn_is_tls(c) ? tls_session_cipher(c->session) : "";
}

const char *conn_tls_name(const struct conn *c)
{
    const char *name = conn_is_tls(c) ? tls_session_name(c->session) : NULL;

    return name != NULL ? name : "";
}

static bool takes_output(const struct conn *c)
{
    return c->state != CS_END && !c->is_half_closing && !c->is_write_broken;
}

void conn_write(struct conn *c, const void *bytes, size_t length)
{
    if (length == 0 || !takes_output(c))
        return;
    buf_append(&c->output, bytes, length);
    conn_review_later(c);
}

void conn_printf(struct conn *c, const char *format, ...)
{
    char text[1024], *heap = NULL;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof text) {
        heap = mem_alloc((size_t)n + 1);
        va_start(args, format);
        vsnprintf(heap, (size_t)n + 1, format, args);
        va_end(args);
    }
    conn_write(c, heap != NULL ? heap : text, (size_t)n);
    if (heap != NULL)
        explicit_bzero(heap, (size_t)n);
    explicit_bzero(text, sizeof text);
    free(heap);
}

void conn_forward(struct conn *c, const void *bytes, size_t length)
{
    size_t done = 0;

    if (!takes_output(c))
        return;
    if (c->state == CS_OPEN && c->output.used == 0)
        done = conn_write_now(c, bytes, length);
    if (done == length)
        return;
    buf_append(&c->output, (const char *)bytes + done, length - done);
    if (c->is_write_broken)
        conn_review_later(c);
    else
        conn_set_wants(c);
}

size_t conn_output_bytes(const struct conn *c)
{
    return c->output.used;
}

void conn_pause(struct conn *c)
{
    c->is_paused = true;
    conn_set_wants(c);
}

void conn_resume(struct conn *c)
{
    if (!c->is_paused)
        return;
    c->is_paused = false;
    conn_set_wants(c);
    conn_review_later(c);
}

void conn_set_idle_ms(struct conn *c, int64_t idle_ms)
{
    c->idle_ms = idle_ms;
    c->heard_ms = loop_now_ms(c->loop);
    conn_set_timer(c);
}

void conn_set_deadline_ms(struct conn *c, int64_t wait_ms)
{
    c->deadline_ms = wait_ms > 0 ? loop_now_ms(c->loop) + wait_ms : 0;
    conn_set_timer(c);
}

void conn_half_close(struct conn *c)
{
    c->is_half_closing = true;
    conn_review_later(c);
}

static void conn_on_loop_end(void *ctx)
{
    conn_destroy(ctx);
}

void conn_finish(struct conn **c_ref)
{
    struct conn *c = *c_ref;

    if (c == NULL)
        return;
    *c_ref = NULL;
    c->ops = &no_ops;
    if (c->state != CS_OPEN) {
        conn_destroy(c);
        return;
    }
    conn_enter(c, CS_FINISH);
    c->survivor = loop_survive(c->loop, conn_on_loop_end, c);
    buf_wipe(&c->input);
    c->finish_until_ms = loop_now_ms(c->loop) + FINISH_MS;
    conn_set_timer(c);
    conn_review_later(c);
}

void conn_free(struct conn **c)
{
    if (*c == NULL)
        return;
    conn_destroy(*c);
    *c = NULL;
}

const char *conn_peer_address(const struct conn *c)
{
    return c->peer_address;
}

uint16_t conn_own_address(const struct conn *c, char out[CONN_ADDRESS_SIZE])
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;

    out[0] = '\0';
    if (c->fd == -1 ||
        getsockname(c->fd, (struct sockaddr *)&address, &size) == -1)
        return 0;
    return print_address(&address, out);
}

uint16_t conn_peer_port(const struct conn *c)
{
    return c->peer_port;
}

uint64_t conn_bytes_in(const struct conn *c)
{
    return c->bytes_in;
}
