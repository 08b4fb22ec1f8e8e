/*
 * The move of an account from one side to the other, from hold to release:
 * forth is the flip, back is its undoing.
 *
 *   QUIETING -> COPYING -> TELLING -> (released, on the other side)
 *       |          |
 *       +----------+--> given up (released where it was; on the way back by
 *                       TELLING, since local has to hear of the new epoch)
 *
 * Each arrow is one transaction on the account's row; what is said about it is
 * said after the commit. A flip lives in memory: if this process dies, the next
 * one finds the row held and takes it back.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/counters.h"

static const char *const phase_names[] = {"quieting", "copying", "telling"};
_Static_assert(sizeof(phase_names) / sizeof(phase_names[0]) == FLIP_PHASE_COUNT,
               "a name for each phase");

/* What is not the same on both ways. */
static const struct {
    enum account_event hold, failed;
    enum job_kind job;
    const char *quiet_side;
    const char *pass;
} purposes[] = {
    [FLIP_FORTH] = {EVENT_HOLD, EVENT_HOLD_FAILED, JOB_FINAL, "legacy",
                    "the last delta"},
    [FLIP_BACK] = {EVENT_BACK_HOLD, EVENT_BACK_FAILED, JOB_ROLLBACK, "local",
                   "the last pass back"},
};
_Static_assert(sizeof(purposes) / sizeof(purposes[0]) == FLIP_PURPOSE_COUNT,
               "a row for each purpose");

static void tell_later(struct state_flip *flip);
static void flip_advance(struct state_flip *flip);
enum hold_end { HOLD_END_FAILED, HOLD_END_BUSY, HOLD_END_FROZEN };
static void flip_give_up(struct state_flip *flip, const char *why,
                         enum hold_end end);

struct state_flip *state_flip_of(const struct state *s, int64_t account_id)
{
    struct state_flip *flip = s->flips;

    while (flip && flip->account_id != account_id)
        flip = flip->next;
    return flip;
}

unsigned state_flip_count(const struct state *s)
{
    unsigned count = 0;

    for (const struct state_flip *flip = s->flips; flip; flip = flip->next)
        count++;
    return count;
}

static void flip_free(struct state_flip *flip)
{
    struct state_flip **at = &flip->state->flips;

    while (*at != flip)
        at = &(*at)->next;
    *at = flip->next;
    timer_free(&flip->timer);
    free(flip->quiet);
    free(flip);
}

static json_t *hold_message(const struct state_flip *flip)
{
    return json_pack("{s:s,s:I,s:s,s:I,s:I,s:s}", "m", "hold", "account",
                     (json_int_t)flip->account_id, "address", flip->address,
                     "epoch", (json_int_t)flip->epoch, "quiet_within_ms",
                     (json_int_t)flip->quiet_ms, "side",
                     purposes[flip->purpose].quiet_side);
}

/* The end of every flip: who was told of the hold hears that it is over, who
   waited is answered by the row as it is now. */
static void flip_release(struct state_flip *flip)
{
    struct state *s = flip->state;

    state_peers_tell(s, json_pack("{s:s,s:I,s:I}", "m", "release", "account",
                                  (json_int_t)flip->account_id, "epoch",
                                  (json_int_t)flip->epoch));
    state_after(s, state_routes_release, flip->account_id);
    flip_free(flip);
}

static int64_t elapsed_ms(const struct state_flip *flip)
{
    return loop_now_ms(flip->state->loop) - flip->began_ms;
}

static void on_timer(void *ctx)
{
    struct state_flip *flip = ctx;
    char why[64];

    snprintf(why, sizeof(why), "%s outlasted its share",
             purposes[flip->purpose].pass);
    if (flip->phase == FLIP_QUIETING)
        flip_give_up(flip, "sessions did not end in time", HOLD_END_FAILED);
    else if (flip->phase == FLIP_COPYING)
        flip_give_up(flip, why, HOLD_END_FAILED);
}

