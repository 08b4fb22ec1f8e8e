/*
 * The job queue as the jobs process sees it: leases, signs of life, ends. The
 * leases live in memory too; those of an earlier life of this process were
 * freed at its start, and the lock on the ledger keeps two workers apart.
 */
#include "daemon/state.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "account/work.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define LEASE_MS        30000  /* without a sign of life */
#define HELD_WAIT_MS    2000   /* while its account is held */
#define REFUSED_WAIT_MS 300000 /* the db is older than the store */
#define DUE_MAX_MS      60000  /* look again at least so often */
#define URGENT_ONLY     0 /* per_host of job_lease: FINAL and HASH pass it */

static void owner_name(const struct state_peer *peer, char *out, size_t size)
{
    snprintf(out, size, "%s-%d", peer->role, (int)peer->pid);
}

static struct state_job **find_job(struct state *s, int64_t id)
{
    struct state_job **at = &s->jobs;

    while (*at && (*at)->job.id != id)
        at = &(*at)->next;
    return at;
}

void state_jobs_queue(struct state *s, const struct account *account,
                      const struct domain *domain, enum job_kind kind,
                      int64_t due_at)
{
    struct err err;

    state_write(s);
    state_must(work_queue(s->db, account, domain, kind, due_at, &err), &err);
    state_jobs_wake(s);
}

static void wake_now(struct state *s, int64_t unused)
{
    int64_t due_at, wait_ms;
    struct err err;

    (void)unused;
    s->is_waking = false;
    state_must(job_next_due(s->db, &due_at, &err), &err);
    wait_ms = due_at == INT64_MAX ? DUE_MAX_MS : due_at - clock_unix_ms();
    if (wait_ms > 0) {
        timer_start(s->due, wait_ms < DUE_MAX_MS ? wait_ms : DUE_MAX_MS);
        return;
    }
    /* what is due and not leased waits for a free worker, who asks by himself;
       to ask again costs little */
    timer_start(s->due, 1000);
    for (struct state_peer *p = s->peers; p; p = p->next)
        if (p->channel && strcmp(p->role, "jobs") == 0)
            state_send(s, p, json_pack("{s:s}", "m", "wake"));
}

void state_jobs_wake(struct state *s)
{
    if (s->is_waking)
        return;
    s->is_waking = true;
    state_after(s, wake_now, 0);
}

/* --- leasing */

static void put_text(json_t *message, const char *field, const char *text)
{
    if (*text)
        json_object_set_new(message, field, json_string(text));
}

/* The passes of the trail over every folder are remembered in memory only: the
   first one after a start is such a pass. */
static bool is_inbox_only(struct state *s, const struct account *a)
{
    char key[24];
    int64_t now = clock_unix_ms();

    snprintf(key, sizeof(key), "%lld", (long long)a->id);
    if (!schedule_trail_is_full(a->flipped_at, wire_int(s->full_trails, key, 0),
                                s->conf->jobs.trail_seconds, now))
        return true;
    json_object_set_new(s->full_trails, key, json_integer(now));
    return false;
}

/* Whether the old server heeds for whom the master user logs in is asked until
   a worker has seen it, once in our life; NULL: not by this job. For free(). */
static char *master_to_check(const struct state *s, const struct job *job,
                             const struct domain *d, const json_t *message)
{
    const char *login = wire_text(message, "master_login");
    char subject[sizeof(d->imap_url) + sizeof(d->master_user) + 300];

    /* no time inside of a hold; a delta came before */
    if (!json_object_get(message, "master") || job->kind == JOB_FINAL)
        return NULL;
    snprintf(subject, sizeof(subject), "%s %s %s", d->imap_url, d->master_user,
             login ? login : "");
    return json_object_get(s->good_masters, subject) ? NULL
                                                     : mem_dup_text(subject);
}

static void note_master(struct state *s, const char *master,
                        const json_t *message)
{
    if (master && wire_bool(message, "is_master_good"))
        json_object_set_new(s->good_masters, master, json_true());
}

