#include "login-proxy/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

#define ACCEPTS_A_TURN 64
#define REST_MS        200 /* a full process looks again so often */

static void listener_rest(struct listener *l)
{
    watch_want(l->watch, false, false);
    timer_start(l->rest, REST_MS);
}

static void listener_on_rested(void *ctx)
{
    struct listener *l = ctx;

    watch_want(l->watch, true, false);
}

/* False when nothing more is to be had in this turn. */
static bool listener_accept(struct listener *l)
{
    int fd;

    if (!l->has_room(l->ctx)) {
        listener_rest(l);
        return false;
    }
    fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        l->on_accept(l->ctx, l, fd);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        /* the socket stays readable: without a rest the loop would spin */
        log_warn("listener full error=\"%s\"", strerror(errno));
        listener_rest(l);
        return false;
    case EINTR:
    case ECONNABORTED:
    case EPROTO: return true;
    default: /* EAGAIN: another process was faster */ return false;
    }
}

static void listener_on_readable(int fd, bool can_read, bool can_write,
                                 void *ctx)
{
    struct listener *l = ctx;

    (void)fd;
    (void)can_write;
    if (!can_read)
        return;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (!listener_accept(l))
            return;
    }
}

void listener_start(struct listener *l, struct loop *loop)
{
    int flags = fcntl(l->fd, F_GETFL);

    if (flags != -1)
        fcntl(l->fd, F_SETFL, flags | O_NONBLOCK);
    l->loop = loop;
    l->rest = timer_new(loop, listener_on_rested, l);
    l->watch = watch_new(loop, l->fd, listener_on_readable, l);
    watch_want(l->watch, true, false);
}

void listener_stop(struct listener *l)
{
    watch_free(&l->watch);
    timer_free(&l->rest);
}
