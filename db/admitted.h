/*
 * The table of those who are taken in by name, whatever the share of their
 * domain; they may have no account yet.
 */
#ifndef DB_ADMITTED_H
#define DB_ADMITTED_H

#include <stdint.h>

#include "db/db.h"

/* 1: from now on; 0: it was there before. address: canonical. */
int admitted_add(struct db *db, int64_t domain_id, const char *address,
                 struct err *err);
/* 1: it was there; 0: it was not. */
int admitted_remove(struct db *db, int64_t domain_id, const char *address,
                    struct err *err);
/* 1: it is there; 0: it is not. */
int admitted_has(struct db *db, int64_t domain_id, const char *address,
                 struct err *err);
int admitted_count(struct db *db, int64_t domain_id, int64_t *count_out,
                   struct err *err);
/* In order of address; fn returns 0 to go on. */
int admitted_each(struct db *db, int64_t domain_id,
                  int (*fn)(void *ctx, const char *address), void *ctx,
                  struct err *err);

#endif
