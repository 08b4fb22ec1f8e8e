/*
 * The login map: other names under which the user of an address logs in.
 * Technical names, names without a domain, second names of one mailbox. A name
 * belongs to one address; the address need not be an account yet.
 */
#ifndef DB_NAMES_H
#define DB_NAMES_H

#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

struct login_name {
    char name[ADDRESS_MAX];        /* canonical, see account/username.h */
    char address[ADDRESS_MAX];     /* canonical */
    char legacy_user[ADDRESS_MAX]; /* name on legacy; "" : the account's own */
    int64_t created_at;            /* Unix ms */
};

/* 1 found, 0 not found, -1 error. */
int name_find(struct db *db, const char *name, struct login_name *out,
              struct err *err);
/* Insert, or give the name to another address. */
int name_put(struct db *db, const struct login_name *name, struct err *err);
/* 1 removed, 0 there was none, -1 error. */
int name_remove(struct db *db, const char *name, struct err *err);
/* All names of an address to another one. */
int name_move(struct db *db, const char *from, const char *to, struct err *err);
/* Those of an address (NULL: all), in order; fn returns 0 to go on. */
int name_each(struct db *db, const char *address,
              int (*fn)(void *ctx, const struct login_name *name), void *ctx,
              struct err *err);

#endif
