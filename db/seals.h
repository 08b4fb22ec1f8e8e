/*
 * Every sealed password, whosesoever it is: of an account, one of its further
 * credentials, a domain's master user. For wrapping them to a newer key.
 */
#ifndef DB_SEALS_H
#define DB_SEALS_H

#include <stdint.h>

#include "db/accounts.h"
#include "db/db.h"

enum seal_place {
    SEAL_OF_ACCOUNT,
    SEAL_OF_CREDENTIAL,
    SEAL_OF_DOMAIN,
    SEAL_PLACE_COUNT
};

struct stored_seal {
    enum seal_place place;
    int64_t id;                /* of the account, credential or domain */
    char address[ADDRESS_MAX]; /* whom it was sealed for; a domain's name */
    struct account_seal seal;
};

/* Those of a place with an id above after_id, in its order, at most limit; fn
   returns 0 to go on. */
int seals_each(struct db *db, enum seal_place place, int64_t after_id,
               int limit, int (*fn)(void *ctx, const struct stored_seal *seal),
               void *ctx, struct err *err);
/* Another wrapped key for the same blob. 1 done; 0: what is stored is not
 *was any more, and stays; -1 error. */
int seal_rewrapped(struct db *db, const struct stored_seal *was,
                   const uint8_t *wrapped, size_t length, struct err *err);

#endif
