#include "db/leftovers.h"

int leftovers_clear(struct db *db, int64_t account_id, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM leftovers WHERE account_id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    return db_run(s, err);
}

int leftovers_add(struct db *db, int64_t account_id, const char *line,
                  struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO leftovers (account_id, position, line) SELECT "
                   "?1, coalesce(max(position), 0) + 1, ?2 FROM leftovers "
                   "WHERE account_id = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_text(s, 2, line);
    return db_run(s, err);
}

int leftovers_each(struct db *db, int64_t account_id,
                   int (*fn)(void *ctx, const char *line), void *ctx,
                   struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT line FROM leftovers WHERE account_id = ?1 "
                   "ORDER BY position",
                   err);
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    while ((rc = db_step(s, err)) == 1)
        if (fn(ctx, db_text(s, 0)) != 0)
            break;
    db_finish(s);
    return rc == -1 ? -1 : 0;
}
