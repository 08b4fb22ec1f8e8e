/*
 * The table of freezes: what may not begin, everywhere, in one domain, or on
 * one legacy host; since when, by whom and why. What that means for a domain is
 * kept in its row (is_frozen), see account/freeze.h.
 */
#ifndef DB_FREEZES_H
#define DB_FREEZES_H

#include <stdint.h>

#include "db/db.h"

enum freeze_kind { FREEZE_ALL, FREEZE_DOMAIN, FREEZE_HOST, FREEZE_KIND_COUNT };
const char *freeze_kind_name(enum freeze_kind kind);

struct freeze {
    enum freeze_kind kind;
    char name[256]; /* lower case; "" for FREEZE_ALL */
    int64_t since;  /* Unix ms */
    char actor[64]; /* "uid 0" */
    char reason[401];
};

/* 1: it is there from now on; 0: it was there before, and stays as it was. */
int freeze_put(struct db *db, const struct freeze *f, struct err *err);
/* 1: it was there; 0: it was not. */
int freeze_remove(struct db *db, enum freeze_kind kind, const char *name,
                  struct err *err);
/* Oldest first; fn returns 0 to go on. */
int freeze_each(struct db *db, int (*fn)(void *ctx, const struct freeze *f),
                void *ctx, struct err *err);

#endif
