/*
 * What a way back could not take to legacy, as lines for the administrator. The
 * newest list of an account replaces the one before.
 */
#ifndef DB_LEFTOVERS_H
#define DB_LEFTOVERS_H

#include <stdint.h>

#include "db/db.h"

/* Forget the list of an account. */
int leftovers_clear(struct db *db, int64_t account_id, struct err *err);
/* One more line, at the end. */
int leftovers_add(struct db *db, int64_t account_id, const char *line,
                  struct err *err);
/* In their order; fn returns 0 to go on. The line lives until it returns. */
int leftovers_each(struct db *db, int64_t account_id,
                   int (*fn)(void *ctx, const char *line), void *ctx,
                   struct err *err);

#endif
