#include "db/seals.h"

#include <string.h>

#include "db/row.h"

static int read_row(struct db_statement *s, struct stored_seal *out,
                    struct err *err)
{
    if (row_text(s, 1, out->address, sizeof(out->address), err) == -1)
        return -1;
    out->id = db_int(s, 0);
    if (row_blob(s, 2, out->seal.wrapped_key, sizeof(out->seal.wrapped_key),
                 &out->seal.wrapped_length) == -1 ||
        row_blob(s, 3, out->seal.blob, sizeof(out->seal.blob),
                 &out->seal.blob_length) == -1)
        return err_set(err, ERR_SETUP, "%s: seal is too long", out->address);
    return 0;
}

static struct db_statement *prepare_each(struct db *db, enum seal_place place,
                                         struct err *err)
{
    switch (place) {
    case SEAL_OF_ACCOUNT:
        return db_prepare(db,
                          "SELECT s.account_id, a.address, s.wrapped_key, "
                          "s.sealed FROM secrets s JOIN accounts a "
                          "ON a.id = s.account_id WHERE s.account_id > ?1 AND "
                          "s.wrapped_key IS NOT NULL "
                          "ORDER BY s.account_id LIMIT ?2",
                          err);
    case SEAL_OF_CREDENTIAL:
        return db_prepare(db,
                          "SELECT c.id, a.address, c.wrapped_key, c.sealed "
                          "FROM credentials c JOIN accounts a "
                          "ON a.id = c.account_id WHERE c.id > ?1 AND "
                          "c.wrapped_key IS NOT NULL ORDER BY c.id LIMIT ?2",
                          err);
    case SEAL_OF_DOMAIN:
        return db_prepare(db,
                          "SELECT s.domain_id, d.name, s.wrapped_key, s.sealed "
                          "FROM domain_secrets s JOIN domains d "
                          "ON d.id = s.domain_id WHERE s.domain_id > ?1 "
                          "ORDER BY s.domain_id LIMIT ?2",
                          err);
    case SEAL_PLACE_COUNT: break;
    }
    err_set(err, ERR_SETUP, "no such place of seals");
    return NULL;
}

int seals_each(struct db *db, enum seal_place place, int64_t after_id,
               int limit, int (*fn)(void *ctx, const struct stored_seal *seal),
               void *ctx, struct err *err)
{
    struct db_statement *s = prepare_each(db, place, err);
    struct stored_seal seal = {.place = place};
    int result;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, after_id);
    db_bind_int(s, 2, limit);
    while ((result = db_step(s, err)) == 1) {
        if (read_row(s, &seal, err) == -1) {
            result = -1;
            break;
        }
        if (fn(ctx, &seal) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}

int seal_rewrapped(struct db *db, const struct stored_seal *was,
                   const uint8_t *wrapped, size_t length, struct err *err)
{
    struct db_statement *s = NULL;

    switch (was->place) {
    case SEAL_OF_ACCOUNT:
        s = db_prepare(db,
                       "UPDATE secrets SET wrapped_key = ?3 "
                       "WHERE account_id = ?1 AND wrapped_key = ?2",
                       err);
        break;
    case SEAL_OF_CREDENTIAL:
        s = db_prepare(db,
                       "UPDATE credentials SET wrapped_key = ?3 "
                       "WHERE id = ?1 AND wrapped_key = ?2",
                       err);
        break;
    case SEAL_OF_DOMAIN:
        s = db_prepare(db,
                       "UPDATE domain_secrets SET wrapped_key = ?3 "
                       "WHERE domain_id = ?1 AND wrapped_key = ?2",
                       err);
        break;
    case SEAL_PLACE_COUNT:
        return err_set(err, ERR_SETUP, "no such place of seals");
    }
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, was->id);
    db_bind_blob(s, 2, was->seal.wrapped_key, was->seal.wrapped_length);
    db_bind_blob(s, 3, wrapped, length);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db);
}
