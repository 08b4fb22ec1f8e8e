#include "account/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/counts.h"
#include "account/wire.h"
#include "base/channel.h"
#include "base/log.h"
#include "base/mem.h"

#define BACK_OFF_FIRST_MS 100
#define BACK_OFF_MOST_MS  2000
#define CONNECT_WAIT_MS   5000  /* of a question, for the connection */
#define ANSWER_WAIT_MS    30000 /* of a question, in all */

/* DOWN (back-off runs) <-> SETTLING (hello said, holds in force are told) -> UP
   (anything but a hold was heard); CLOSED: being freed */
enum directory_state { DS_DOWN, DS_SETTLING, DS_UP, DS_CLOSED, DS_COUNT };

static const char *const state_name[] = {"down", "settling", "up", "closed"};
_Static_assert(sizeof(state_name) / sizeof(state_name[0]) == DS_COUNT,
               "a name for each state");

/* Questions are a list in order of asking, so that the oldest is the first to
   be answered and the first to be given up. */
struct directory_query {
    struct directory *directory;
    struct directory_query *next;
    int64_t id;
    int64_t asked_at; /* loop_now_ms */
    json_t *message;  /* owned; sent again after each reconnecting */
    directory_answer_fn *fn;
    void *ctx;
};

struct hold {
    struct hold *next;
    int64_t account_id;
    int64_t epoch;
    bool wants_trail; /* once wanted, said with every quiet of this hold */
    bool is_told;     /* on the present connection */
};

struct directory {
    struct loop *loop; /* borrowed */
    char *socket_path;
    char *role;
    const struct directory_ops *ops;
    void *ctx;
    enum directory_state state;
    struct channel *channel; /* NULL when down */
    struct timer *connect_timer;
    struct timer *deadline_timer;
    struct timer *counts_timer;
    uint64_t counts_turn; /* what state knows of the tally */
    int64_t back_off_ms;
    int64_t down_since;
    int64_t last_id;
    struct directory_query *first, **end;
    struct hold *holds;
    int depth; /* of callbacks under way, which may free us */
};

static void directory_enter(struct directory *d, enum directory_state next);

static void query_free(struct directory_query *q)
{
    json_decref(q->message);
    free(q);
}

/* Take it out of the list; the caller owns it. */
static void query_unlink(struct directory *d, struct directory_query *q)
{
    struct directory_query **at = &d->first;

    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    if (d->end == &q->next)
        d->end = at;
}

static void directory_destroy(struct directory *d)
{
    while (d->first != NULL) {
        struct directory_query *q = d->first;

        query_unlink(d, q);
        query_free(q);
    }
    while (d->holds != NULL) {
        struct hold *h = d->holds;

        d->holds = h->next;
        free(h);
    }
    timer_free(&d->connect_timer);
    timer_free(&d->deadline_timer);
    timer_free(&d->counts_timer);
    free(d->socket_path);
    free(d->role);
    free(d);
}

/* Around every callback: -1 when it has freed the directory. */
static void calls_begin(struct directory *d)
{
    d->depth++;
}

static int calls_end(struct directory *d)
{
    if (--d->depth == 0 && d->state == DS_CLOSED) {
        directory_destroy(d);
        return -1;
    }
    return d->state == DS_CLOSED ? -1 : 0;
}

static int64_t query_deadline(const struct directory *d,
                              const struct directory_query *q)
{
    int64_t answer_by = q->asked_at + ANSWER_WAIT_MS;
    int64_t since = q->asked_at > d->down_since ? q->asked_at : d->down_since;

    if (d->state == DS_DOWN && since + CONNECT_WAIT_MS < answer_by)
        return since + CONNECT_WAIT_MS;
    return answer_by;
}

static void watch_deadline(struct directory *d)
{
    int64_t left;

    if (d->first == NULL) {
        timer_cancel(d->deadline_timer);
        return;
    }
    left = query_deadline(d, d->first) - loop_now_ms(d->loop);
    timer_start(d->deadline_timer, left > 0 ? left : 0);
}

