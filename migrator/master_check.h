/*
 * Whose mailbox is it that the master user is shown? A server that does not
 * heed the name he asks for gives him his own, for each user the same.
 */
#ifndef MIGRATOR_MASTER_CHECK_H
#define MIGRATOR_MASTER_CHECK_H

#include "base/err.h"
#include "migrator/job.h"
#include "migrator/report.h"
#include "migrator/source.h"

/* If the job wants it: compare INBOX, as source (logged in for the job's user)
   shows it, with the one that the master user has himself. ERR_SETUP if they
   are the same one, unless the user's own password shows that too; else
   report->is_master_good (report may be NULL). */
int master_check(const struct migration_job *job, struct source *source,
                 struct migration_report *report, struct err *err);

#endif