static json_t *job_message(struct state *s, const struct job *job,
                           const struct account *a, const struct domain *d)
{
    json_t *m =
        json_pack("{s:s,s:I,s:s,s:I,s:I,s:i,s:s,s:s}", "m", "job", "job",
                  (json_int_t)job->id, "kind", job_kind_name(job->kind),
                  "account", (json_int_t)a->id, "epoch", (json_int_t)a->epoch,
                  "attempts", (int)job->attempts, "address", a->address,
                  "legacy_user", a->legacy_user);
    json_t *options = json_object();

    put_text(m, "imap", d->imap_url);
    put_text(m, "pop3", d->pop3_url);
    put_text(m, "mailbox_id", a->mailbox_id);
    put_text(m, "exclude", d->exclude);
    json_object_set_new(m, "domain_pop3", json_boolean(d->pop3_url[0] != 0));
    if (a->has_prefix) {
        json_object_set_new(m, "prefix", json_string(a->legacy_prefix));
        json_object_set_new(m, "separator", json_string(a->legacy_separator));
    }
    state_credentials_put(s, job, a, d, m);
    state_keys_put_newest(s, m);
    if (job->kind == JOB_TRAIL && !state_close_leased(s, a->id) &&
        is_inbox_only(s, a))
        json_object_set_new(options, "inbox_only", json_true());
    if (job->kind == JOB_VERIFY)
        json_object_set_new(options, "is_full", json_true());
    if (job->kind == JOB_ROLLBACK) {
        json_object_set_new(
            options, "with_changes",
            json_boolean(a->wants_rollback == ROLLBACK_CHANGES));
        json_object_set_new(options, "is_last",
                            json_boolean(a->route == ROUTE_HELD));
    }
    state_gate_options(s, job, a, d, options);
    json_object_set_new(m, "options", options);
    return m;
}

/* Whether the job still makes sense; a stale one is ended. */
static bool is_wanted(struct state *s, const struct job *job,
                      const struct account *a, const struct domain *d)
{
    const struct state_flip *flip = state_flip_of(s, a->id);
    int64_t credential;

    switch (job->kind) {
    case JOB_HASH: return state_credentials_to_hash(s, a, &credential);
    case JOB_INITIAL: return a->copy == COPY_INITIAL;
    case JOB_DELTA: return a->copy == COPY_DELTA;
    case JOB_FINAL: return flip && flip->phase == FLIP_COPYING;
    case JOB_TRAIL: return a->copy == COPY_TRAIL && a->route == ROUTE_LOCAL;
    case JOB_VERIFY: return a->has_seal || d->master_user[0] != '\0';
    case JOB_ROLLBACK:
        return a->wants_rollback != ROLLBACK_NO && d->closed_at == 0 &&
               (flip ? flip->phase == FLIP_COPYING : a->route == ROUTE_LOCAL);
    case JOB_KIND_COUNT: break;
    }
    return false;
}

/* Not now: the lease goes back for a while. */
static void put_off(struct state *s, const struct job *job, int64_t wait_ms)
{
    struct err err;

    state_must(job_retry(s->db, job->id, clock_unix_ms() + wait_ms, &err),
               &err);
}

/* As if it had never been leased; a freeze lets it sleep. */
static void give_back(struct state *s, const struct job *job,
                      const struct domain *d)
{
    struct err err;

    state_must(job_give_back(s->db, job->id, d->is_frozen, &err), &err);
}

static void drop(struct state *s, const struct job *job,
                 const struct account *a)
{
    struct migration_report nothing = {.messages = 0};
    struct err err;

    state_must(job_end(s->db, job->id, &err), &err);
    if (job->kind != JOB_VERIFY)
        return;
    err_set(&err, ERR_SETUP, "no password is known for the old server");
    state_control_verified(s, a, &nothing, &err);
}

static bool is_copy(const struct job *job)
{
    return job->kind == JOB_INITIAL || job->kind == JOB_DELTA;
}

/* Until its account's hold is over, or has come so far. */
static bool must_wait(const struct state *s, const struct job *job)
{
    const struct state_flip *flip = state_flip_of(s, job->account_id);

    return flip && (job->kind == JOB_VERIFY ||
                    (job->kind == JOB_ROLLBACK && flip->phase != FLIP_COPYING));
}

