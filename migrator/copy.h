/*
 * The copy engine's jobs on the Maildir before the flip: initial, delta, final.
 */
#ifndef MIGRATOR_COPY_H
#define MIGRATOR_COPY_H

#include "migrator/job.h"
#include "migrator/report.h"

/* JOB_INITIAL, JOB_DELTA, JOB_FINAL. Fills *report (initialised by the caller)
   also when it fails. One message never stops it: see report->set_aside.
   report->differences > 0: the store is not yet what legacy is. */
int copy_run(const struct migration_job *job, struct progress *progress,
             struct migration_report *report, struct err *err);

#endif
