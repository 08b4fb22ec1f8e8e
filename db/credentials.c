#include "db/credentials.h"

#include <string.h>

#include "db/row.h"

static const char *const origin_names[] = {"legacy", "local", "imported"};
_Static_assert(sizeof(origin_names) / sizeof(origin_names[0]) ==
                   CREDENTIAL_ORIGIN_COUNT,
               "a name for each origin");

#define SELECT                                                                 \
    "SELECT id, account_id, origin, label, hash, wrapped_key IS NOT NULL, "    \
    "is_only, created_at, used_at FROM credentials "

const char *credential_origin_name(enum credential_origin origin)
{
    return origin_names[origin];
}

static int origin_named(const char *name)
{
    for (int i = 0; i < CREDENTIAL_ORIGIN_COUNT; i++)
        if (strcmp(origin_names[i], name) == 0)
            return i;
    return -1;
}

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct credential *out = row;
    int origin = origin_named(db_text(s, 2));
    const struct row_text texts[] = {{out->label, sizeof(out->label), 3},
                                     {out->hash, sizeof(out->hash), 4}};

    memset(out, 0, sizeof(*out));
    out->id = db_int(s, 0);
    out->account_id = db_int(s, 1);
    if (origin == -1)
        return err_set(err, ERR_SETUP, "credential %lld: unknown origin",
                       (long long)out->id);
    if (row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err) == -1)
        return -1;
    out->origin = (enum credential_origin)origin;
    out->has_seal = db_int(s, 5) != 0;
    out->is_only = db_int(s, 6) != 0;
    out->created_at = db_int(s, 7);
    out->used_at = db_int(s, 8);
    return 0;
}

int credential_list(struct db *db, int64_t account_id,
                    struct credential_list *out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, SELECT "WHERE account_id = ?1 ORDER BY id", err);
    int result = 0;

    out->count = 0;
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    while (out->count < CREDENTIAL_ROWS_MAX && (result = db_step(s, err)) == 1)
        if ((result = read_row(s, &out->items[out->count++], err)) == -1)
            break;
    db_finish(s);
    return result == -1 ? -1 : 0;
}

int credential_get(struct db *db, int64_t id, struct credential *out,
                   struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return row_one(s, read_row, out, err);
}

static int check_room(struct db *db, int64_t account_id, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT count(*) FROM credentials WHERE account_id = ?1", err);
    int64_t count;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    if (db_step(s, err) != 1)
        return -1;
    count = db_int(s, 0);
    db_finish(s);
    return count < CREDENTIAL_ROWS_MAX
               ? 0
               : err_set(err, ERR_SETUP, "account %lld: too many passwords",
                         (long long)account_id);
}

static void bind_seal(struct db_statement *s, int index,
                      const struct account_seal *seal)
{
    if (seal == NULL || seal->wrapped_length == 0) {
        db_bind_null(s, index);
        db_bind_null(s, index + 1);
        return;
    }
    db_bind_blob(s, index, seal->wrapped_key, seal->wrapped_length);
    db_bind_blob(s, index + 1, seal->blob, seal->blob_length);
}

int credential_add(struct db *db, struct credential *c,
                   const struct account_seal *seal, struct err *err)
{
    struct db_statement *s;

    if (check_room(db, c->account_id, err) == -1)
        return -1;
    s = db_prepare(db,
                   "INSERT INTO credentials (account_id, origin, label, hash, "
                   "is_only, created_at, used_at, wrapped_key, sealed) "
                   "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                   err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, c->account_id);
    db_bind_text(s, 2, credential_origin_name(c->origin));
    db_bind_text(s, 3, c->label);
    db_bind_text(s, 4, c->hash);
    db_bind_int(s, 5, c->is_only);
    db_bind_int(s, 6, c->created_at);
    db_bind_int(s, 7, c->used_at);
    bind_seal(s, 8, seal);
    if (db_run(s, err) == -1)
        return -1;
    c->id = db_last_row_id(db);
    c->has_seal = seal != NULL && seal->wrapped_length > 0;
    return 0;
}

int credential_update(struct db *db, const struct credential *c,
                      struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "UPDATE credentials SET (origin, label, hash, is_only, used_at) = "
        "(?2, ?3, ?4, ?5, ?6) WHERE id = ?1",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, c->id);
    db_bind_text(s, 2, credential_origin_name(c->origin));
    db_bind_text(s, 3, c->label);
    db_bind_text(s, 4, c->hash);
    db_bind_int(s, 5, c->is_only);
    db_bind_int(s, 6, c->used_at);
    return db_run(s, err);
}