static void query_end(struct directory *d, struct directory_query *q,
                      const struct directory_answer *answer,
                      const struct err *err)
{
    query_unlink(d, q);
    watch_deadline(d);
    q->fn(q->ctx, answer, err);
    query_free(q);
}

static void query_fail(struct directory *d, struct directory_query *q)
{
    struct directory_answer answer = {.answer = ROUTE_UNAVAILABLE};
    struct err err;

    err_set(&err, ERR_RETRY, "%s: %s", d->socket_path,
            d->state == DS_DOWN ? "no connection to the state process"
                                : "no answer from the state process");
    query_end(d, q, &answer, &err);
}

static void directory_on_deadline(void *ctx)
{
    struct directory *d = ctx;

    calls_begin(d);
    while (d->state != DS_CLOSED && d->first != NULL &&
           query_deadline(d, d->first) <= loop_now_ms(d->loop))
        query_fail(d, d->first);
    if (calls_end(d) == 0)
        watch_deadline(d);
}

static void send_query(struct directory *d, const struct directory_query *q)
{
    channel_send_take(d->channel, json_incref(q->message), -1);
}

/* Text that does not fit is no answer to act on. */
static int copy_text(const json_t *message, const char *field, char *out,
                     size_t size, struct err *err)
{
    const char *text = wire_text(message, field);
    int length = snprintf(out, size, "%s", text == NULL ? "" : text);

    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_PEER, "state: \"%s\" is too long", field);
    return 0;
}

static int copy_url(const json_t *message, const char *field,
                    struct mail_url *out, struct err *err)
{
    const char *text = wire_text(message, field);

    if (text == NULL || text[0] == '\0')
        return 0;
    return mail_url_parse(text, out, err);
}

static int decode_answer(const json_t *message, struct directory_answer *out,
                         struct err *err)
{
    int answer = route_answer_named(wire_text(message, "answer"));
    int password = password_state_named(wire_text(message, "password_state"));

    memset(out, 0, sizeof(*out));
    if (answer == -1 || answer == ROUTE_WAIT)
        return err_set(err, ERR_PEER, "state: no answer in its answer");
    out->answer = (enum route_answer)answer;
    out->account_id = wire_int(message, "account", 0);
    out->may_ask_legacy = wire_bool(message, "ask_legacy");
    out->epoch = wire_int(message, "epoch", 0);
    out->version = wire_int(message, "version", 0);
    out->password_state =
        password == -1 ? PASSWORD_NONE : (enum password_state)password;
    if (copy_text(message, "address", out->address, sizeof(out->address),
                  err) == -1 ||
        copy_text(message, "legacy_user", out->legacy_user,
                  sizeof(out->legacy_user), err) == -1 ||
        copy_text(message, "local_user", out->local_user,
                  sizeof(out->local_user), err) == -1)
        return -1;
    if (copy_url(message, "imap", &out->legacy_imap, err) == -1 ||
        copy_url(message, "pop3", &out->legacy_pop3, err) == -1 ||
        copy_url(message, "smtp", &out->legacy_smtp, err) == -1)
        return -1;
    return 0;
}

static void on_answer(struct directory *d, const json_t *message)
{
    int64_t id = wire_int(message, "id", -1);
    struct directory_query *q = d->first;
    struct directory_answer answer;
    struct err err;

    while (q != NULL && q->id != id)
        q = q->next;
    if (q == NULL)
        return; /* cancelled, given up, or answered on the last connection */
    err_clear(&err);
    if (decode_answer(message, &answer, &err) == -1) {
        memset(&answer, 0, sizeof(answer));
        answer.answer = ROUTE_UNAVAILABLE;
        log_error("directory bad-answer reason=\"%s\"", err.text);
    }
    query_end(d, q, &answer, &err);
}

static struct hold **find_hold(struct directory *d, int64_t account_id)
{
    struct hold **at = &d->holds;

