/*
 * After the flip: append to local what still arrived on legacy.
 */
#ifndef MIGRATOR_TRAIL_H
#define MIGRATOR_TRAIL_H

#include "migrator/job.h"
#include "migrator/report.h"

/* JOB_TRAIL; copy.h tells the manners. */
int trail_run(const struct migration_job *job, struct progress *progress,
              struct migration_report *report, struct err *err);

#endif
