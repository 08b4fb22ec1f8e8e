/*
 * Compares both sides without the ledger: legacy over IMAP and POP3, local as
 * its files stand on disk. Reads only.
 */
#ifndef MIGRATOR_VERIFY_H
#define MIGRATOR_VERIFY_H

#include "base/err.h"
#include "migrator/job.h"
#include "migrator/report.h"

/* Folders, subscriptions, UIDVALIDITY, UIDs, flags, keywords, dates, sizes,
   UIDLs, and with job->is_full every byte. report->differences counts them,
   report->details holds the first hundred as text ("INBOX/uid 17: missing
   locally"). After the flip local may have more and other flags: no difference;
   what arrived on legacy since must be found locally by its digest. 0 also when
   there are differences; errors as for a copy. */
int verify_run(const struct migration_job *job, struct progress *progress,
               struct migration_report *report, struct err *err);

#endif
