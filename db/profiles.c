#include "db/profiles.h"

#include <string.h>

#include "db/row.h"

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct profile *out = row;
    const struct row_text texts[] = {
        {out->forward, sizeof(out->forward), 1},
        {out->owner, sizeof(out->owner), 2},
        {out->group, sizeof(out->group), 3},
    };

    out->quota_bytes = db_int(s, 0);
    return row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err);
}

int profile_get(struct db *db, int64_t account_id, struct profile *out,
                struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT quota_bytes, forward, owner, group_name "
                   "FROM profiles WHERE account_id = ?1",
                   err);

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    return row_one(s, read_row, out, err);
}

int profile_put(struct db *db, int64_t account_id,
                const struct profile *profile, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT OR REPLACE INTO profiles (account_id, quota_bytes, "
                   "forward, owner, group_name) VALUES (?1, ?2, ?3, ?4, ?5)",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_int(s, 2, profile->quota_bytes);
    db_bind_text(s, 3, profile->forward);
    db_bind_text(s, 4, profile->owner);
    db_bind_text(s, 5, profile->group);
    return db_run(s, err);
}

int alias_find(struct db *db, const char *alias, int64_t *account_id_out,
               struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT account_id FROM aliases WHERE alias = ?1", err);
    int found;

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, alias);
    found = db_step(s, err);
    if (found == 1)
        *account_id_out = db_int(s, 0);
    db_finish(s);
    return found;
}

int alias_put(struct db *db, const char *alias, int64_t account_id,
              struct err *err)
{
    struct db_statement *s;
    int64_t other;
    int found = alias_find(db, alias, &other, err);

    if (found == -1 || (found == 1 && other == account_id))
        return found == -1 ? -1 : 0;
    if (found == 1)
        return err_set(err, ERR_SETUP, "alias %s: another account has it",
                       alias);
    s = db_prepare(
        db, "INSERT INTO aliases (alias, account_id) VALUES (?1, ?2)", err);
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, alias);
    db_bind_int(s, 2, account_id);
    return db_run(s, err);
}

int alias_remove(struct db *db, const char *alias, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM aliases WHERE alias = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, alias);
    return db_run(s, err);
}

int alias_each(struct db *db, int64_t account_id,
               int (*fn)(void *ctx, const char *alias), void *ctx,
               struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT alias FROM aliases WHERE account_id = ?1 ORDER BY alias",
        err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    while ((result = db_step(s, err)) == 1)
        if (fn(ctx, db_text(s, 0)) != 0) {
            result = 0;
            break;
        }
    db_finish(s);
    return result;
}
