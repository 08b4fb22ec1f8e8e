/*
 * After the flip: what still arrives on legacy is appended to local, once, over
 * local's own IMAP door. Legacy is only read (EXAMINE, PEEK); nothing local is
 * changed or deleted, and what the user moved or deleted does not come back.
 *
 * One message:  new on legacy -> row "intent" (size, digest, local UIDNEXT)
 *               -> APPEND -> row "done". A crash leaves an intent behind; the
 * next pass looks for the message at or after that UIDNEXT before it appends.
 */
#ifndef MIGRATOR_TRAIL_H
#define MIGRATOR_TRAIL_H

#include "base/err.h"
#include "migrator/job.h"
#include "migrator/report.h"

/* One pass over every folder of legacy, or only INBOX if job->inbox_only.
   report->appended counts, report->is_quiet says that nothing was new.
   ERR_RETRY: network, or local is over quota; ERR_DENIED: a password is wrong;
   ERR_SETUP: a UIDVALIDITY changed on legacy since the flip, or the ledger. */
int trail_run(const struct migration_job *job, struct progress *progress,
              struct migration_report *report, struct err *err);

#endif