    while (*at != NULL && (*at)->account_id != account_id)
        at = &(*at)->next;
    return at;
}

static void on_hold(struct directory *d, const json_t *message)
{
    const char *address = wire_text(message, "address");
    const char *side = wire_text(message, "side");
    struct directory_hold told = {
        .account_id = wire_int(message, "account", 0),
        .epoch = wire_int(message, "epoch", 0),
        .quiet_within_ms = wire_int(message, "quiet_within_ms", 0),
        .side = side != NULL && strcmp(side, "local") == 0 ? HOLD_LOCAL
                                                           : HOLD_LEGACY,
        .address = address != NULL ? address : ""};
    struct hold **at = find_hold(d, told.account_id);
    struct hold *h = *at;

    if (h == NULL) {
        h = *at = mem_alloc(sizeof(*h));
        h->account_id = told.account_id;
    }
    if (h->epoch != told.epoch)
        h->wants_trail = false;
    h->epoch = told.epoch;
    h->is_told = true;
    log_debug("directory hold account=%lld epoch=%lld side=%s",
              (long long)told.account_id, (long long)told.epoch,
              told.side == HOLD_LOCAL ? "local" : "legacy");
    d->ops->on_hold(d->ctx, &told);
}

static void on_release(struct directory *d, int64_t account_id, int64_t epoch)
{
    struct hold **at = find_hold(d, account_id);
    struct hold *h = *at;

    if (h != NULL && h->epoch <= epoch) {
        *at = h->next;
        free(h);
    }
    log_debug("directory release account=%lld epoch=%lld",
              (long long)account_id, (long long)epoch);
    d->ops->on_release(d->ctx, account_id, epoch);
}

static const char *text_or(const char *text, const char *missing)
{
    return text != NULL ? text : missing;
}

static void on_kick(struct directory *d, const json_t *message)
{
    int64_t account_id = wire_int(message, "account", 0);
    const char *service = text_or(wire_text(message, "service"), "all");

    log_debug("directory kick account=%lld service=%s", (long long)account_id,
              log_safe(service));
    if (d->ops->on_kick != NULL)
        d->ops->on_kick(d->ctx, account_id,
                        text_or(wire_text(message, "address"), ""), service,
                        text_or(wire_text(message, "reason"), "kicked"));
}

static void on_forget(struct directory *d, const json_t *message)
{
    if (d->ops->on_forget != NULL)
        d->ops->on_forget(d->ctx, wire_int(message, "account", 0),
                          text_or(wire_text(message, "address"), ""));
}

/* A state process that started anew has undone the holds of the last one, and
   nobody will release them: what it has not told again is over. */
static void release_forgotten(struct directory *d)
{
    struct hold *h = d->holds;

    while (h != NULL && d->state != DS_CLOSED) {
        if (h->is_told) {
            h = h->next;
            continue;
        }
        on_release(d, h->account_id, h->epoch);
        h = d->holds; /* the callback may have changed the list */
    }
}

static void directory_on_message(void *ctx, json_t *message, int fd)
{
    struct directory *d = ctx;
    const char *m = wire_text(message, "m");

    if (fd != -1)
        close(fd);
    if (m == NULL)
        return;
    calls_begin(d);
    d->back_off_ms = BACK_OFF_FIRST_MS;
    if (d->state == DS_SETTLING && strcmp(m, "hold") != 0)
        directory_enter(d, DS_UP);
    if (d->state != DS_CLOSED) {
        if (strcmp(m, "answer") == 0)
            on_answer(d, message);
        else if (strcmp(m, "hold") == 0)
            on_hold(d, message);
        else if (strcmp(m, "kick") == 0)
            on_kick(d, message);
        else if (strcmp(m, "forget") == 0)
            on_forget(d, message);
        else if (strcmp(m, "counted") == 0 && d->ops->on_counted != NULL)
            d->ops->on_counted(d->ctx);
        else if (strcmp(m, "release") == 0)
            on_release(d, wire_int(message, "account", 0),
                       wire_int(message, "epoch", 0));
    }
    calls_end(d);
}

