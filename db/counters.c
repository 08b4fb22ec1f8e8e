#include "db/counters.h"

int counter_get(struct db *db, const char *name, int64_t *value_out,
                struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT value FROM counters WHERE name = ?1", err);
    int found;

    *value_out = 0;
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name);
    found = db_step(s, err);
    if (found == 1)
        *value_out = db_int(s, 0);
    db_finish(s);
    return found == -1 ? -1 : 0;
}

int counter_set(struct db *db, const char *name, int64_t value, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO counters (name, value) VALUES (?1, ?2) ON "
                   "CONFLICT (name) DO UPDATE SET value = excluded.value",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name);
    db_bind_int(s, 2, value);
    return db_run(s, err);
}

int counter_raise(struct db *db, const char *name, int64_t *value_out,
                  struct err *err)
{
    if (counter_get(db, name, value_out, err) == -1)
        return -1;
    ++*value_out;
    return counter_set(db, name, *value_out, err);
}
