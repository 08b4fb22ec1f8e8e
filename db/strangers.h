/*
 * The table of strangers: recipients that legacy takes mail for and that are no
 * account of ours. What becomes an account leaves it by itself (a trigger).
 */
#ifndef DB_STRANGERS_H
#define DB_STRANGERS_H

#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

#define STRANGERS_MAX 100000 /* listed of a domain; beyond: only counted */

struct stranger {
    char address[ADDRESS_MAX];
    int64_t mails;
    int64_t first_at, last_at; /* Unix ms */
};

struct stranger_totals {
    int64_t addresses;
    int64_t unlisted_mails; /* to those for whom there was no room */
};

/* Count mails that legacy took at `now` for the address, which is of that
   domain. Nothing if it is an account or an alias. `most`: STRANGERS_MAX. */
int stranger_note(struct db *db, int64_t domain_id,
                  const struct stranger *noted, int64_t most, struct err *err);
int stranger_totals(struct db *db, int64_t domain_id,
                    struct stranger_totals *out, struct err *err);
/* Those with most mails first, at most `limit`; fn returns 0 to go on. */
int stranger_each(struct db *db, int64_t domain_id, int limit,
                  int (*fn)(void *ctx, const struct stranger *s), void *ctx,
                  struct err *err);

#endif
