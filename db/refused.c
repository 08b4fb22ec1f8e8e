#include "db/refused.h"

int refused_put(struct db *db, const struct witness *w, const char *source,
                struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO refused (address, generation, epoch, route, at, "
        "legacy_user, prefix, separator, source) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
        "ON CONFLICT (address) DO UPDATE SET generation = excluded.generation, "
        "epoch = excluded.epoch, route = excluded.route, at = excluded.at, "
        "legacy_user = excluded.legacy_user, prefix = excluded.prefix, "
        "separator = excluded.separator, source = excluded.source "
        "WHERE excluded.generation >= generation",
        err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, w->address);
    db_bind_int(s, 2, w->generation);
    db_bind_int(s, 3, w->epoch);
    db_bind_text(s, 4, account_route_name(w->route));
    db_bind_int(s, 5, w->at);
    db_bind_text(s, 6, w->legacy_user);
    db_bind_text(s, 7, w->has_prefix ? w->prefix : NULL);
    db_bind_text(s, 8, w->has_prefix ? w->separator : NULL);
    db_bind_text(s, 9, source);
    return db_run(s, err);
}

int refused_find(struct db *db, const char *address, int64_t *generation_out,
                 struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT generation FROM refused WHERE address = ?1", err);
    int found;

    *generation_out = 0;
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, address);
    found = db_step(s, err);
    if (found == 1)
        *generation_out = db_int(s, 0);
    db_finish(s);
    return found;
}

int refused_count(struct db *db, int64_t *count_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT count(*) FROM refused", err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *count_out = db_int(s, 0);
    db_finish(s);
    return 0;
}
