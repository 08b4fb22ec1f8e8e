/*
 * The accounts of which the store knows more than this control db. What the
 * witness of a change of route says is a row here; see account/witness.h.
 */
#ifndef DB_REFUSED_H
#define DB_REFUSED_H

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

struct witness {
    int64_t generation; /* of the installation, then */
    int64_t epoch;      /* of the account */
    enum account_route route;
    int64_t at; /* Unix ms */
    char address[ADDRESS_MAX];
    char legacy_user[ADDRESS_MAX];
    bool has_prefix; /* the two below are known */
    char prefix[256];
    char separator[8];
};

/* Insert; what is there already is replaced unless it is of a later
   generation. source: "journal" or "maildir". */
int refused_put(struct db *db, const struct witness *w, const char *source,
                struct err *err);
/* 1 if nobody may be told who serves this address, 0 if he may. */
int refused_find(struct db *db, const char *address, int64_t *generation_out,
                 struct err *err);
int refused_count(struct db *db, int64_t *count_out, struct err *err);

#endif