int credential_remove(struct db *db, int64_t id, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM credentials WHERE id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return db_run(s, err);
}

int credential_remove_others(struct db *db, int64_t account_id, int64_t keep_id,
                             struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "DELETE FROM credentials WHERE account_id = ?1 AND id <> ?2", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_int(s, 2, keep_id);
    return db_run(s, err);
}

int credential_seal_get(struct db *db, int64_t id, struct account_seal *out,
                        struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT wrapped_key, sealed FROM credentials "
                   "WHERE id = ?1 AND wrapped_key IS NOT NULL",
                   err);
    int result;

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    result = db_step(s, err);
    if (result == 1 &&
        (row_blob(s, 0, out->wrapped_key, sizeof(out->wrapped_key),
                  &out->wrapped_length) == -1 ||
         row_blob(s, 1, out->blob, sizeof(out->blob), &out->blob_length) == -1))
        result = err_set(err, ERR_SETUP, "credential %lld: seal is too long",
                         (long long)id);
    db_finish(s);
    return result;
}

int credential_seal_set(struct db *db, int64_t id,
                        const struct account_seal *seal, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "UPDATE credentials SET wrapped_key = ?2, sealed = ?3 WHERE id = ?1",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    bind_seal(s, 2, seal);
    return db_run(s, err);
}

int credential_seals_wipe(struct db *db, int64_t account_id, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "DELETE FROM credentials WHERE account_id = ?1 AND hash = ''", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    if (db_run(s, err) == -1)
        return -1;
    s = db_prepare(db,
                   "UPDATE credentials SET wrapped_key = NULL, sealed = NULL "
                   "WHERE account_id = ?1",
                   err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    return db_run(s, err);
}

static int put_first(struct db *db, const struct credential *c,
                     const struct account_seal *seal, struct err *err)
{
    if (account_seal_set(db, c->account_id,
                         seal->wrapped_length > 0 ? seal : NULL, err) == -1)
        return -1;
    return account_hash_set(db, c->account_id, c->hash, err);
}

int credential_swap(struct db *db, int64_t id, struct err *err)
{
    struct account_seal first, other;
    char hash[sizeof(((struct credential *)0)->hash)];
    struct credential c;
    int rc = credential_get(db, id, &c, err);

    if (rc != 1)
        return rc;
    if (account_seal_get(db, c.account_id, &first, err) == -1 ||
        account_hash_get(db, c.account_id, hash, sizeof(hash), err) == -1 ||
        credential_seal_get(db, id, &other, err) == -1 ||
        put_first(db, &c, &other, err) == -1)
        return -1;
    if (hash[0] == '\0' && first.wrapped_length == 0)
        return credential_remove(db, id, err); /* it has left nothing */
    /* each statement keeps the rule of the table: seal or hash */
    if (hash[0] == '\0' && credential_seal_set(db, id, &first, err) == -1)
        return -1;
    memcpy(c.hash, hash, sizeof(c.hash));
    c.origin = CREDENTIAL_LEGACY;
    if (credential_update(db, &c, err) == -1)
        return -1;
    return credential_seal_set(db, id, &first, err);
}

int credential_hashes(struct db *db, int64_t account_id,
                      struct credential_hashes *out, struct err *err)
{
    struct db_statement *s;
    int result = 0;

    if (account_hash_get(db, account_id, out->items[0], sizeof(out->items[0]),
                         err) == -1)
        return -1;
    out->count = 1;
    s = db_prepare(db,
                   "SELECT hash FROM credentials "
                   "WHERE account_id = ?1 AND hash <> '' "
                   "ORDER BY id",
                   err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    while (out->count < 1 + CREDENTIALS_MAX && (result = db_step(s, err)) == 1)
        if (row_text(s, 0, out->items[out->count++], sizeof(out->items[0]),
                     err) == -1) {
            result = -1;
            break;
        }
    db_finish(s);
    return result == -1 ? -1 : 0;
}
