/*
 * Moving the bytes of a conn, in clear and by TLS.
 */
#include "base/conn_inside.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SCRATCH_SIZE (64u << 10)
#define LINGER_MAX   (1u << 20)

enum io_result { IO_DONE, IO_WAIT, IO_EOF, IO_FAILED };

/* One buffer for all conns of the process: what arrives goes on from here
   before the next conn is looked at, so an idle conn needs none. */
static char scratch[SCRATCH_SIZE];

static enum io_result read_clear(struct conn *c, size_t size, size_t *done_out,
                                 struct err *err)
{
    ssize_t n;

    do
        n = recv(c->fd, scratch, size, 0);
    while (n == -1 && errno == EINTR);
    *done_out = n > 0 ? (size_t)n : 0;
    if (n > 0)
        return IO_DONE;
    if (n == 0)
        return IO_EOF;
    if (errno == EAGAIN)
        return IO_WAIT;
    err_set(err, ERR_RETRY, "%s", strerror(errno));
    return IO_FAILED;
}

/* Gathers records until the room is used up. */
static enum io_result read_tls(struct conn *c, size_t size, size_t *done_out,
                               struct err *err)
{
    size_t got = 0, n;

    *done_out = 0;
    c->read_waits_write = false;
    while (got < size) {
        enum tls_progress progress =
            tls_session_read(c->session, scratch + got, size - got, &n, err);

        got += n;
        *done_out = got;
        switch (progress) {
        case TLS_PROGRESS_DONE: continue;
        case TLS_PROGRESS_WANT_READ: return IO_WAIT;
        case TLS_PROGRESS_WANT_WRITE:
            c->read_waits_write = true;
            return IO_WAIT;
        case TLS_PROGRESS_EOF: return IO_EOF;
        case TLS_PROGRESS_FAILED: return IO_FAILED;
        }
    }
    return IO_DONE;
}

bool conn_may_read(const struct conn *c)
{
    return c->state == CS_OPEN && !c->is_eof && !c->is_paused &&
           !c->is_ready_due &&
           (c->ops->on_bytes != NULL || c->input.used < c->input.max);
}

static size_t read_room(const struct conn *c)
{
    size_t room = c->input.max - c->input.used;

    return c->ops->on_bytes != NULL || room > SCRATCH_SIZE ? SCRATCH_SIZE
                                                           : room;
}

static void tell_bytes(struct conn *c, size_t length)
{
    c->bytes_in += length;
    if (c->idle_ms > 0)
        c->heard_ms = loop_now_ms(c->loop);
    if (c->ops->on_bytes != NULL) {
        c->ops->on_bytes(c->ctx, scratch, length);
        return;
    }
    buf_append(&c->input, scratch, length);
    if (c->ops->on_input != NULL)
        c->ops->on_input(c->ctx);
}

/* One piece a turn, so that a loud peer cannot starve the quiet ones. */
void conn_read(struct conn *c)
{
    struct err err = {0};
    enum io_result result;
    size_t length;

    if (c->session != NULL)
        result = read_tls(c, read_room(c), &length, &err);
    else
        result = read_clear(c, read_room(c), &length, &err);
    if (length > 0)
        tell_bytes(c, length);
    if (c->is_freed || c->state != CS_OPEN)
        return;
    if (result == IO_EOF) {
        c->is_eof = true;
        if (c->is_write_broken)
            conn_fail(c, ERR_RETRY, "closed by the peer");
        else if (c->ops->on_input != NULL)
            c->ops->on_input(c->ctx);
    } else if (result == IO_FAILED) {
        conn_fail(c, err.kind, err.text);
    }
    if (c->is_freed)
        return;
    if (c->input.used == 0)
        buf_wipe(&c->input);
    if (c->session != NULL && conn_may_read(c) &&
        tls_session_has_pending(c->session))
        conn_review_later(c);
}

static size_t write_clear(struct conn *c, const char *bytes, size_t length)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n = send(c->fd, bytes + done, length - done, MSG_NOSIGNAL);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1) {
            c->is_write_broken = errno != EAGAIN;
            break;
        }
        done += (size_t)n;
    }
    return done;
}

