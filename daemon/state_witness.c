/*
 * The witness journal, as state keeps it: a record of each change of a route,
 * on disk after the row is committed and before the new side serves anybody.
 * The disk of the store may be slow: a thread writes, many records at once.
 *
 * At the start the journal's last generation is compared with the db's. A later
 * one means that the db was put back from a copy: the accounts that have moved
 * since are refused until `mailhaul db rebuild`.
 */
#include "daemon/state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "account/witness.h"
#include "account/wire.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/counters.h"
#include "db/refused.h"

#define BATCH_BYTES     (1u << 20)
#define COUNTER_DOMAINS "domains_witnessed"

/* A line on its way to the disk. */
struct record {
    struct record *next;
    char *line; /* owned */
    size_t length;
    int64_t account_id; /* 0: a domain, or a record written again */
    int64_t generation;
    int64_t domains_sum; /* kept once it is on disk; 0: none */
    void (*fn)(struct state *s, int64_t account_id);
    struct err err; /* ERR_NONE: it is on disk */
};

/* What became of an account's record, until it is asked for. */
struct note {
    struct note *next;
    int64_t account_id, generation;
    enum state_witness_word word;
};

struct state_witness {
    struct state *state;
    int fd;
    int64_t top; /* the latest generation given to the writer */
    struct watch *watch;
    int done_fd; /* eventfd: the thread has something for the loop */
    struct note *notes;
    pthread_mutex_t lock; /* of the two lists */
    pthread_cond_t is_filled;
    struct record *waiting, **waiting_end;
    struct record *done;
};

/* --- the thread */

static void flush(struct state_witness *w, struct buf *text, struct err *err)
{
    if (text->used > 0 && err->kind == ERR_NONE)
        witness_append(w->fd, text->bytes, text->used, err);
    buf_clear(text);
}

static void write_batch(struct state_witness *w, struct record *batch)
{
    struct buf text;
    struct err err;

    err_clear(&err);
    buf_init(&text, BATCH_BYTES);
    for (const struct record *r = batch; r; r = r->next) {
        if (text.used + r->length > BATCH_BYTES)
            flush(w, &text, &err);
        buf_append(&text, r->line, r->length);
    }
    flush(w, &text, &err);
    buf_release(&text);
    for (struct record *r = batch; r; r = r->next)
        r->err = err;
}

static void *write_records(void *ctx)
{
    struct state_witness *w = ctx;
    uint64_t one = 1;

    for (;;) {
        struct record *batch, **end;

        pthread_mutex_lock(&w->lock);
        while (!w->waiting)
            pthread_cond_wait(&w->is_filled, &w->lock);
        batch = w->waiting;
        w->waiting = NULL;
        w->waiting_end = &w->waiting;
        pthread_mutex_unlock(&w->lock);
        write_batch(w, batch);
        pthread_mutex_lock(&w->lock);
        for (end = &w->done; *end; end = &(*end)->next)
            continue;
        *end = batch;
        pthread_mutex_unlock(&w->lock);
        if (write(w->done_fd, &one, sizeof(one)) != sizeof(one))
            _exit(1); /* nobody would ever be told */
    }
    return NULL;
}

