/*
 * How many accounts are in each state, and how many jobs of each kind wait and
 * run: kept by triggers, so that asking costs as much with a million accounts
 * as with one.
 */
#ifndef DB_COUNTS_H
#define DB_COUNTS_H

#include <stdint.h>

#include "db/db.h"
#include "db/jobs.h"
#include "db/states.h"

struct account_count {
    const char *domain; /* its name; borrowed for the call */
    enum account_route route;
    enum account_copy copy;
    int64_t accounts; /* may be 0 */
};
/* fn returns 0 to go on. */
int account_counts_each(struct db *db,
                        int (*fn)(void *ctx, const struct account_count *count),
                        void *ctx, struct err *err);

/* Those of one domain; domain_id 0: of all. */
int account_counts_sum(struct db *db, int64_t domain_id, int64_t *accounts_out,
                       struct err *err);

struct job_counts {
    int64_t waiting[JOB_KIND_COUNT];
    int64_t running[JOB_KIND_COUNT];
};
int job_counts_read(struct db *db, struct job_counts *out, struct err *err);

/* on_flip commands that are due (tried already or not), and that have failed
   for good. */
int on_flip_counts_read(struct db *db, int64_t *due_out, int64_t *failed_out,
                        struct err *err);

#endif
