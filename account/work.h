/*
 * Putting the jobs of an account into the queue.
 */
#ifndef ACCOUNT_WORK_H
#define ACCOUNT_WORK_H

#include <stdint.h>

#include "base/err.h"
#include "db/accounts.h"
#include "db/domains.h"
#include "db/jobs.h"

/* Queue a job of that kind, due at due_at (Unix ms), for the account as its row
   and its domain's are now. */
int work_queue(struct db *db, const struct account *account,
               const struct domain *domain, enum job_kind kind, int64_t due_at,
               struct err *err);

#endif