static void start_thread(struct state_witness *w)
{
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&thread, NULL, write_records, w) != 0) {
        log_error("no thread for the witness journal");
        _exit(1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
}

static void hand_over(struct state_witness *w, struct record record,
                      const char *line)
{
    struct record *r = mem_dup(&record, sizeof(record));

    r->line = mem_dup(line, record.length);
    pthread_mutex_lock(&w->lock);
    *w->waiting_end = r;
    w->waiting_end = &r->next;
    pthread_cond_signal(&w->is_filled);
    pthread_mutex_unlock(&w->lock);
}

/* --- records of accounts */

static size_t account_line(struct state_witness *w, const struct account *a,
                           char line[WITNESS_LINE_MAX])
{
    struct witness record = {.generation = a->generation,
                             .epoch = a->epoch,
                             .route = a->route,
                             .at = a->route == ROUTE_LOCAL ? a->flipped_at
                                                           : a->rolled_back_at,
                             .has_prefix = a->has_prefix};

    memcpy(record.address, a->address, sizeof(record.address));
    memcpy(record.legacy_user, a->legacy_user, sizeof(record.legacy_user));
    memcpy(record.prefix, a->legacy_prefix, sizeof(record.prefix));
    memcpy(record.separator, a->legacy_separator, sizeof(record.separator));
    if (a->generation > w->top)
        w->top = a->generation;
    return witness_format(&record, w->top, line);
}

static struct note **find_note(struct state_witness *w, int64_t account_id)
{
    struct note **at = &w->notes;

    while (*at && (*at)->account_id != account_id)
        at = &(*at)->next;
    return at;
}

static void drop_note(struct note **at)
{
    struct note *note = *at;

    *at = note->next;
    free(note);
}

static enum state_witness_word
begin(struct state_witness *w, const struct account *a, state_account_fn *fn)
{
    struct record record = {
        .account_id = a->id, .generation = a->generation, .fn = fn};
    struct note *note;
    char line[WITNESS_LINE_MAX];

    record.length = account_line(w, a, line);
    if (record.length == 0)
        return WITNESS_FAILED;
    note = mem_alloc(sizeof(*note));
    note->account_id = a->id;
    note->generation = a->generation;
    note->word = WITNESS_WRITING;
    note->next = w->notes;
    w->notes = note;
    hand_over(w, record, line);
    return WITNESS_WRITING;
}

enum state_witness_word state_witness_ask(struct state *s,
                                          const struct account *a,
                                          state_account_fn *fn)
{
    struct state_witness *w = s->witness;
    struct note **at;
    enum state_witness_word word;

    if (!w || a->generation == 0 || a->route == ROUTE_HELD ||
        a->provisioned_epoch == a->epoch ||
        a->provisioned_epoch == ACCOUNT_REMINDED)
        return WITNESS_KEPT;
    at = find_note(w, a->id);
    if (!*at || (*at)->generation != a->generation) {
        if (*at) /* of an earlier change */
            drop_note(at);
        return begin(w, a, fn);
    }
    word = (*at)->word;
    if (word == WITNESS_FAILED)
        drop_note(at);
    return word;
}

void state_witness_told(struct state *s, int64_t account_id)
{
    struct note **at = s->witness ? find_note(s->witness, account_id) : NULL;

    if (at && *at && (*at)->word != WITNESS_WRITING)
        drop_note(at);
}

/* --- records of domains */

struct domains {
    struct state_witness *w;
    const char *only; /* NULL: all */
    int64_t sum;      /* of all of them */
    bool is_found;
};

static int64_t sum_of(const char *text)
{
    uint64_t sum = 14695981039346656037u;

    for (; *text != '\0'; text++)
        sum = (sum ^ (unsigned char)*text) * 1099511628211u;
    return (int64_t)(sum >> 1);
}

static int add_to_sum(void *ctx, const struct domain *d)
{
    struct domains *all = ctx;
    char line[WITNESS_LINE_MAX];

    /* top is not part of what is compared */
    if (witness_format_domain(d, false, 0, line) > 0)
        all->sum ^= sum_of(line);
    return 0;
}

static int tell_domain(void *ctx, const struct domain *d)
{
    struct domains *all = ctx;
    struct record record = {.domains_sum = all->sum};
    char line[WITNESS_LINE_MAX];

    if (all->only && strcmp(all->only, d->name) != 0)
        return 0;
    all->is_found = true;
    record.length = witness_format_domain(d, false, all->w->top, line);
    if (record.length > 0)
        hand_over(all->w, record, line);
    return 0;
}

static void tell_gone(struct domains *all)
{
    struct record record = {.domains_sum = all->sum};
    struct domain gone = {.id = 0};
    char line[WITNESS_LINE_MAX];

    snprintf(gone.name, sizeof(gone.name), "%s", all->only);
    record.length = witness_format_domain(&gone, true, all->w->top, line);
    if (record.length > 0)
        hand_over(all->w, record, line);
}

void state_witness_domains(struct state *s, const char *only)
{
    struct domains all = {.w = s->witness, .only = only};
    int64_t told;
    struct err err;

    if (!s->witness || s->is_full)
        return;
    state_must(domain_each(s->db, add_to_sum, &all, &err), &err);
    state_must(counter_get(s->db, COUNTER_DOMAINS, &told, &err), &err);
    if (told == all.sum)
        return;
    state_must(domain_each(s->db, tell_domain, &all, &err), &err);
    if (only && !all.is_found)
        tell_gone(&all);
}

/* --- what the thread has done */

static void take_done(struct state_witness *w, struct record *r)
{
    struct state *s = w->state;
    struct note **at = find_note(w, r->account_id);
    bool is_kept = r->err.kind == ERR_NONE;
    struct err err;

    if (!is_kept)
        log_error("%s", r->err.text);
    if (is_kept && r->domains_sum && !s->is_full) {
        state_write(s);
        state_must(counter_set(s->db, COUNTER_DOMAINS, r->domains_sum, &err),
                   &err);
    }
    if (*at && (*at)->generation == r->generation)
        (*at)->word = is_kept ? WITNESS_KEPT : WITNESS_FAILED;
    if (!is_kept && r->account_id)
        s->is_unsettled = true; /* again with the next tick */
    if (r->fn)
        state_after(s, r->fn, r->account_id);
}

static void on_done(int fd, bool can_read, bool can_write, void *ctx)
{
    struct state_witness *w = ctx;
    struct record *r, *next;
    uint64_t count;

    (void)can_read;
    (void)can_write;
    if (read(fd, &count, sizeof(count)) == -1 && errno != EAGAIN)
        log_warn("eventfd: %s", strerror(errno));
    pthread_mutex_lock(&w->lock);
    r = w->done;
    w->done = NULL;
    pthread_mutex_unlock(&w->lock);
    for (; r; r = next) {
        next = r->next;
        take_done(w, r);
        free(r->line);
        free(r);
    }
}

/* --- the start */

static int refuse(void *ctx, const struct witness *record, struct err *err)
{
    struct state *s = ctx;
    int64_t generation;

    if (counter_get(s->db, COUNTER_GENERATION, &generation, err) == -1)
        return -1;
    if (record->generation <= generation)
        return 0;
    return refused_put(s->db, record, "journal", err);
}

/* The db is a copy of before: who has moved since is refused. From now on its
   generation goes on from the journal's. */
static void note_refused(struct state *s, int64_t generation, int64_t last)
{
    struct witness_reader reader = {.account = refuse, .ctx = s};
    struct err err;

    log_error("the control db is older than the store: generation %lld, the "
              "witness journal has %lld; who has moved since is refused until "
              "`mailhaul db rebuild`",
              (long long)generation, (long long)last);
    state_write(s);
    state_must(witness_read(s->witness->fd, &reader, &err), &err);
    state_must(counter_set(s->db, COUNTER_GENERATION, last, &err), &err);
    state_audit(s, 0, "db older", "generation=%lld journal=%lld",
                (long long)generation, (long long)last);
    state_settle(s);
}

static int write_again(void *ctx, const struct account *a)
{
    struct state_witness *w = ctx;
    struct record record = {.account_id = 0};
    char line[WITNESS_LINE_MAX];

    if (a->route == ROUTE_HELD)
        return 0;
    record.length = account_line(w, a, line);
    if (record.length > 0)
        hand_over(w, record, line);
    return 0;
}

static void compare(struct state *s)
{
    struct state_witness *w = s->witness;
    int64_t generation, last;
    struct err err;

    state_must(witness_last(w->fd, &last, &err), &err);
    state_must(counter_get(s->db, COUNTER_GENERATION, &generation, &err), &err);
    w->top = last;
    if (last > generation && s->is_full) {
        log_error("the control db is older than the store, and there is no "
                  "room to note who has moved since: all are refused");
        s->refuses_all = true;
    } else if (last > generation) {
        note_refused(s, generation, last);
    } else if (last < generation) {
        log_warn("the witness journal ends at generation %lld of %lld: what it "
                 "lacks is written again",
                 (long long)last, (long long)generation);
        state_must(account_each_since(s->db, last, write_again, w, &err), &err);
    }
}

static int journal_of(const struct state *s)
{
    for (unsigned i = 0; i < s->role->listener_count; i++)
        if (s->role->listeners[i].index == ROLE_WITNESS)
            return s->role->listeners[i].fd;
    return -1;
}

static void start_writer(struct state *s, int fd)
{
    struct state_witness *w = mem_alloc(sizeof(*w));

    w->state = s;
    w->fd = fd;
    w->waiting_end = &w->waiting;
    w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->done_fd == -1 || pthread_mutex_init(&w->lock, NULL) != 0 ||
        pthread_cond_init(&w->is_filled, NULL) != 0) {
        log_error("witness journal: %s", strerror(errno));
        _exit(1);
    }
    w->watch = watch_new(s->loop, w->done_fd, on_done, w);
    watch_want(w->watch, true, false);
    s->witness = w;
    start_thread(w);
}

void state_witness_start(struct state *s)
{
    int fd = journal_of(s);
    struct err err;

    if (fd != -1) {
        if (!s->witness)
            start_writer(s, fd);
        s->refuses_all = false;
        compare(s);
        state_witness_domains(s, NULL);
    }
    state_must(refused_count(s->db, &s->refused, &err), &err);
    if (s->refused > 0)
        log_error("%lld accounts are refused: the control db is older than "
                  "the store",
                  (long long)s->refused);
}

bool state_witness_refuses(const struct state *s, const char *address)
{
    int64_t generation;
    struct err err;
    int found;

    if (s->refuses_all || s->refused == 0)
        return s->refuses_all;
    state_must(found = refused_find(s->db, address, &generation, &err), &err);
    return found == 1;
}
