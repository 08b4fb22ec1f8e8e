/*
 * Compare both sides of a mailbox, without the ledger.
 */
#ifndef MIGRATOR_VERIFY_H
#define MIGRATOR_VERIFY_H

#include "migrator/job.h"
#include "migrator/report.h"

/* JOB_VERIFY; copy.h tells the manners. */
int verify_run(const struct migration_job *job, struct progress *progress,
               struct migration_report *report, struct err *err);

#endif
