#include "base/relay.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define HALF_OPEN_MS 30000 /* with one side closed and nothing moving */

/*
 * RUN -> ENDING -> OVER       the client has ended, or is told to (drain): the
 *                             backend hears EOF and is to end by itself
 * RUN -> CLIENT_LEFT -> OVER  the backend has ended; the client hears EOF
 * any -> OVER                 errors
 */
enum relay_state { RS_RUN, RS_ENDING, RS_CLIENT_LEFT, RS_OVER, RS_COUNT };

struct relay_side {
    struct relay *relay;
    struct relay_side *other; /* where its bytes go */
    struct conn *conn;        /* owned; NULL once gone */
    uint64_t forwarded;       /* bytes that came from here */
};

struct relay {
    struct loop *loop; /* borrowed */
    enum relay_state state;
    struct relay_side client;
    struct relay_side backend;
    relay_fn *fn;
    void *ctx;
    enum relay_end end;
    char *farewell;      /* owned; may be NULL */
    struct timer *timer; /* while one side has ended */
    uint64_t moved;      /* when the timer was set */
    int64_t backend_spoke_ms;
    bool backend_in_line; /* its last byte was not LF */
    bool client_waits;    /* it has spoken since the backend did */
    bool is_draining;     /* by relay_drain: the client stays unread */
    bool is_freed;
};

static void relay_on_over(void *ctx)
{
    struct relay *r = ctx;

    if (!r->is_freed)
        r->fn(r->ctx, r->end);
}

/* The only way out: closes both, tells the user once. */
static void relay_finish(struct relay *r)
{
    if (r->state == RS_OVER)
        return;
    r->state = RS_OVER;
    /* behind half a line a farewell would be taken for a part of it */
    if (r->farewell != NULL && r->client.conn != NULL && !r->backend_in_line)
        conn_write(r->client.conn, r->farewell, strlen(r->farewell));
    timer_free(&r->timer);
    conn_finish(&r->client.conn);
    conn_finish(&r->backend.conn);
    loop_defer(r->loop, relay_on_over, r);
}

static void relay_on_timer(void *ctx)
{
    struct relay *r = ctx;
    uint64_t moved = r->client.forwarded + r->backend.forwarded;

    if (r->is_draining || moved == r->moved) {
        relay_finish(r);
        return;
    }
    r->moved = moved;
    timer_start(r->timer, HALF_OPEN_MS);
}

/* The only writer of r->state before the end. */
static void relay_enter(struct relay *r, enum relay_state next,
                        enum relay_end end, int64_t wait_ms)
{
    r->state = next;
    r->end = end;
    r->moved = r->client.forwarded + r->backend.forwarded;
    if (r->timer == NULL)
        r->timer = timer_new(r->loop, relay_on_timer, r);
    timer_start(r->timer, wait_ms);
    if (next == RS_ENDING) {
        conn_half_close(r->backend.conn);
        /* nobody may be there any more whose slowness would hold it up */
        if (r->client.conn == NULL)
            conn_resume(r->backend.conn);
    } else {
        conn_half_close(r->client.conn);
    }
}

static void relay_on_bytes(void *ctx, const char *bytes, size_t length)
{
    struct relay_side *from = ctx;
    struct relay *r = from->relay;
    struct conn *to = from->other->conn;

    if (from == &r->backend) {
        r->backend_in_line = bytes[length - 1] != '\n';
        r->backend_spoke_ms = loop_now_ms(r->loop);
    }
    r->client_waits = from == &r->client;
    from->forwarded += length;
    if (to == NULL)
        return;
    conn_forward(to, bytes, length);
    /* one piece at most waits; its sender is read again when it has gone */
    if (conn_output_bytes(to) > 0)
        conn_pause(from->conn);
}

static void relay_on_drained(void *ctx)
{
    struct relay_side *from = ((struct relay_side *)ctx)->other;
    struct relay *r = from->relay;

    if (from->conn != NULL && !(r->is_draining && from == &r->client))
        conn_resume(from->conn);
}

/* With on_bytes set this can only be EOF. */
static void relay_on_input(void *ctx)
{
    struct relay_side *side = ctx;
    struct relay *r = side->relay;

    if (r->state == RS_OVER || side->conn == NULL || !conn_is_eof(side->conn))
        return;
    if (r->state == RS_RUN && side == &r->client)
        relay_enter(r, RS_ENDING, RELAY_CLIENT_CLOSED, HALF_OPEN_MS);
    else if (r->state == RS_RUN)
        relay_enter(r, RS_CLIENT_LEFT, RELAY_BACKEND_CLOSED, HALF_OPEN_MS);
    else if (side == &r->backend || r->state == RS_CLIENT_LEFT)
        relay_finish(r);
}

