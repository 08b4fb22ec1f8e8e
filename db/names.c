#include "db/names.h"

#include <string.h>

#include "base/clock.h"
#include "db/row.h"

#define SELECT "SELECT name, address, legacy_user, created_at FROM names "

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct login_name *out = row;
    const struct row_text texts[] = {
        {out->name, sizeof(out->name), 0},
        {out->address, sizeof(out->address), 1},
        {out->legacy_user, sizeof(out->legacy_user), 2},
    };

    memset(out, 0, sizeof(*out));
    out->created_at = db_int(s, 3);
    return row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err);
}

int name_find(struct db *db, const char *name, struct login_name *out,
              struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE name = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name);
    return row_one(s, read_row, out, err);
}

int name_put(struct db *db, const struct login_name *name, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO names (name, address, legacy_user, created_at) "
                   "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET "
                   "address = excluded.address, "
                   "legacy_user = excluded.legacy_user",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name->name);
    db_bind_text(s, 2, name->address);
    db_bind_text(s, 3, name->legacy_user);
    db_bind_int(s, 4, name->created_at ? name->created_at : clock_unix_ms());
    return db_run(s, err);
}

int name_remove(struct db *db, const char *name, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM names WHERE name = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db);
}

int name_move(struct db *db, const char *from, const char *to, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "UPDATE names SET address = ?2 WHERE address = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, from);
    db_bind_text(s, 2, to);
    return db_run(s, err);
}

int name_each(struct db *db, const char *address,
              int (*fn)(void *ctx, const struct login_name *name), void *ctx,
              struct err *err)
{
    struct db_statement *s;
    struct login_name name;
    int result;

    if (address == NULL)
        s = db_prepare(db, SELECT "ORDER BY name", err);
    else
        s = db_prepare(db, SELECT "WHERE address = ?1 ORDER BY name", err);
    if (s == NULL)
        return -1;
    if (address != NULL)
        db_bind_text(s, 1, address);
    while ((result = db_step(s, err)) == 1) {
        if (read_row(s, &name, err) == -1) {
            result = -1;
            break;
        }
        if (fn(ctx, &name) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}