static void give(struct state *s, struct state_peer *peer,
                 const struct job *job)
{
    struct state_job *leased;
    json_t *message;
    struct account a = {.id = job->account_id};
    struct domain d;

    if (!state_load(s, job->account_id, &a, &d)) {
        drop(s, job, &a);
        return;
    }
    if (state_witness_refuses(s, a.address)) {
        put_off(s, job, REFUSED_WAIT_MS);
        return;
    }
    if (must_wait(s, job)) {
        put_off(s, job, HELD_WAIT_MS);
        return;
    }
    if (!is_wanted(s, job, &a, &d)) {
        drop(s, job, &a);
        return;
    }
    if (d.is_frozen && is_copy(job)) {
        give_back(s, job, &d);
        return;
    }
    if (!d.is_enabled && is_copy(job)) {
        put_off(s, job, s->conf->jobs.delta_seconds * 1000LL);
        return;
    }
    leased = mem_alloc(sizeof(*leased));
    leased->job = *job;
    leased->owner = peer;
    leased->heard_ms = loop_now_ms(s->loop);
    leased->next = s->jobs;
    s->jobs = leased;
    log_debug("job=%lld kind=%s account=%s leased", (long long)job->id,
              job_kind_name(job->kind), a.address);
    message = job_message(s, job, &a, &d);
    leased->master = master_to_check(s, job, &d, message);
    if (leased->master)
        json_object_set_new(json_object_get(message, "options"), "check_master",
                            json_true());
    state_send(s, peer, message);
}

static void lease_some(struct state *s, struct state_peer *peer, int64_t wanted,
                       unsigned per_host)
{
    char owner[64];

    owner_name(peer, owner, sizeof(owner));
    while (wanted-- > 0) {
        int64_t now = clock_unix_ms();
        struct job job;
        struct err err;
        int found =
            job_lease(s->db, owner, now, now + LEASE_MS, per_host, &job, &err);

        state_must(found, &err);
        if (!found)
            return;
        give(s, peer, &job);
    }
}

void state_jobs_lease(struct state *s, struct state_peer *peer,
                      const json_t *message)
{
    int64_t free_workers = wire_int(message, "free", 0);

    if (strcmp(peer->role, "jobs") != 0 || s->is_full)
        return;
    state_write(s);
    lease_some(s, peer, wire_int(message, "urgent", 0), URGENT_ONLY);
    lease_some(s, peer, free_workers < 1000 ? free_workers : 1000,
               s->conf->jobs.per_host);
    if (!timer_is_running(s->due))
        state_jobs_wake(s);
}

void state_jobs_progress(struct state *s, struct state_peer *peer,
                         const json_t *message)
{
    struct state_job *j = *find_job(s, wire_int(message, "job", 0));

    if (!j || j->owner != peer)
        return;
    j->heard_ms = loop_now_ms(s->loop);
    if (!json_object_get(message, "messages"))
        return;
    migration_report_release(&j->progress);
    migration_report_decode(message, &j->progress);
    j->has_progress = true;
}

/* --- ends */

static void job_free(struct state_job **at)
{
    struct state_job *j = *at;

    *at = j->next;
    migration_report_release(&j->progress);
    free(j->master);
    free(j);
}

static void fail(struct state *s, const struct job *job,
                 const struct err *outcome)
{
    struct err err;
    int64_t wait_ms =
        schedule_retry_ms(job->attempts, s->conf->jobs.retry_seconds);

    /* what failed inside a hold is asked for anew, when the hold is over */
    if (job->kind == JOB_VERIFY || job->kind == JOB_FINAL ||
        (job->kind == JOB_ROLLBACK && state_flip_of(s, job->account_id)) ||
        (outcome->kind != ERR_RETRY && outcome->kind != ERR_PEER))
        state_must(job_end(s->db, job->id, &err), &err);
    else
        state_must(job_retry(s->db, job->id, clock_unix_ms() + wait_ms, &err),
                   &err);
}

/* Nobody asks any more what it has come to. */
static void end_cancelled(struct state *s, const struct job *job,
                          enum job_fate fate)
{
    struct account account;
    struct domain domain;
    struct err err;

    if (fate == JOB_FATE_ASLEEP &&
        state_load(s, job->account_id, &account, &domain))
        give_back(s, job, &domain);
    else
        state_must(job_end(s->db, job->id, &err), &err);
}