static size_t write_tls(struct conn *c, const char *bytes, size_t length)
{
    size_t done = 0;

    c->write_waits_read = false;
    while (done < length) {
        size_t n;
        enum tls_progress progress = tls_session_write(c->session, bytes + done,
                                                       length - done, &n, NULL);

        done += n;
        if (progress == TLS_PROGRESS_DONE)
            continue;
        if (progress == TLS_PROGRESS_WANT_READ)
            c->write_waits_read = true;
        else if (progress != TLS_PROGRESS_WANT_WRITE)
            c->is_write_broken = true;
        break;
    }
    return done;
}

size_t conn_write_now(struct conn *c, const char *bytes, size_t length)
{
    return c->session != NULL ? write_tls(c, bytes, length)
                              : write_clear(c, bytes, length);
}

/* close_notify and FIN, once nothing is left to send. */
static void shut_output(struct conn *c)
{
    if (c->session != NULL && !c->is_write_broken &&
        tls_session_close_notify(c->session) == TLS_PROGRESS_WANT_WRITE) {
        /* again by the next writable event */
        return;
    }
    c->is_half_closed = true;
    shutdown(c->fd, SHUT_WR);
}

static void output_is_empty(struct conn *c, bool was_full)
{
    if (was_full)
        buf_wipe(&c->output);
    if (c->state == CS_CLEAR_OUT) {
        conn_enter(c, CS_SHAKE);
        return;
    }
    if (was_full && c->ops->on_drained != NULL)
        c->ops->on_drained(c->ctx);
    if (!c->is_freed && c->state == CS_OPEN && c->is_half_closing &&
        !c->is_half_closed && c->output.used == 0)
        shut_output(c);
}

/* A peer that takes no more may have said why just before. So what it sent is
   still read, and its end, which cannot be far, is what the user is told. */
static void writing_broke(struct conn *c)
{
    buf_wipe(&c->output);
    if (c->is_eof || c->state != CS_OPEN)
        conn_fail(c, ERR_RETRY, "closed by the peer");
}

void conn_flush(struct conn *c)
{
    bool was_full = c->output.used > 0;

    if (was_full && !c->is_write_broken)
        buf_consume(&c->output,
                    conn_write_now(c, c->output.bytes, c->output.used));
    if (c->is_write_broken)
        writing_broke(c);
    else if (c->output.used == 0)
        output_is_empty(c, was_full);
}

static int begin_session(struct conn *c, struct err *err)
{
    if (c->dial != NULL)
        c->session =
            tls_session_new_client(c->dial->tls, c->dial->host, c->fd, err);
    else
        c->session = tls_session_new_server(c->server, c->fd, err);
    return c->session == NULL ? -1 : 0;
}

void conn_shake(struct conn *c)
{
    struct err err = {0};
    enum tls_progress progress = TLS_PROGRESS_FAILED;

    if (c->session != NULL || begin_session(c, &err) == 0)
        progress = tls_session_handshake(c->session, &err);
    c->shake_waits_write = progress == TLS_PROGRESS_WANT_WRITE;
    if (progress == TLS_PROGRESS_DONE) {
        conn_enter(c, CS_OPEN);
        c->is_ready_due = true;
        conn_review_later(c);
    } else if (progress == TLS_PROGRESS_FAILED) {
        conn_fail(c, err.kind, err.text);
    }
}

/* The last bytes, our FIN, then wait for the peer's: closing with bytes unread
   would send a reset, which can overtake what we said last. Who does not stop
   sending gets it. */
void conn_linger(struct conn *c)
{
    struct err err = {0};
    enum io_result result;
    size_t length;

    if (c->output.used > 0 && !c->is_write_broken)
        buf_consume(&c->output,
                    conn_write_now(c, c->output.bytes, c->output.used));
    if (c->is_write_broken) {
        conn_destroy(c);
        return;
    }
    if (c->output.used == 0 && !c->is_half_closed) {
        buf_wipe(&c->output);
        shut_output(c);
    }
    if (!c->is_eof) {
        /* by the socket, past TLS: nobody looks at it any more */
        result = c->is_half_closed ? read_clear(c, SCRATCH_SIZE, &length, &err)
                                   : IO_WAIT;
        if (result == IO_DONE)
            c->linger_bytes += length;
        c->is_eof = result == IO_EOF || result == IO_FAILED ||
                    c->linger_bytes > LINGER_MAX;
    }
    if (c->is_eof && c->is_half_closed)
        conn_destroy(c);
}
