/*
 * Bringing a control db to what the witnesses say: the rows of `refused` (the
 * journal's, newer than this db) and auth.db, attached as "auth", become rows
 * of accounts. Statements over all rows at once: a million take a minute.
 */
#ifndef DB_REBUILD_H
#define DB_REBUILD_H

#include <stdint.h>

#include "db/db.h"

struct rebuild_counts {
    int64_t changed; /* accounts that were there, and moved */
    int64_t added;
    int64_t local, legacy; /* of both */
    int64_t without_hash;  /* of local: nobody can log in to these */
    int64_t without_seal;  /* of local: their trails rest */
    int64_t doubtful;      /* stay refused */
};

typedef void rebuild_line_fn(void *ctx, const char *address, const char *line);

/* Where auth.db knows a later epoch than witness and row: it wins, and the
   address is told. Writes into refused. */
int rebuild_take_auth(struct db *db, rebuild_line_fn *fn, void *ctx,
                      struct err *err);
/* Domains that witnesses name and this db does not have. */
int rebuild_missing_domains(struct db *db, rebuild_line_fn *fn, void *ctx,
                            struct err *err);
/* In the transaction of the caller. has_auth: auth.db is attached. */
int rebuild_merge(struct db *db, bool has_auth, int64_t now_ms,
                  struct rebuild_counts *out, struct err *err);

/* What cannot be, in the control db by itself; and against auth.db, attached.
   Each difference by address, in words. */
int rebuild_look_at_rows(struct db *db, rebuild_line_fn *fn, void *ctx,
                         struct err *err);
int rebuild_look_at_auth(struct db *db, rebuild_line_fn *fn, void *ctx,
                         struct err *err);

#endif
