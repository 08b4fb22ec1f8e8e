/*
 * What has changed between two looks at a row, in words for the audit:
 * "route=held copy=final epoch=3". Counters of progress, errors and the time of
 * writing are left out: they change with every job. Pure.
 */
#ifndef ACCOUNT_DIFFERENCE_H
#define ACCOUNT_DIFFERENCE_H

#include <stdbool.h>

#include "db/accounts.h"
#include "db/domains.h"

#define DIFFERENCE_MAX 1536

struct difference {
    char was[DIFFERENCE_MAX]; /* only what is not the same; cut at the end */
    char became[DIFFERENCE_MAX];
};

/* NULL for a row that was not there, or is there no more: its side is "", the
   other names what is not empty. False if nothing has changed. */
bool account_difference(const struct account *was, const struct account *is,
                        struct difference *out);
bool domain_difference(const struct domain *was, const struct domain *is,
                       struct difference *out);

#endif