static void hold_is_committed(struct state *s, int64_t account_id)
{
    struct state_flip *flip = state_flip_of(s, account_id);

    if (!flip)
        return;
    state_peers_tell(s, hold_message(flip));
    /* with nobody to wait for, it goes on at once */
    flip_advance(flip);
}

static struct state_flip *flip_new(struct state *s,
                                   const struct account *account,
                                   const struct domain *domain,
                                   enum flip_purpose purpose)
{
    struct state_flip *flip = mem_alloc(sizeof(*flip));

    flip->state = s;
    flip->purpose = purpose;
    flip->account_id = account->id;
    memcpy(flip->address, account->address, sizeof(flip->address));
    flip->epoch = account->epoch;
    flip->phase = FLIP_QUIETING;
    flip->began_ms = loop_now_ms(s->loop);
    flip->quiet_ms = domain->hold_seconds * 1000LL / 2;
    flip->share_ms = domain->hold_seconds * 1000LL - 1000;
    flip->timer = timer_new(s->loop, on_timer, flip);
    flip->next = s->flips;
    s->flips = flip;
    return flip;
}

void state_flip_begin(struct state *s, struct account *account,
                      const struct domain *domain, enum flip_purpose purpose)
{
    struct state_flip *flip;

    account->is_clean = purpose == FLIP_FORTH;
    if (state_flip_of(s, account->id) ||
        !state_change(s, account, purposes[purpose].hold, ""))
        return;
    /* a pass of the trail that runs would only be in the way */
    if (purpose == FLIP_BACK)
        state_jobs_stop(s, account->id, JOB_TRAIL);
    flip = flip_new(s, account, domain, purpose);
    timer_start(flip->timer, flip->quiet_ms);
    state_after(s, hold_is_committed, account->id);
}

void state_flip_end(struct state *s, const struct account *account,
                    const struct domain *domain)
{
    tell_later(flip_new(s, account, domain, FLIP_BACK));
}

/* --- who is quiet */

static bool has_answered(const struct state_flip *flip, pid_t pid)
{
    for (unsigned i = 0; i < flip->quiet_count; i++)
        if (flip->quiet[i] == pid)
            return true;
    return false;
}

/* The first process whose quiet is missing; NULL if there is none. */
static const struct state_peer *awaited(const struct state_flip *flip)
{
    for (const struct state_peer *p = flip->state->peers; p; p = p->next)
        if (state_peer_serves(p) && !has_answered(flip, p->pid))
            return p;
    return NULL;
}

static void flip_advance(struct state_flip *flip)
{
    struct state *s = flip->state;
    const struct state_peer *peer;
    struct account account;
    struct domain domain;

    if (flip->phase != FLIP_QUIETING)
        return;
    peer = awaited(flip);
    if (peer) {
        log_debug("flip account=%lld waits for %s[%d]",
                  (long long)flip->account_id, peer->role, (int)peer->pid);
        return;
    }
    if (!state_load(s, flip->account_id, &account, &domain)) {
        flip_release(flip);
        return;
    }
    log_debug("account %s flip %s -> %s after_ms=%lld", account.address,
              phase_names[flip->phase], phase_names[FLIP_COPYING],
              (long long)elapsed_ms(flip));
    flip->phase = FLIP_COPYING;
    timer_start(flip->timer, flip->share_ms - elapsed_ms(flip));
    state_jobs_queue(s, &account, &domain, purposes[flip->purpose].job,
                     clock_unix_ms());
}

void state_flip_quiet(struct state *s, struct state_peer *peer,
                      const json_t *message)
{
    struct state_flip *flip = state_flip_of(s, wire_int(message, "account", 0));

    if (!flip || flip->epoch != wire_int(message, "epoch", -1))
        return;
    if (wire_bool(message, "trail"))
        flip->wants_trail = true;
    if (!has_answered(flip, peer->pid)) {
        flip->quiet = mem_grow(flip->quiet,
                               (flip->quiet_count + 1) * sizeof(*flip->quiet));
        flip->quiet[flip->quiet_count++] = peer->pid;
    }
    flip_advance(flip);
}