static void directory_on_closed(void *ctx)
{
    struct directory *d = ctx;

    log_warn("directory lost socket=%s", d->socket_path);
    directory_enter(d, DS_DOWN);
}

static void say_hello(struct directory *d)
{
    json_t *hello = json_object();

    json_object_set_new(hello, "m", json_string("hello"));
    json_object_set_new(hello, "role", json_string(d->role));
    json_object_set_new(hello, "pid", json_integer(getpid()));
    channel_send_take(d->channel, hello, -1);
}

static void connect_later(struct directory *d)
{
    timer_start(d->connect_timer, d->back_off_ms);
    d->back_off_ms *= 2;
    if (d->back_off_ms > BACK_OFF_MOST_MS)
        d->back_off_ms = BACK_OFF_MOST_MS;
}

static void directory_on_connect_timer(void *ctx)
{
    struct directory *d = ctx;
    struct err err;
    int fd = channel_connect_unix(d->socket_path, &err);

    if (fd == -1) {
        log_debug("directory unreachable reason=\"%s\"", err.text);
        connect_later(d);
        return;
    }
    d->channel = channel_new_take(d->loop, fd, directory_on_message,
                                  directory_on_closed, d);
    directory_enter(d, DS_SETTLING);
}

static void on_counts_timer(void *ctx)
{
    struct directory *d = ctx;
    json_t *message = d->channel ? counts_message(&d->counts_turn) : NULL;

    if (message != NULL)
        channel_send_take(d->channel, message, -1);
    timer_start(d->counts_timer, COUNTS_EVERY_MS);
}

/* The only writer of d->state. */
static void directory_enter(struct directory *d, enum directory_state next)
{
    log_debug("directory state %s -> %s", state_name[d->state],
              state_name[next]);
    d->state = next;
    switch (next) {
    case DS_DOWN:
        channel_free(&d->channel);
        d->down_since = loop_now_ms(d->loop);
        connect_later(d);
        watch_deadline(d);
        break;
    case DS_SETTLING:
        for (struct hold *h = d->holds; h != NULL; h = h->next)
            h->is_told = false;
        say_hello(d);
        d->counts_turn = 0; /* another state process may listen now */
        for (struct directory_query *q = d->first; q != NULL; q = q->next)
            send_query(d, q);
        watch_deadline(d);
        break;
    case DS_UP: release_forgotten(d); break;
    case DS_CLOSED: channel_free(&d->channel); break;
    case DS_COUNT: break;
    }
}

struct directory *directory_new(struct loop *loop, const char *socket_path,
                                const char *role,
                                const struct directory_ops *ops, void *ctx)
{
    struct directory *d = mem_alloc(sizeof(*d));

    d->loop = loop;
    d->socket_path = mem_dup_text(socket_path);
    d->role = mem_dup_text(role);
    d->ops = ops;
    d->ctx = ctx;
    d->end = &d->first;
    d->state = DS_DOWN;
    d->back_off_ms = BACK_OFF_FIRST_MS;
    d->down_since = loop_now_ms(loop);
    d->connect_timer = timer_new(loop, directory_on_connect_timer, d);
    d->deadline_timer = timer_new(loop, directory_on_deadline, d);
    d->counts_timer = timer_new(loop, on_counts_timer, d);
    timer_start(d->counts_timer, COUNTS_EVERY_MS);
    timer_start(d->connect_timer, 0);
    return d;
}

void directory_free(struct directory **directory)
{
    struct directory *d = *directory;

    *directory = NULL;
    if (d == NULL)
        return;
    calls_begin(d);
    directory_enter(d, DS_CLOSED);
    calls_end(d);
}

