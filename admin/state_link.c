#include "admin/state_link.h"

#include <stdlib.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/channel.h"
#include "base/log.h"
#include "base/mem.h"

#define CONNECT_MS 250 /* between two tries */
#define TICK_MS    250 /* how exactly deadlines are kept */
#define QUESTIONS_MAX                                                          \
    1000 /* under way; more are told at once that state is                     \
            not there */

struct question {
    struct question *next;
    int64_t id;
    int64_t until_ms; /* loop time */
    state_link_fn *fn;
    void *ctx;
};

struct state_link {
    struct loop *loop; /* borrowed */
    char *path;        /* owned */
    struct channel *channel;
    struct timer *connect, *tick;
    struct question *questions;
    unsigned count;
    int64_t last_id;
};

/* Out of the list, answered and freed. */
static void finish(struct state_link *link, struct question **at,
                   const json_t *answer)
{
    struct question *q = *at;

    *at = q->next;
    link->count--;
    q->fn(q->ctx, answer);
    free(q);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct state_link *link = ctx;
    int64_t id = wire_int(message, "id", 0);
    struct question **at = &link->questions;

    if (fd >= 0)
        close(fd);
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    if (*at)
        finish(link, at, message);
}

static void on_closed(void *ctx)
{
    struct state_link *link = ctx;

    channel_free(&link->channel);
    /* state will not answer what it has forgotten */
    while (link->questions)
        finish(link, &link->questions, NULL);
    timer_start(link->connect, CONNECT_MS);
}

static void on_connect(void *ctx)
{
    struct state_link *link = ctx;
    struct err err;
    int fd = channel_connect_unix(link->path, &err);

    if (fd == -1) {
        log_debug("state unreachable reason=\"%s\"", err.text);
        timer_start(link->connect, CONNECT_MS);
        return;
    }
    link->channel =
        channel_new_take(link->loop, fd, on_message, on_closed, link);
    channel_send_take(link->channel,
                      json_pack("{s:s,s:s,s:i}", "m", "hello", "role", "admin",
                                "pid", (int)getpid()),
                      -1);
}

static void on_tick(void *ctx)
{
    struct state_link *link = ctx;
    struct question **at = &link->questions;

    while (*at) {
        if ((*at)->until_ms <= loop_now_ms(link->loop))
            finish(link, at, NULL);
        else
            at = &(*at)->next;
    }
    timer_start(link->tick, TICK_MS);
}

struct state_link *state_link_new(struct loop *loop, const char *socket_path)
{
    struct state_link *link = mem_alloc(sizeof(*link));

    link->loop = loop;
    link->path = mem_dup_text(socket_path);
    link->connect = timer_new(loop, on_connect, link);
    link->tick = timer_new(loop, on_tick, link);
    timer_start(link->connect, 0);
    timer_start(link->tick, TICK_MS);
    return link;
}

void state_link_free(struct state_link **at)
{
    struct state_link *link = *at;

    if (link == NULL)
        return;
    *at = NULL;
    while (link->questions) {
        struct question *q = link->questions;

        link->questions = q->next;
        free(q);
    }
    channel_free(&link->channel);
    timer_free(&link->connect);
    timer_free(&link->tick);
    free(link->path);
    free(link);
}

void state_link_ask(struct state_link *link, json_t *question, int64_t wait_ms,
                    state_link_fn *fn, void *ctx)
{
    struct question *q = mem_alloc(sizeof(*q));
    bool can_ask = link->channel != NULL && link->count < QUESTIONS_MAX;

    q->id = ++link->last_id;
    q->until_ms = can_ask ? loop_now_ms(link->loop) + wait_ms : 0;
    q->fn = fn;
    q->ctx = ctx;
    q->next = link->questions;
    link->questions = q;
    link->count++;
    json_object_set_new(question, "id", json_integer(q->id));
    if (can_ask)
        channel_send_take(link->channel, question, -1);
    else
        json_decref(question); /* the next tick says so */
}
