#include "account/work.h"

#include <string.h>

/* Whom somebody waits for comes first. */
static int priority_of(enum job_kind kind)
{
    switch (kind) {
    case JOB_FINAL:
    case JOB_ROLLBACK: return 40;
    case JOB_HASH: return 30;
    case JOB_VERIFY: return 20;
    case JOB_INITIAL:
    case JOB_DELTA:
    case JOB_TRAIL:
    case JOB_KIND_COUNT: break;
    }
    return 10;
}

int work_queue(struct db *db, const struct account *account,
               const struct domain *domain, enum job_kind kind, int64_t due_at,
               struct err *err)
{
    struct job job = {.account_id = account->id,
                      .kind = kind,
                      .epoch = account->epoch,
                      .due_at = due_at,
                      .priority = priority_of(kind)};

    _Static_assert(sizeof(job.host) == sizeof(domain->imap_url),
                   "a job's host is the URL of its domain");
    memcpy(job.host, domain->imap_url, sizeof(job.host));
    return job_queue(db, &job, err);
}
