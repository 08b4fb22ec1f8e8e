/*
 * The table of what a migration has set aside: messages that legacy does not
 * give, by the name the administrator accepts them under.
 */
#ifndef DB_SET_ASIDE_H
#define DB_SET_ASIDE_H

#include <stdint.h>

#include "db/db.h"

#define SET_ASIDE_ITEM_SIZE   1400
#define SET_ASIDE_REASON_SIZE 256
#define SET_ASIDE_LISTED_MAX  1000 /* of one mailbox */

struct set_aside {
    char item[SET_ASIDE_ITEM_SIZE]; /* FOLDER/UIDVALIDITY/UID */
    char reason[SET_ASIDE_REASON_SIZE];
    int64_t seen_at;     /* Unix ms; first */
    int64_t accepted_at; /* 0: not */
    char accepted_by[32];
};

/* An item that a pass has named: new (and not accepted) if it is not there yet,
   else its reason is brought up to date. Every name of one pass comes with the
   same `now`; set_aside_forget() then removes what was not named in it. */
int set_aside_put(struct db *db, int64_t account_id, const char *item,
                  const char *reason, int64_t now, struct err *err);
/* Remove what the pass of `now` has not named. */
int set_aside_forget(struct db *db, int64_t account_id, int64_t now,
                     struct err *err);
/* 1: it is accepted now (again: by the first who did); 0: there is none. */
int set_aside_accept(struct db *db, int64_t account_id, const char *item,
                     const char *actor, int64_t now, struct err *err);
/* How many are accepted, of those that the pass of that time has named (0: of
   all). */
int set_aside_accepted(struct db *db, int64_t account_id, int64_t named_at,
                       int64_t *count_out, struct err *err);
/* By name; fn returns 0 to go on. */
int set_aside_each(struct db *db, int64_t account_id,
                   int (*fn)(void *ctx, const struct set_aside *row), void *ctx,
                   struct err *err);

#endif
