#include "base/loop.h"

#include "base/loop_inside.h"
#include "base/mem.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

struct deferred {
    loop_fn *fn;
    void *ctx;
};

struct signal_watch {
    struct event event;
    loop_fn *fn;
    void *ctx;
    struct signal_watch *next;
};

struct survivor {
    loop_fn *fn;
    void *ctx;
    struct survivor *next;
    struct survivor **link; /* what points at this one */
};

struct loop {
    struct event_base *base;
    struct deferred *deferred; /* owned; in order of asking */
    size_t deferred_count;
    size_t deferred_size;
    struct deferred *running; /* owned; the list of the turn before */
    size_t running_size;
    struct signal_watch *signals; /* owned */
    struct survivor *survivors;   /* owned */
    bool is_stopped;
};

struct timer {
    struct event event;
    loop_fn *fn;
    void *ctx;
};

/* Writing is seldom waited for, so its event is there only while it is. */
struct watch {
    struct event read_event;
    struct event *write_event; /* owned */
    watch_fn *fn;
    void *ctx;
    struct loop *loop; /* borrowed */
    int fd;
    bool wants_read;
};

struct loop *loop_new(void)
{
    struct loop *loop = mem_alloc(sizeof *loop);

    loop->base = event_base_new();
    if (loop->base == NULL)
        abort();
    /* a peer that has gone must be an error of write(), not our end */
    signal(SIGPIPE, SIG_IGN);
    return loop;
}

struct event_base *loop_event_base(struct loop *loop)
{
    return loop->base;
}

static void run_deferred(struct loop *loop)
{
    struct deferred *list = loop->deferred;
    size_t count = loop->deferred_count, size = loop->deferred_size, i;

    /* what these ask for goes to the other list, for the next turn */
    loop->deferred = loop->running;
    loop->deferred_size = loop->running_size;
    loop->deferred_count = 0;
    loop->running = list;
    loop->running_size = size;
    for (i = 0; i < count; i++)
        list[i].fn(list[i].ctx);
}

void loop_free(struct loop **loop_ref)
{
    struct loop *loop = *loop_ref;

    if (loop == NULL)
        return;
    /* these may still reach the loop by the caller's pointer */
    while (loop->deferred_count > 0 || loop->survivors != NULL) {
        run_deferred(loop);
        if (loop->survivors != NULL)
            loop->survivors->fn(loop->survivors->ctx);
    }
    while (loop->signals != NULL) {
        struct signal_watch *s = loop->signals;

        loop->signals = s->next;
        event_del(&s->event);
        free(s);
    }
    event_base_free(loop->base);
    free(loop->deferred);
    free(loop->running);
    free(loop);
    *loop_ref = NULL;
}

void loop_run(struct loop *loop)
{
    loop->is_stopped = false;
    while (!loop->is_stopped) {
        int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

        if (loop->deferred_count > 0)
            flags = EVLOOP_NONBLOCK;
        if (event_base_loop(loop->base, flags) == -1)
            abort();
        run_deferred(loop);
    }
}

void loop_stop(struct loop *loop)
{
    loop->is_stopped = true;
}