void state_flip_busy(struct state *s, const struct state_peer *peer,
                     const json_t *message)
{
    struct state_flip *flip = state_flip_of(s, wire_int(message, "account", 0));

    (void)peer;
    /* after QUIET from all nothing can have begun that must not be cut */
    if (flip && flip->epoch == wire_int(message, "epoch", -1) &&
        flip->phase == FLIP_QUIETING)
        flip_give_up(flip, "a session must not be cut", HOLD_END_BUSY);
}

void state_flip_peer_came(struct state *s, struct state_peer *peer)
{
    if (!state_peer_serves(peer))
        return;
    for (struct state_flip *flip = s->flips; flip; flip = flip->next) {
        /* what it answered on an older connection counts no more */
        for (unsigned i = 0; i < flip->quiet_count; i++)
            if (flip->quiet[i] == peer->pid)
                flip->quiet[i] = 0;
        state_send(s, peer, hold_message(flip));
    }
}

void state_flip_peer_went(struct state *s, pid_t pid)
{
    struct state_flip *flip = s->flips;

    (void)pid;
    while (flip) {
        struct state_flip *next = flip->next;

        flip_advance(flip);
        flip = next;
    }
}

/* --- how it ends */

/* The row is what it was before the hold. */
static void give_up_forth(struct state *s, const struct account *account,
                          const struct domain *domain)
{
    const struct flip_moment moment = {.now = clock_unix_ms()};

    /* its worker writes where nobody reads while legacy serves, and the next
       delta waits for the ledger until it has ended */
    state_jobs_stop(s, account->id, JOB_FINAL);
    state_jobs_queue(s, account, domain, JOB_DELTA,
                     schedule_delta(account, FLIP_NOT_YET,
                                    s->conf->jobs.delta_seconds, &moment));
}

static void flip_give_up(struct state_flip *flip, const char *why,
                         enum hold_end end)
{
    struct state *s = flip->state;
    int64_t now = clock_unix_ms();
    int64_t wait_ms = 0; /* frozen: no fault of his, he is the next one */
    struct account account;
    struct domain domain;

    if (!state_load(s, flip->account_id, &account, &domain) ||
        account.epoch != flip->epoch) {
        flip_release(flip);
        return;
    }
    if (end == HOLD_END_FAILED)
        wait_ms = lifecycle_hold_retry_ms(++account.hold_failures);
    else if (end == HOLD_END_BUSY)
        wait_ms = SCHEDULE_BUSY_MS;
    account.is_clean = false;
    if (flip->purpose == FLIP_FORTH)
        account.next_flip_at = now + wait_ms;
    state_change(s, &account, purposes[flip->purpose].failed, why);
    if (flip->purpose == FLIP_FORTH) {
        give_up_forth(s, &account, &domain);
        flip_release(flip);
        return;
    }
    state_back_given_up(s, &account, &domain, wait_ms);
    tell_later(flip);
}

void state_flip_freeze(struct state *s)
{
    struct state_flip *flip = s->flips;

    while (flip) {
        struct state_flip *next = flip->next;
        struct account account;
        struct domain domain;

        /* what is committed is finished, and who is taken back was asked for by
           an operator */
        if (flip->purpose == FLIP_FORTH && flip->phase != FLIP_TELLING &&
            state_load(s, flip->account_id, &account, &domain) &&
            domain.is_frozen)
            flip_give_up(flip, "frozen", HOLD_END_FROZEN);
        flip = next;
    }
}

/* The row says it, on disk; now local itself hears of it, then all others. If
   it cannot be told, an account of local stays temporarily unavailable; it is
   tried again with every tick. */
