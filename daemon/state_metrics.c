/*
 * What is counted, for the admin role: by the other processes, summed up over
 * those that live and those that have ended; by this one; and what the control
 * db knows without going through its accounts.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "account/counts.h"
#include "account/wire.h"
#include "base/clock.h"
#include "base/tally.h"
#include "db/counts.h"
#include "db/freezes.h"
#include "db/refused.h"

#define HOSTS_MAX     1024
#define HOST_DOWN_MIN 3 /* failed jobs in a row */

void state_metrics_counts(struct state_peer *peer, const json_t *message)
{
    json_t *series = json_object_get(message, "series");

    if (!json_is_object(series))
        return;
    json_decref(peer->counts);
    peer->counts = json_incref(series);
}

void state_metrics_forget_peer(struct state *s, const struct state_peer *peer)
{
    if (peer->counts)
        counts_add(s->gone_counts, peer->counts, true);
}

void state_metrics_job(struct state *s, const struct job *job,
                       const struct err *outcome)
{
    bool is_trouble = outcome->kind == ERR_RETRY || outcome->kind == ERR_PEER;
    int64_t failures = wire_int(s->host_failures, job->host, 0);

    tally_add(1, "jobs_total{kind=\"%s\",result=\"%s\"}",
              job_kind_name(job->kind), err_kind_name(outcome->kind));
    if (!job->host[0] || job->kind == JOB_HASH)
        return;
    if (!is_trouble)
        json_object_del(s->host_failures, job->host);
    else if (failures || json_object_size(s->host_failures) < HOSTS_MAX)
        json_object_set_new(s->host_failures, job->host,
                            json_integer(failures + 1));
}

/* --- what the control db knows */

static void put(json_t *series, const char *name, int64_t value)
{
    json_object_set_new(series, name, json_integer(value));
}

static int put_accounts(void *ctx, const struct account_count *count)
{
    char name[400];

    if (count->accounts == 0)
        return 0;
    snprintf(name, sizeof(name),
             "accounts{domain=\"%s\",route=\"%s\",copy=\"%s\"}", count->domain,
             account_route_name(count->route), account_copy_name(count->copy));
    put(ctx, name, count->accounts);
    return 0;
}

static void put_jobs(struct state *s, json_t *series)
{
    struct job_counts counts;
    int64_t due_at, now = clock_unix_ms();
    char name[64];
    struct err err;

    state_must(job_counts_read(s->db, &counts, &err), &err);
    state_must(job_next_due(s->db, &due_at, &err), &err);
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++) {
        const char *word = job_kind_name((enum job_kind)kind);

        snprintf(name, sizeof(name), "jobs_waiting{kind=\"%s\"}", word);
        put(series, name, counts.waiting[kind]);
        snprintf(name, sizeof(name), "jobs_running{kind=\"%s\"}", word);
        put(series, name, counts.running[kind]);
    }
    put(series, "queue_age_seconds", due_at < now ? (now - due_at) / 1000 : 0);
}

static int count_freeze(void *ctx, const struct freeze *freeze)
{
    (void)freeze;
    ++*(int64_t *)ctx;
    return 0;
}

static void put_rows(struct state *s, json_t *series, int64_t *refused_out)
{
    int64_t freezes = 0, due, failed;
    struct err err;

    state_must(account_counts_each(s->db, put_accounts, series, &err), &err);
    state_must(freeze_each(s->db, count_freeze, &freezes, &err), &err);
    state_must(refused_count(s->db, refused_out, &err), &err);
    state_must(on_flip_counts_read(s->db, &due, &failed, &err), &err);
    put(series, "on_flip{state=\"due\"}", due);
    put(series, "on_flip{state=\"failed\"}", failed);
    put(series, "freezes", freezes);
    put(series, "refused_accounts", *refused_out);
}

static json_t *put_hosts(struct state *s, json_t *series)
{
    json_t *down = json_array(), *value;
    const char *host;
    char name[400];

    json_object_foreach(s->host_failures, host, value)
    {
        json_int_t failures = json_integer_value(value);

        snprintf(name, sizeof(name), "legacy_failures{host=\"%s\"}", host);
        put(series, name, failures);
        snprintf(name, sizeof(name), "legacy_down{host=\"%s\"}", host);
        put(series, name, failures >= HOST_DOWN_MIN);
        if (failures >= HOST_DOWN_MIN)
            json_array_append_new(down, json_string(host));
    }
    return down;
}

void state_metrics_answer(struct state *s, struct state_peer *peer,
                          const json_t *message)
{
    json_t *series = json_object(), *here = counts_here(), *down;
    int64_t refused = 0;

    counts_add(series, s->gone_counts, false);
    for (const struct state_peer *p = s->peers; p; p = p->next)
        if (p->counts)
            counts_add(series, p->counts, false);
    counts_add(series, here, false);
    json_decref(here);
    put_rows(s, series, &refused);
    put_jobs(s, series);
    put(series, "holds", state_flip_count(s));
    put(series, "peers_known", s->are_peers_known);
    put(series, "disk_full", s->is_full);
    down = put_hosts(s, series);
    state_send(s, peer,
               json_pack("{s:s,s:I,s:o,s:{s:b,s:b,s:I,s:o}}", "m", "metrics",
                         "id", (json_int_t)wire_int(message, "id", 0), "series",
                         series, "facts", "is_full", (int)s->is_full,
                         "peers_known", (int)s->are_peers_known, "refused",
                         (json_int_t)refused, "hosts_down", down));
}
