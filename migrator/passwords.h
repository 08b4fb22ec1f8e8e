/*
 * A job and the several passwords of its user: the first that legacy accepts
 * does the work; the last delta looks at all of them.
 */
#ifndef MIGRATOR_PASSWORDS_H
#define MIGRATOR_PASSWORDS_H

#include "base/err.h"
#include "migrator/job.h"
#include "migrator/report.h"

typedef int passwords_run_fn(void *ctx, const struct migration_job *job,
                             struct migration_report *report, struct err *err);

/* run(job), with the next password where legacy refuses one. The report says
   which one did it, and which were refused; in a last delta, each of them has
   been asked for. A master user who is refused is ERR_SETUP. */
int passwords_run(struct migration_job *job, passwords_run_fn *run, void *ctx,
                  struct migration_report *report, struct err *err);

#endif
