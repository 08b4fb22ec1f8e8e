/*
 * What closing a domain asks of its accounts: what still stands against it, who
 * has a trail, whom legacy may still take mail for.
 */
#ifndef DB_CLOSING_H
#define DB_CLOSING_H

#include <stdint.h>

#include "db/db.h"
#include "db/domains.h"

/* What stands against the end of a domain's trails. */
enum closing_bar {
    CLOSING_ON_LEGACY, /* legacy serves it */
    CLOSING_HELD,      /* it is just being flipped */
    CLOSING_PAUSED,    /* its trail rests */
    CLOSING_SET_ASIDE, /* with messages that nobody has accepted as lost */
    CLOSING_LATE_MAIL, /* flipped, or late mail found, in the quiet days */
    CLOSING_WAY_BACK,  /* its rollback days are not over */
    CLOSING_GOES_BACK, /* somebody has asked for its way back */
    CLOSING_BAR_COUNT
};
const char *closing_bar_name(enum closing_bar bar);

/* How many accounts each bar stands for, at Unix ms `now`. */
int closing_count(struct db *db, const struct domain *domain, int64_t now,
                  int64_t counts_out[CLOSING_BAR_COUNT], struct err *err);
/* Their addresses, the first `limit` in order; fn returns 0 to go on. */
int closing_each_barred(struct db *db, const struct domain *domain, int64_t now,
                        enum closing_bar bar, int limit,
                        int (*fn)(void *ctx, const char *address), void *ctx,
                        struct err *err);

/* The accounts of a domain whose trail runs or rests, with an id above
   `after`, in its order, at most `limit`; fn returns 0 to go on. */
int closing_each_trail(struct db *db, int64_t domain_id, int64_t after,
                       int limit, int (*fn)(void *ctx, int64_t account_id),
                       void *ctx, struct err *err);
int closing_count_trails(struct db *db, int64_t domain_id, int64_t *count_out,
                         struct err *err);
/* The same in every closed domain, but for those whose password is still to be
   hashed. */
int closing_each_unended(struct db *db, int limit,
                         int (*fn)(void *ctx, int64_t account_id), void *ctx,
                         struct err *err);
/* 1 if there is any trail in a closed domain, 0 if not, -1 error. */
int closing_has_unended(struct db *db, struct err *err);

/* The addresses of the domain that are known to us, accounts, aliases and
   strangers: those behind `after` in order, at most `limit`. */
int closing_each_address(struct db *db, int64_t domain_id, const char *after,
                         int limit, int (*fn)(void *ctx, const char *address),
                         void *ctx, struct err *err);

#endif
