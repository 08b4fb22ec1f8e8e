/*
 * Numbers of the whole installation. "generation" counts the changes of a route
 * for good (flips, ways back): a copy of the control db knows no more than its
 * generation says.
 */
#ifndef DB_COUNTERS_H
#define DB_COUNTERS_H

#include <stdint.h>

#include "db/db.h"

#define COUNTER_GENERATION "generation"

/* 0 where there is no such counter yet. */
int counter_get(struct db *db, const char *name, int64_t *value_out,
                struct err *err);
int counter_set(struct db *db, const char *name, int64_t value,
                struct err *err);
/* One more, in the transaction of the caller. */
int counter_raise(struct db *db, const char *name, int64_t *value_out,
                  struct err *err);

#endif
