#include "db/admitted.h"

#include <stddef.h>

/* A statement whose parameters are a domain and an address. */
static struct db_statement *bind(struct db_statement *s, int64_t domain_id,
                                 const char *address)
{
    if (s == NULL)
        return NULL;
    db_bind_int(s, 1, domain_id);
    db_bind_text(s, 2, address);
    return s;
}

int admitted_add(struct db *db, int64_t domain_id, const char *address,
                 struct err *err)
{
    struct db_statement *s =
        bind(db_prepare(db,
                        "INSERT INTO admitted (domain_id, address) "
                        "VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                        err),
             domain_id, address);

    if (s == NULL || db_run(s, err) == -1)
        return -1;
    return db_changed_rows(db) == 1;
}

int admitted_remove(struct db *db, int64_t domain_id, const char *address,
                    struct err *err)
{
    struct db_statement *s =
        bind(db_prepare(db,
                        "DELETE FROM admitted "
                        "WHERE domain_id = ?1 AND address = ?2",
                        err),
             domain_id, address);

    if (s == NULL || db_run(s, err) == -1)
        return -1;
    return db_changed_rows(db) == 1;
}

int admitted_has(struct db *db, int64_t domain_id, const char *address,
                 struct err *err)
{
    struct db_statement *s =
        bind(db_prepare(db,
                        "SELECT 1 FROM admitted "
                        "WHERE domain_id = ?1 AND address = ?2",
                        err),
             domain_id, address);
    int result;

    if (s == NULL)
        return -1;
    result = db_step(s, err);
    db_finish(s);
    return result;
}

int admitted_count(struct db *db, int64_t domain_id, int64_t *count_out,
                   struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT count(*) FROM admitted WHERE domain_id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    if (db_step(s, err) != 1)
        return -1;
    *count_out = db_int(s, 0);
    db_finish(s);
    return 0;
}

int admitted_each(struct db *db, int64_t domain_id,
                  int (*fn)(void *ctx, const char *address), void *ctx,
                  struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT address FROM admitted WHERE domain_id = ?1 ORDER BY address",
        err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    while ((result = db_step(s, err)) == 1 && fn(ctx, db_text(s, 0)) == 0)
        ;
    db_finish(s);
    return result == -1 ? -1 : 0;
}
