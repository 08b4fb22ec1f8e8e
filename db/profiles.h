/*
 * What an account list says of an account besides its states: quota, forward,
 * owner, group, and the aliases whose mail is his.
 */
#ifndef DB_PROFILES_H
#define DB_PROFILES_H

#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

struct profile {
    int64_t quota_bytes;           /* 0: none said */
    char forward[4 * ADDRESS_MAX]; /* addresses, a space between; "" : none */
    char owner[128];
    char group[64]; /* of customers */
};

/* 1 found; 0 none: *out is empty then; -1 error. */
int profile_get(struct db *db, int64_t account_id, struct profile *out,
                struct err *err);
int profile_put(struct db *db, int64_t account_id,
                const struct profile *profile, struct err *err);

/* Whose alias that is: 1 found, 0 nobody's, -1 error. */
int alias_find(struct db *db, const char *alias, int64_t *account_id_out,
               struct err *err);
/* ERR_SETUP if it is somebody else's; his own again is no error. */
int alias_put(struct db *db, const char *alias, int64_t account_id,
              struct err *err);
int alias_remove(struct db *db, const char *alias, struct err *err);
/* In order; fn returns 0 to go on. */
int alias_each(struct db *db, int64_t account_id,
               int (*fn)(void *ctx, const char *alias), void *ctx,
               struct err *err);

#endif
