/*
 * The way back: what is new on local is appended to legacy, once, over legacy's
 * own IMAP door; then legacy serves again. One pass runs while local still
 * serves, one inside the hold (job->is_last).
 *
 * One message:  new on local -> row "intent" (digest, legacy's UIDNEXT)
 *               -> APPEND -> row of the legacy UID as "returned". A crash
 * leaves an intent behind; whoever comes next looks for the message on legacy
 * at or after that UIDNEXT before anything is appended, and so does the trail.
 *
 * Without job->with_changes nothing on legacy is changed or deleted but what
 * the way back itself has put there.
 */
#ifndef MIGRATOR_BACK_H
#define MIGRATOR_BACK_H

#include "base/err.h"
#include "db/ledger.h"
#include "migrator/job.h"
#include "migrator/progress.h"
#include "migrator/report.h"

/* One pass. report->appended counts; report->differences and details are what
   could not be taken back, a line each. ERR_RETRY: network, or legacy is over
   quota; ERR_DENIED: a side refuses the password; ERR_SETUP: the ledger is
   lost, or a folder has another UIDVALIDITY on legacy. */
int back_run(const struct migration_job *job, struct progress *progress,
             struct migration_report *report, struct err *err);

/* Finish what a killed pass has left half done on legacy, so that it is not
   taken for new mail: its open APPENDs, its placeholders. For the trail; the
   ledger is the caller's. */
int back_settle(const struct migration_job *job, struct ledger *ledger,
                struct err *err);

#endif