static struct directory_query *query_start(struct directory *d, json_t *message,
                                           directory_answer_fn *fn, void *ctx)
{
    struct directory_query *q = mem_alloc(sizeof(*q));

    q->directory = d;
    q->id = ++d->last_id;
    q->asked_at = loop_now_ms(d->loop);
    q->message = message;
    q->fn = fn;
    q->ctx = ctx;
    json_object_set_new(message, "id", json_integer(q->id));
    *d->end = q;
    d->end = &q->next;
    if (d->channel != NULL)
        send_query(d, q);
    if (d->first == q)
        watch_deadline(d);
    return q;
}

struct directory_query *directory_ask(struct directory *d,
                                      enum route_service service,
                                      const char *typed,
                                      directory_answer_fn *fn, void *ctx)
{
    json_t *message = json_object();

    json_object_set_new(message, "m", json_string("ask"));
    json_object_set_new(
        message, "service",
        json_string(service == SERVICE_MAIL ? "mail" : "login"));
    json_object_set_new(message, "name", json_string(typed));
    return query_start(d, message, fn, ctx);
}

struct directory_query *directory_learn(struct directory *d,
                                        const struct directory_learn *learnt,
                                        directory_answer_fn *fn, void *ctx)
{
    json_t *message = json_object();

    json_object_set_new(message, "m", json_string("learn"));
    json_object_set_new(message, "name", json_string(learnt->typed));
    json_object_set_new(message, "legacy_user",
                        json_string(learnt->legacy_user));
    json_object_set_new(message, "via", json_string(learnt->via));
    if (learnt->prefix != NULL)
        json_object_set_new(message, "prefix", json_string(learnt->prefix));
    if (learnt->separator != NULL)
        json_object_set_new(message, "separator",
                            json_string(learnt->separator));
    if (learnt->uidvalidity != 0)
        json_object_set_new(message, "uidvalidity",
                            json_integer(learnt->uidvalidity));
    wire_put_seal(message, learnt->seal);
    return query_start(d, message, fn, ctx);
}

void directory_cancel(struct directory_query **query)
{
    struct directory_query *q = *query;

    *query = NULL;
    if (q == NULL)
        return;
    query_unlink(q->directory, q);
    if (q->directory->state != DS_CLOSED)
        watch_deadline(q->directory);
    query_free(q);
}

/* A message about an account; NULL without a connection. */
static json_t *tell(struct directory *d, const char *m, int64_t account_id)
{
    json_t *message;

    if (d->channel == NULL)
        return NULL;
    message = json_object();
    json_object_set_new(message, "m", json_string(m));
    json_object_set_new(message, "account", json_integer(account_id));
    return message;
}

void directory_confirm(struct directory *d, int64_t account_id)
{
    json_t *message = tell(d, "confirm", account_id);

    if (message != NULL)
        channel_send_take(d->channel, message, -1);
}

bool directory_strangers(struct directory *d, json_t *addresses)
{
    json_t *message;

    if (d->channel == NULL || d->state != DS_UP)
        return false;
    message = json_object();
    json_object_set_new(message, "m", json_string("stranger"));
    json_object_set(message, "addresses", addresses);
    channel_send_take(d->channel, message, -1);
    return true;
}

void directory_busy(struct directory *d, int64_t account_id, int64_t epoch)
{
    json_t *message = tell(d, "busy", account_id);

    if (message == NULL)
        return;
    json_object_set_new(message, "epoch", json_integer(epoch));
    channel_send_take(d->channel, message, -1);
}

void directory_quiet(struct directory *d, int64_t account_id, int64_t epoch,
                     bool wants_trail)
{
    struct hold *h = *find_hold(d, account_id);
    json_t *message = tell(d, "quiet", account_id);

    if (h != NULL && h->epoch == epoch) {
        h->wants_trail |= wants_trail;
        wants_trail = h->wants_trail;
    }
    if (message == NULL)
        return;
    json_object_set_new(message, "epoch", json_integer(epoch));
    json_object_set_new(message, "trail", json_boolean(wants_trail));
    channel_send_take(d->channel, message, -1);
}