void state_jobs_done(struct state *s, struct state_peer *peer,
                     const json_t *message)
{
    struct state_job **at = find_job(s, wire_int(message, "job", 0));
    const char *kind = wire_text(message, "kind");
    const char *text = wire_text(message, "text");
    struct err outcome, err;
    struct job job;
    enum job_fate fate;

    if (!*at || (*at)->owner != peer)
        return;
    job = (*at)->job;
    fate = (*at)->fate;
    note_master(s, (*at)->master, message);
    job_free(at);
    err_clear(&outcome);
    if (!kind || strcmp(kind, err_kind_name(ERR_NONE)) != 0)
        err_set(&outcome, kind ? err_kind_named(kind) : ERR_RETRY, "%s",
                text ? text : "");
    state_write(s);
    if (fate != JOB_FATE_OWN) {
        end_cancelled(s, &job, fate);
    } else {
        if (outcome.kind == ERR_NONE)
            state_must(job_end(s->db, job.id, &err), &err);
        else
            fail(s, &job, &outcome);
        state_metrics_job(s, &job, &outcome);
        state_results_take(s, &job, message, &outcome);
    }
    state_jobs_wake(s);
}

/* The lease is over without an end: somebody else may try. */
static void lose(struct state *s, struct state_job **at, const char *why)
{
    struct job job = (*at)->job;
    enum job_fate fate = (*at)->fate;
    struct err outcome;

    job_free(at);
    state_write(s);
    log_warn("job=%lld kind=%s account=%lld lost: %s", (long long)job.id,
             job_kind_name(job.kind), (long long)job.account_id, why);
    err_set(&outcome, ERR_RETRY, "%s", why);
    if (fate != JOB_FATE_OWN) {
        end_cancelled(s, &job, fate);
    } else {
        fail(s, &job, &outcome);
        state_results_take(s, &job, NULL, &outcome);
    }
    state_jobs_wake(s);
}

void state_jobs_forget_peer(struct state *s, const struct state_peer *peer)
{
    struct state_job **at = &s->jobs;

    while (*at) {
        if ((*at)->owner == peer) {
            lose(s, at, "the jobs process has gone");
            at = &s->jobs; /* what it meant may have changed the list */
        } else {
            at = &(*at)->next;
        }
    }
}

static void cancel(struct state *s, struct state_job *j, enum job_fate fate)
{
    if (j->fate == JOB_FATE_OWN)
        state_send(s, j->owner,
                   json_pack("{s:s,s:I}", "m", "cancel", "job",
                             (json_int_t)j->job.id));
    if (j->fate != JOB_FATE_DROPPED)
        j->fate = fate;
}

void state_jobs_stop(struct state *s, int64_t account_id, int kind)
{
    struct err err;

    state_write(s);
    state_must(job_cancel(s->db, account_id, kind, &err), &err);
    for (struct state_job *j = s->jobs; j; j = j->next)
        if (j->job.account_id == account_id &&
            (kind == -1 || j->job.kind == (enum job_kind)kind))
            cancel(s, j, JOB_FATE_DROPPED);
}

void state_jobs_freeze(struct state *s)
{
    for (struct state_job *j = s->jobs; j; j = j->next) {
        struct account account;
        struct domain domain;

        if (j->fate == JOB_FATE_OWN && is_copy(&j->job) &&
            state_load(s, j->job.account_id, &account, &domain) &&
            domain.is_frozen)
            cancel(s, j, JOB_FATE_ASLEEP);
    }
}

static void write_progress(struct state *s, struct state_job *j)
{
    struct account a;
    struct err err;

    j->has_progress = false;
    if (!state_load(s, j->job.account_id, &a, NULL))
        return;
    state_write(s);
    state_must(
        job_heartbeat(s->db, j->job.id, clock_unix_ms() + LEASE_MS, &err),
        &err);
    if (j->job.kind != JOB_INITIAL)
        return; /* the others count from nothing, or not at all */
    state_results_count(&a, &j->progress);
    state_store(s, &a);
}

void state_jobs_tick(struct state *s)
{
    struct state_job **at = &s->jobs;

    while (*at) {
        struct state_job *j = *at;

        if (j->heard_ms + LEASE_MS < loop_now_ms(s->loop)) {
            lose(s, at, "no sign of life");
            at = &s->jobs;
            continue;
        }
        if (j->has_progress)
            write_progress(s, j);
        at = &j->next;
    }
}
