/*
 * The event loop of a process: timers, file descriptors, signals, and work put
 * off to the end of the turn. Wraps libevent, which nothing outside base/ sees.
 * Nothing called from the loop may block.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct survivor;
struct timer;
struct watch;

typedef void loop_fn(void *ctx);
typedef void watch_fn(int fd, bool can_read, bool can_write, void *ctx);

/* Ignores SIGPIPE for the process. */
struct loop *loop_new(void);
/* What is still put off is done first. */
void loop_free(struct loop **loop);

/* Run until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Monotonic milliseconds, as of this turn of the loop. */
int64_t loop_now_ms(struct loop *loop);

/* Call fn(ctx) once, after the callbacks of this turn, in order of asking. Used
   to free what is still on the stack, and to commit what a turn has written. */
void loop_defer(struct loop *loop, loop_fn *fn, void *ctx);

/* Have loop_free() call fn(ctx), which frees an object that lives on without
   its user and would go by itself a little later. Forgotten when it has gone.
 */
struct survivor *loop_survive(struct loop *loop, loop_fn *fn, void *ctx);
void loop_forget(struct loop *loop, struct survivor **survivor);

/* Call fn(ctx) for each arrival of the signal. Lasts as long as the loop. */
void loop_on_signal(struct loop *loop, int signal_number, loop_fn *fn,
                    void *ctx);

/* A timer that is not running. */
struct timer *timer_new(struct loop *loop, loop_fn *fn, void *ctx);
void timer_free(struct timer **timer);
/* Run once after wait_ms; a running timer is set anew. */
void timer_start(struct timer *timer, int64_t wait_ms);
void timer_cancel(struct timer *timer);
bool timer_is_running(const struct timer *timer);

/* Watch a file descriptor (borrowed) while it is readable or writable. */
struct watch *watch_new(struct loop *loop, int fd, watch_fn *fn, void *ctx);
void watch_free(struct watch **watch);
/* Level-triggered. Both false: silent. */
void watch_want(struct watch *watch, bool read, bool write);

#endif
