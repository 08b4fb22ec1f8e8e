/*
 * What a worker tells: progress while it works, and one report at the end.
 */
#ifndef MIGRATOR_REPORT_H
#define MIGRATOR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "account/mailbox_id.h"
#include "base/err.h"

#define MIGRATION_REFUSED_MAX 10

struct migration_report {
    int64_t folders, messages, bytes;             /* in the store now */
    int64_t messages_total, bytes_total;          /* as legacy counts them */
    int64_t copied, removed, reflagged, appended; /* by this job */
    int64_t set_aside;                            /* in the ledger now */
    json_t *items; /* owned array of the first SET_ASIDE_LISTED_MAX of them,
                      {"item", "reason"}; NULL: none */
    bool is_master_good; /* he is shown the mailboxes that he asks for */
    bool is_verified;    /* delta, last one: both sides were compared */
    /* delta: what local says of this account (local_ask.h); "" : not asked */
    bool is_local_ready;
    char local_fault[200];
    bool has_prefix; /* legacy's NAMESPACE, if learnt */
    char prefix[256];
    char separator[8];
    /* which mailbox of legacy it is (account/mailbox_id.h); "" : as before */
    char mailbox_id[MAILBOX_ID_SIZE];
    char question[16]; /* what an operator must answer; "" : nothing */
    char renewal[160]; /* it was made anew, and goes on; "" : it was not */
    /* trail: legacy has had nothing new since the last pass */
    bool is_quiet;
    int64_t credential; /* of the password that legacy has accepted */
    int64_t refused[MIGRATION_REFUSED_MAX]; /* credentials it refuses */
    unsigned refused_count;
    /* verify: differences found; the first ones as text */
    int64_t differences;
    json_t *details; /* owned array of strings, NULL: none */
};

json_t *migration_report_encode(const struct migration_report *report);
void migration_report_decode(const json_t *message,
                             struct migration_report *out);
void migration_report_release(struct migration_report *report);

/* How a job tells how far it is; called often, sends at most every 200 ms.
   Returns -1 when nobody listens any more: the job must end. */
struct progress;
int progress_tell(struct progress *progress,
                  const struct migration_report *so_far);

#endif
