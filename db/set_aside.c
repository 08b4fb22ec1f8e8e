#include "db/set_aside.h"

#include <string.h>

#include "db/row.h"

int set_aside_put(struct db *db, int64_t account_id, const char *item,
                  const char *reason, int64_t now, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO set_aside (account_id, item, reason, seen_at, named_at) "
        "VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (account_id, item) DO UPDATE "
        "SET reason = ?3, named_at = ?4",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_text(s, 2, item);
    db_bind_text(s, 3, reason);
    db_bind_int(s, 4, now);
    return db_run(s, err);
}

int set_aside_forget(struct db *db, int64_t account_id, int64_t now,
                     struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "DELETE FROM set_aside WHERE account_id = ? AND named_at <> ?",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_int(s, 2, now);
    return db_run(s, err);
}

int set_aside_accept(struct db *db, int64_t account_id, const char *item,
                     const char *actor, int64_t now, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE set_aside SET "
                   "accepted_by = iif(accepted_at = 0, ?4, accepted_by), "
                   "accepted_at = iif(accepted_at = 0, ?3, accepted_at) "
                   "WHERE account_id = ?1 AND item = ?2",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_text(s, 2, item);
    db_bind_int(s, 3, now);
    db_bind_text(s, 4, actor);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db);
}

static int read_count(struct db_statement *s, void *out, struct err *err)
{
    (void)err;
    *(int64_t *)out = db_int(s, 0);
    return 0;
}

int set_aside_accepted(struct db *db, int64_t account_id, int64_t named_at,
                       int64_t *count_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT count(*) FROM set_aside WHERE account_id = ?1 "
                   "AND accepted_at <> 0 AND ?2 IN (0, named_at)",
                   err);

    *count_out = 0;
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_int(s, 2, named_at);
    return row_one(s, read_count, count_out, err) == -1 ? -1 : 0;
}

static int read_row(struct db_statement *s, struct set_aside *out,
                    struct err *err)
{
    const struct row_text texts[] = {
        {out->item, sizeof(out->item), 0},
        {out->reason, sizeof(out->reason), 1},
        {out->accepted_by, sizeof(out->accepted_by), 4},
    };

    out->seen_at = db_int(s, 2);
    out->accepted_at = db_int(s, 3);
    return row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err);
}

int set_aside_each(struct db *db, int64_t account_id,
                   int (*fn)(void *ctx, const struct set_aside *row), void *ctx,
                   struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT item, reason, seen_at, accepted_at, accepted_by FROM set_aside "
        "WHERE account_id = ? ORDER BY item",
        err);
    struct set_aside row;
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    while ((rc = db_step(s, err)) == 1) {
        rc = read_row(s, &row, err);
        if (rc == -1 || fn(ctx, &row) != 0) {
            db_finish(s);
            return rc;
        }
    }
    return rc;
}
