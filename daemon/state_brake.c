/*
 * What keeps accounts from being taken in, copied and flipped: freezes, the
 * admission of a domain, its windows.
 */
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

#include "account/window.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/admitted.h"

#define SWEEP_ACCOUNTS 1000
#define SWEEP_PAUSE_MS 20

/* --- freezes */

/* Waiting copies are put to sleep, or woken, some accounts at a time: there may
   be a million, and logins are answered between. What was not looked at yet is
   not leased either, see state_jobs.c. */
static void sweep(void *ctx)
{
    struct state *s = ctx;
    struct err err;

    if (s->is_full)
        return; /* it begins anew when there is room */
    state_write(s);
    state_must(job_follow_freezes(s->db, s->swept_to, SWEEP_ACCOUNTS,
                                  &s->swept_to, &err),
               &err);
    if (s->swept_to != 0)
        timer_start(s->sweep, SWEEP_PAUSE_MS);
    state_jobs_wake(s);
}

void state_brake_follow(struct state *s)
{
    if (!s->sweep)
        s->sweep = timer_new(s->loop, sweep, s);
    s->swept_to = 0;
    timer_cancel(s->sweep);
    sweep(s);
}

void state_brake_freezes_changed(struct state *s)
{
    state_jobs_freeze(s);
    state_flip_freeze(s);
    state_brake_follow(s);
}

/* --- admission */

/* What a domain's rate has left; of an earlier life nothing is remembered. */
struct state_bucket {
    struct state_bucket *next;
    int64_t domain_id;
    struct admission_bucket bucket;
};

static struct admission_bucket *bucket_of(struct state *s, int64_t domain_id)
{
    struct state_bucket *b = s->buckets;

    while (b && b->domain_id != domain_id)
        b = b->next;
    if (!b) {
        b = mem_alloc(sizeof(*b));
        b->domain_id = domain_id;
        b->next = s->buckets;
        s->buckets = b;
    }
    return &b->bucket;
}

static bool is_admitted(struct state *s, const struct domain *d,
                        const char *address)
{
    struct err err;
    int found;

    if (!d->is_admit_listed && admission_is_in_share(address, d->admit_share))
        return true;
    found = admitted_has(s->db, d->id, address, &err);
    state_must(found, &err);
    return found == 1;
}

void state_brake_ask(struct state *s, const struct domain *d,
                     const char *address, struct route_question *q)
{
    q->is_frozen = d->is_frozen;
    q->is_admitted = is_admitted(s, d, address);
    q->is_crowded = d->admit_rate > 0 &&
                    !admission_has_room(bucket_of(s, d->id), d->admit_rate,
                                        loop_now_ms(s->loop));
}

void state_brake_taken_in(struct state *s, const struct domain *d)
{
    if (d->admit_rate > 0)
        admission_take(bucket_of(s, d->id), d->admit_rate,
                       loop_now_ms(s->loop));
}

/* --- windows */

struct flip_moment state_brake_moment(const struct state *s,
                                      const struct domain *d)
{
    struct flip_moment moment = {.now = clock_unix_ms(),
                                 .are_peers_known = s->are_peers_known,
                                 .is_window_open = true};
    struct window window;
    struct err err;

    if (!d->cutover_window[0] && !d->blackout[0])
        return moment;
    if (window_parse(d->cutover_window, d->blackout, &window, &err) == -1) {
        /* it was good when it was set: a zone has left the tz database */
        log_error("domain %s: nothing flips: %s", d->name, err.text);
        moment.is_window_open = false;
        return moment;
    }
    moment.is_window_open = window_is_open(&window, moment.now);
    moment.is_black_day = window_is_black(&window, moment.now);
    if (!moment.is_window_open || moment.is_black_day)
        moment.opens_at = window_next_ms(&window, moment.now);
    return moment;
}
