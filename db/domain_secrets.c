#include "db/domain_secrets.h"

#include <string.h>

#include "db/row.h"

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct domain_secret *out = row;

    memset(out, 0, sizeof(*out));
    if (row_text(s, 0, out->login_template, sizeof(out->login_template), err) ==
        -1)
        return -1;
    if (row_blob(s, 1, out->seal.wrapped_key, sizeof(out->seal.wrapped_key),
                 &out->seal.wrapped_length) == -1 ||
        row_blob(s, 2, out->seal.blob, sizeof(out->seal.blob),
                 &out->seal.blob_length) == -1)
        return err_set(err, ERR_SETUP, "a master user's seal is too long");
    return 0;
}

int domain_secret_get(struct db *db, int64_t domain_id,
                      struct domain_secret *out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT login_template, wrapped_key, sealed "
                   "FROM domain_secrets WHERE domain_id = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    return row_one(s, read_row, out, err);
}

int domain_secret_set(struct db *db, int64_t domain_id,
                      const struct domain_secret *secret, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO domain_secrets "
        "(domain_id, login_template, wrapped_key, sealed) "
        "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (domain_id) DO UPDATE SET "
        "login_template = excluded.login_template, "
        "wrapped_key = excluded.wrapped_key, sealed = excluded.sealed",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    db_bind_text(s, 2, secret->login_template);
    db_bind_blob(s, 3, secret->seal.wrapped_key, secret->seal.wrapped_length);
    db_bind_blob(s, 4, secret->seal.blob, secret->seal.blob_length);
    return db_run(s, err);
}

int domain_secret_remove(struct db *db, int64_t domain_id, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM domain_secrets WHERE domain_id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    return db_run(s, err);
}
