#include "db/freezes.h"

#include <string.h>

#include "db/row.h"

static const char *const kind_names[] = {"all", "domain", "host"};
_Static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == FREEZE_KIND_COUNT,
               "a name for each kind");

const char *freeze_kind_name(enum freeze_kind kind)
{
    return (unsigned)kind < FREEZE_KIND_COUNT ? kind_names[kind] : "unknown";
}

static int read_row(struct db_statement *s, struct freeze *out, struct err *err)
{
    const struct row_text texts[] = {
        {out->name, sizeof(out->name), 1},
        {out->actor, sizeof(out->actor), 3},
        {out->reason, sizeof(out->reason), 4},
    };
    unsigned kind = 0;

    memset(out, 0, sizeof(*out));
    while (kind < FREEZE_KIND_COUNT &&
           strcmp(kind_names[kind], db_text(s, 0)) != 0)
        kind++;
    if (kind == FREEZE_KIND_COUNT)
        return err_set(err, ERR_SETUP, "a freeze of unknown kind");
    out->kind = (enum freeze_kind)kind;
    out->since = db_int(s, 2);
    return row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err);
}

int freeze_put(struct db *db, const struct freeze *f, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO freezes (kind, name, since, actor, reason) "
        "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (kind, name) DO NOTHING",
        err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, freeze_kind_name(f->kind));
    db_bind_text(s, 2, f->name);
    db_bind_int(s, 3, f->since);
    db_bind_text(s, 4, f->actor);
    db_bind_text(s, 5, f->reason);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db) == 1;
}

int freeze_remove(struct db *db, enum freeze_kind kind, const char *name,
                  struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "DELETE FROM freezes WHERE kind = ?1 AND name = ?2", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, freeze_kind_name(kind));
    db_bind_text(s, 2, name);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db) == 1;
}

int freeze_each(struct db *db, int (*fn)(void *ctx, const struct freeze *f),
                void *ctx, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT kind, name, since, actor, reason FROM freezes "
                   "ORDER BY since, kind, name",
                   err);
    struct freeze f;
    int result;

    if (s == NULL)
        return -1;
    while ((result = db_step(s, err)) == 1) {
        if (read_row(s, &f, err) == -1) {
            result = -1;
            break;
        }
        if (fn(ctx, &f) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}