static void relay_on_end(void *ctx, const struct err *err)
{
    struct relay_side *side = ctx;
    struct relay *r = side->relay;

    (void)err;
    if (r->state == RS_OVER)
        return;
    if (side == &r->client && r->state != RS_CLIENT_LEFT) {
        /* the session is over when the backend has ended it */
        conn_free(&side->conn);
        if (r->state == RS_RUN)
            relay_enter(r, RS_ENDING, RELAY_CLIENT_FAILED, HALF_OPEN_MS);
        else
            conn_resume(r->backend.conn);
        return;
    }
    if (r->state == RS_RUN)
        r->end = RELAY_BACKEND_FAILED;
    relay_finish(r);
}

static const struct conn_ops relay_ops = {
    .on_input = relay_on_input,
    .on_drained = relay_on_drained,
    .on_end = relay_on_end,
    .on_bytes = relay_on_bytes,
};

static void relay_on_freed(void *ctx)
{
    struct relay *r = ctx;

    free(r->farewell);
    free(r);
}

static void side_start(struct relay_side *side)
{
    struct buf *early = conn_input(side->conn);

    if (early->used > 0)
        relay_on_bytes(side, early->bytes, early->used);
    buf_wipe(early);
}

/* An EOF that the dialogue before us has seen is not told again. */
static void relay_on_started(void *ctx)
{
    struct relay *r = ctx;

    if (r->is_freed)
        return;
    relay_on_input(&r->client);
    relay_on_input(&r->backend);
}

struct relay *relay_start_take(struct loop *loop, struct conn **client,
                               struct conn **backend, relay_fn *fn, void *ctx)
{
    struct relay *r = mem_alloc(sizeof *r);

    r->loop = loop;
    r->fn = fn;
    r->ctx = ctx;
    r->client = (struct relay_side){r, &r->backend, *client, 0};
    r->backend = (struct relay_side){r, &r->client, *backend, 0};
    *client = *backend = NULL;
    r->backend_spoke_ms = loop_now_ms(loop);
    conn_set_user(r->client.conn, &relay_ops, &r->client);
    conn_set_user(r->backend.conn, &relay_ops, &r->backend);
    /* the limits of the dialogue are not those of the session */
    conn_set_idle_ms(r->client.conn, 0);
    conn_set_idle_ms(r->backend.conn, 0);
    conn_set_deadline_ms(r->client.conn, 0);
    conn_set_deadline_ms(r->backend.conn, 0);
    conn_resume(r->client.conn);
    conn_resume(r->backend.conn);
    side_start(&r->client);
    side_start(&r->backend);
    loop_defer(loop, relay_on_started, r);
    return r;
}

void relay_free(struct relay **relay)
{
    struct relay *r = *relay;

    if (r == NULL)
        return;
    *relay = NULL;
    r->state = RS_OVER;
    r->is_freed = true;
    timer_free(&r->timer);
    conn_free(&r->client.conn);
    conn_free(&r->backend.conn);
    loop_defer(r->loop, relay_on_freed, r);
}

bool relay_is_quiet(const struct relay *r, int64_t quiet_ms)
{
    if (r->state == RS_OVER)
        return true;
    if (r->backend_in_line || r->client_waits ||
        loop_now_ms(r->loop) - r->backend_spoke_ms < quiet_ms)
        return false;
    return (r->client.conn == NULL || conn_output_bytes(r->client.conn) == 0) &&
           (r->backend.conn == NULL || conn_output_bytes(r->backend.conn) == 0);
}

void relay_drain(struct relay *r, const char *farewell, int64_t wait_ms)
{
    if (r->state == RS_OVER || r->is_draining)
        return;
    r->is_draining = true;
    r->farewell = mem_dup_text(farewell);
    if (r->client.conn != NULL)
        conn_pause(r->client.conn);
    if (r->state == RS_CLIENT_LEFT)
        relay_finish(r);
    else
        relay_enter(r, RS_ENDING, RELAY_BACKEND_CLOSED, wait_ms);
}

void relay_cut(struct relay *r, const char *farewell)
{
    if (r->state == RS_OVER)
        return;
    r->state = RS_OVER;
    timer_free(&r->timer);
    conn_free(&r->backend.conn);
    if (r->client.conn == NULL)
        return;
    if (conn_output_bytes(r->client.conn) > 0) {
        conn_free(&r->client.conn); /* nobody waits for who does not read */
        return;
    }
    if (farewell != NULL && !r->backend_in_line)
        conn_write(r->client.conn, farewell, strlen(farewell));
    conn_finish(&r->client.conn);
}

uint64_t relay_bytes_to_client(const struct relay *relay)
{
    return relay->backend.forwarded;
}

uint64_t relay_bytes_to_backend(const struct relay *relay)
{
    return relay->client.forwarded;
}