int64_t loop_now_ms(struct loop *loop)
{
    struct timespec now;

    (void)loop;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void loop_defer(struct loop *loop, loop_fn *fn, void *ctx)
{
    if (loop->deferred_count == loop->deferred_size) {
        loop->deferred_size = loop->deferred_size * 2 + 16;
        loop->deferred = mem_grow(loop->deferred,
                                  loop->deferred_size * sizeof *loop->deferred);
    }
    loop->deferred[loop->deferred_count].fn = fn;
    loop->deferred[loop->deferred_count].ctx = ctx;
    loop->deferred_count++;
}

struct survivor *loop_survive(struct loop *loop, loop_fn *fn, void *ctx)
{
    struct survivor *s = mem_alloc(sizeof *s);

    s->fn = fn;
    s->ctx = ctx;
    s->next = loop->survivors;
    s->link = &loop->survivors;
    if (s->next != NULL)
        s->next->link = &s->next;
    loop->survivors = s;
    return s;
}

void loop_forget(struct loop *loop, struct survivor **survivor)
{
    struct survivor *s = *survivor;

    (void)loop;
    if (s == NULL)
        return;
    *survivor = NULL;
    *s->link = s->next;
    if (s->next != NULL)
        s->next->link = s->link;
    free(s);
}

static void signal_on_arrival(evutil_socket_t signal_number, short what,
                              void *ctx)
{
    struct signal_watch *s = ctx;

    (void)signal_number;
    (void)what;
    s->fn(s->ctx);
}

void loop_on_signal(struct loop *loop, int signal_number, loop_fn *fn,
                    void *ctx)
{
    struct signal_watch *s = mem_alloc(sizeof *s);

    s->fn = fn;
    s->ctx = ctx;
    s->next = loop->signals;
    loop->signals = s;
    event_assign(&s->event, loop->base, signal_number, EV_SIGNAL | EV_PERSIST,
                 signal_on_arrival, s);
    event_add(&s->event, NULL);
}

static void timer_on_expiry(evutil_socket_t fd, short what, void *ctx)
{
    struct timer *timer = ctx;

    (void)fd;
    (void)what;
    timer->fn(timer->ctx);
}

struct timer *timer_new(struct loop *loop, loop_fn *fn, void *ctx)
{
    struct timer *timer = mem_alloc(sizeof *timer);

    timer->fn = fn;
    timer->ctx = ctx;
    event_assign(&timer->event, loop->base, -1, 0, timer_on_expiry, timer);
    return timer;
}

void timer_free(struct timer **timer)
{
    if (*timer == NULL)
        return;
    event_del(&(*timer)->event);
    free(*timer);
    *timer = NULL;
}

void timer_start(struct timer *timer, int64_t wait_ms)
{
    struct timeval wait;

    if (wait_ms < 0)
        wait_ms = 0;
    wait.tv_sec = (time_t)(wait_ms / 1000);
    wait.tv_usec = (suseconds_t)(wait_ms % 1000) * 1000;
    event_add(&timer->event, &wait);
}

void timer_cancel(struct timer *timer)
{
    event_del(&timer->event);
}

bool timer_is_running(const struct timer *timer)
{
    return event_pending(&timer->event, EV_TIMEOUT, NULL) != 0;
}

static void watch_on_event(evutil_socket_t fd, short what, void *ctx)
{
    struct watch *watch = ctx;

    watch->fn(fd, (what & EV_READ) != 0, (what & EV_WRITE) != 0, watch->ctx);
}

struct watch *watch_new(struct loop *loop, int fd, watch_fn *fn, void *ctx)
{
    struct watch *watch = mem_alloc(sizeof *watch);

    watch->fn = fn;
    watch->ctx = ctx;
    watch->loop = loop;
    watch->fd = fd;
    event_assign(&watch->read_event, loop->base, fd, EV_READ | EV_PERSIST,
                 watch_on_event, watch);
    return watch;
}

void watch_free(struct watch **watch)
{
    if (*watch == NULL)
        return;
    watch_want(*watch, false, false);
    free(*watch);
    *watch = NULL;
}

void watch_want(struct watch *watch, bool read, bool write)
{
    if (read && !watch->wants_read)
        event_add(&watch->read_event, NULL);
    if (write && watch->write_event == NULL) {
        watch->write_event =
            event_new(watch->loop->base, watch->fd, EV_WRITE | EV_PERSIST,
                      watch_on_event, watch);
        if (watch->write_event == NULL)
            abort();
        event_add(watch->write_event, NULL);
    }
    if (!read && watch->wants_read)
        event_del(&watch->read_event);
    if (!write && watch->write_event != NULL) {
        event_free(watch->write_event);
        watch->write_event = NULL;
    }
    watch->wants_read = read;
}
