/*
 * The job queue: at most one row an account and kind; leased with a heartbeat.
 */
#ifndef DB_JOBS_H
#define DB_JOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

enum job_kind {
    JOB_HASH,     /* open the seal, make the hash for local */
    JOB_INITIAL,  /* first copy */
    JOB_DELTA,    /* bring up to date; lift HIGHESTMODSEQ */
    JOB_FINAL,    /* the last delta, inside the hold */
    JOB_TRAIL,    /* append what still arrived on legacy to local */
    JOB_VERIFY,   /* compare both sides */
    JOB_ROLLBACK, /* append what is new on local to legacy, inside a hold */
    JOB_KIND_COUNT
};
const char *job_kind_name(enum job_kind kind);
int job_kind_named(const char *name);

struct job {
    int64_t id;
    int64_t account_id;
    enum job_kind kind;
    char host[320]; /* the legacy server's URL, for limits per host */
    int64_t epoch;  /* of the account when it was queued */
    int64_t due_at; /* Unix ms */
    int priority;   /* higher first: final 40, hash 30, verify 20, rest 10 */
    unsigned attempts;
    char lease_owner[64]; /* "" : not leased */
    int64_t lease_until;  /* Unix ms */
};

/* Queue it, or pull an existing unleased one of the same account and kind
   forward to due_at. If one is leased, it is marked to run again at due_at when
   it ends. Sets j->id. */
int job_queue(struct db *db, struct job *j, struct err *err);
/* Lease the best job that is due (highest priority, then longest due), whose
   host has fewer than per_host leased jobs and whose account has none leased.
   JOB_FINAL and JOB_ROLLBACK pass the host limit; JOB_HASH, which touches
   neither host nor mailbox, both limits, and counts in neither. 1 leased, 0
   nothing due. */
int job_lease(struct db *db, const char *owner, int64_t now, int64_t until,
              unsigned per_host, struct job *out, struct err *err);
/* ERR_ITEM if the job is not leased (any more). */
int job_heartbeat(struct db *db, int64_t id, int64_t until, struct err *err);
/* It is over: delete it, or queue it again if it was asked for meanwhile. */
int job_end(struct db *db, int64_t id, struct err *err);
/* Give it back for another try at due_at (or when it was asked for meanwhile,
   if that is sooner), attempts + 1. */
int job_retry(struct db *db, int64_t id, int64_t due_at, struct err *err);
/* Give it back as it was before the lease. is_asleep: it is not leased again
   before job_follow_freezes() wakes it. */
int job_give_back(struct db *db, int64_t id, bool is_asleep, struct err *err);
/* Have the waiting copies (INITIAL and DELTA) of the next `limit` accounts
   after that id sleep where their domain is frozen, and wake elsewhere. The
   last id that was looked at is *last_out, 0 behind the end. */
int job_follow_freezes(struct db *db, int64_t after_account, int limit,
                       int64_t *last_out, struct err *err);
/* Unix ms of the earliest unleased due time, INT64_MAX if none. */
int job_next_due(struct db *db, int64_t *due_at_out, struct err *err);
/* Free all leases of an owner ("" : every owner). */
int job_free_leases(struct db *db, const char *owner, struct err *err);
/* 1 found, 0 none, -1 error. */
int job_find(struct db *db, int64_t account_id, enum job_kind kind,
             struct job *out, struct err *err);
/* Delete the unleased jobs of an account (kind -1: of every kind); leased ones
   are not run again. */
int job_cancel(struct db *db, int64_t account_id, int kind, struct err *err);
int job_count(struct db *db, int64_t *queued_out, int64_t *leased_out,
              struct err *err);

#endif