static void flip_tell(struct state *s, int64_t account_id)
{
    struct state_flip *flip = state_flip_of(s, account_id);
    struct account account;

    if (!flip)
        return;
    if (state_load(s, account_id, &account, NULL)) {
        /* the store says so before local does */
        if (state_witness_ask(s, &account, flip_tell) == WITNESS_WRITING)
            return;
        if (state_provision(s, &account))
            log_info("account %s %s route=%s held_ms=%lld", account.address,
                     flip->purpose == FLIP_FORTH ? "flipped" : "released",
                     account_route_name(account.route),
                     (long long)elapsed_ms(flip));
        if (flip->purpose == FLIP_BACK)
            state_peers_forget(s, &account);
    }
    flip_release(flip);
    state_on_flip_run(s);
}

static void tell_later(struct state_flip *flip)
{
    flip->phase = FLIP_TELLING;
    timer_cancel(flip->timer);
    state_after(flip->state, flip_tell, flip->account_id);
}

static void flip_commit(struct state_flip *flip, struct account *account,
                        const struct domain *domain,
                        const struct migration_report *report)
{
    struct state *s = flip->state;
    int64_t now = clock_unix_ms();
    struct err err;

    state_results_count(account, report);
    account->flipped_at = now;
    account->hold_failures = 0;
    account->next_flip_at = 0;
    account->wants_flip = FLIP_WISH_NONE;
    state_on_flip_due(account, domain, now);
    state_write(s);
    state_must(
        counter_raise(s->db, COUNTER_GENERATION, &account->generation, &err),
        &err);
    if (!state_change(s, account, EVENT_FLIP,
                      flip->wants_trail ? "legacy may still be storing" : "")) {
        flip_give_up(flip, "not legal", HOLD_END_FAILED);
        return;
    }
    state_jobs_queue(
        s, account, domain, JOB_TRAIL,
        schedule_trail(now, s->conf->jobs.trail_inbox_seconds, now));
    tell_later(flip);
}

void state_flip_copied(struct state *s, const struct job *job,
                       const struct migration_report *report,
                       const struct err *outcome)
{
    struct state_flip *flip = state_flip_of(s, job->account_id);
    struct account account;
    struct domain domain;

    /* the result of a hold that was given up is worth nothing */
    if (!flip || flip->phase != FLIP_COPYING || job->epoch != flip->epoch ||
        !state_load(s, job->account_id, &account, &domain) ||
        account.epoch != flip->epoch)
        return;
    if (outcome->kind != ERR_NONE) {
        log_warn("account %s %s failed kind=%s: %s", account.address,
                 purposes[flip->purpose].pass, err_kind_name(outcome->kind),
                 log_safe(outcome->text));
        if (report->differences > 0 && flip->purpose != FLIP_BACK) {
            state_gate_tell(&account, report, "in the last delta");
            state_store(s, &account);
        }
        /* a password changed meanwhile is no fault of the hold: the next good
           login brings the new one, and the flip with it */
        flip_give_up(flip, "the last pass failed",
                     outcome->kind == ERR_DENIED ? HOLD_END_BUSY
                                                 : HOLD_END_FAILED);
        return;
    }
    if (flip->purpose == FLIP_BACK) {
        if (state_back_commit(s, &account, &domain, report))
            tell_later(flip);
        else
            flip_give_up(flip, "not legal", HOLD_END_FAILED);
        return;
    }
    state_gate_name(s, &account, report);
    state_credentials_sort(s, &account, report);
    state_store(s, &account);
    if (!schedule_can_log_in(&account, &domain)) {
        flip_give_up(flip, "legacy accepts none of the passwords",
                     HOLD_END_BUSY);
    } else if (report->differences > 0 || !report->is_verified) {
        flip_give_up(flip, "the last delta was not clean", HOLD_END_FAILED);
    } else if (account.accepted < account.set_aside) {
        flip_give_up(flip, "something new is set aside", HOLD_END_BUSY);
    } else {
        flip_commit(flip, &account, &domain, report);
    }
}
