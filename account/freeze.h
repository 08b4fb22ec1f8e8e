/*
 * What a freeze covers. While a domain is frozen nobody of it is taken in,
 * nothing is copied and no hold begins; routing, sessions, mail, trails and
 * whatever an operator asks for by name go on.
 *
 * The table freezes is the truth; domains.is_frozen is what follows from it, so
 * that every decision about a domain has it at hand.
 */
#ifndef ACCOUNT_FREEZE_H
#define ACCOUNT_FREEZE_H

#include <jansson.h>
#include <stdbool.h>

#include "db/domains.h"
#include "db/freezes.h"

/* Whether the freeze is about this domain: all of them, its name, or the host
   of one of its old servers. Pure. */
bool freeze_covers(const struct freeze *f, const struct domain *d);

/* Write is_frozen of every domain as the freezes have it now. To be called
   after each change of a freeze or of a domain. */
int freeze_refresh(struct db *db, struct err *err);

/* The oldest freeze of a domain. 1 found, 0 none. */
int freeze_of_domain(struct db *db, const struct domain *d, struct freeze *out,
                     struct err *err);

/* An array of those that cover d (NULL: of all). New reference, NULL with err
   set. */
json_t *freeze_list_json(struct db *db, const struct domain *d,
                         struct err *err);

/* ERR_SETUP with a sentence that names the freeze, if the domain is frozen. */
int freeze_refuse(struct db *db, const struct domain *d, struct err *err);

#endif
