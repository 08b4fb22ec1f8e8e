/*
 * Append-only record of every change of a route and every command.
 */
#ifndef DB_AUDIT_H
#define DB_AUDIT_H

#include <stdint.h>

#include "db/db.h"

struct audit_entry {
    int64_t at;         /* Unix ms */
    int64_t account_id; /* 0: not about one account */
    const char *actor;  /* "state", "uid 0", ... */
    const char *event;  /* "learnt", "flip", "domain add", ... */
    const char *detail; /* "route=held->local epoch=3->4" */
    /* where they are known; NULL is "" */
    const char *address; /* of an account or a domain; outlives both */
    const char *was;     /* "route=held copy=final epoch=3" */
    const char *became;
    const char *reason; /* why, in the words of who did it */
};

int audit_append(struct db *db, const struct audit_entry *entry,
                 struct err *err);

/* Which entries; the first that is set of account_id, address and domain
   counts. */
struct audit_filter {
    int64_t account_id;  /* 0: of every account */
    const char *address; /* NULL: of every address */
    const char *domain;  /* itself and its accounts; NULL: of every domain */
    int64_t since;       /* Unix ms */
    int limit;
};
/* Newest first; fn returns 0 to go on. */
int audit_each(struct db *db, const struct audit_filter *filter,
               int (*fn)(void *ctx, const struct audit_entry *entry), void *ctx,
               struct err *err);

#endif
