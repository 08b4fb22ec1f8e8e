#include "db/accounts.h"

#include <string.h>

#include "base/clock.h"
#include "db/row.h"

/* Columns in the order of their parameters, ?2 first; ?1 is the id. */
#define STATE_COLUMNS                                                          \
    "legacy_user, route, copy, epoch, provisioned_epoch, password_state, "     \
    "legacy_prefix, legacy_separator, folders, messages, bytes, "              \
    "messages_total, bytes_total, set_aside, hold_failures, next_flip_at, "    \
    "wants_flip, is_clean, last_error_kind, last_error, last_error_at, "       \
    "created_at, copied_at, flipped_at, updated_at, "                          \
    "lock_login, lock_submission, question, mailbox_id, accepted, "            \
    "local_ready_at, generation, late_mail_at, on_flip, on_flip_attempts, "    \
    "on_flip_at, trail_ended_at, local_password_at, wants_rollback, "          \
    "rolled_back_at, delta_at"
#define STATE_VALUES                                                           \
    "?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, " \
    "?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, "   \
    "?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42"
#define AFTER_STATE 43 /* the next free parameter */

#define SELECT                                                                 \
    "SELECT a.id, a.domain_id, a.address, " STATE_COLUMNS                      \
    ", s.wrapped_key IS NOT NULL, coalesce(s.password_hash, '') <> '' OR "     \
    "EXISTS (SELECT 1 FROM credentials c WHERE c.account_id = a.id AND "       \
    "c.hash <> '') "                                                           \
    "FROM accounts a LEFT JOIN secrets s ON s.account_id = a.id "

static int read_states(struct db_statement *s, struct account *out,
                       struct err *err)
{
    int route = account_route_named(db_text(s, 4));
    int copy = account_copy_named(db_text(s, 5));
    int password = password_state_named(db_text(s, 8));
    int on_flip = on_flip_state_named(db_text(s, 36));

    if (route == -1 || copy == -1 || password == -1 || on_flip == -1)
        return err_set(err, ERR_SETUP, "account %s: unknown state",
                       out->address);
    out->route = (enum account_route)route;
    out->copy = (enum account_copy)copy;
    out->password_state = (enum password_state)password;
    out->on_flip = (enum on_flip_state)on_flip;
    out->epoch = db_int(s, 6);
    out->provisioned_epoch = db_int(s, 7);
    return 0;
}

static void read_numbers(struct db_statement *s, struct account *out)
{
    out->has_prefix = !db_is_null(s, 9);
    out->folders = db_int(s, 11);
    out->messages = db_int(s, 12);
    out->bytes = db_int(s, 13);
    out->messages_total = db_int(s, 14);
    out->bytes_total = db_int(s, 15);
    out->set_aside = db_int(s, 16);
    out->hold_failures = (unsigned)db_int(s, 17);
    out->next_flip_at = db_int(s, 18);
    out->wants_flip = (enum flip_wish)db_int(s, 19);
    out->is_clean = db_int(s, 20) != 0;
    out->last_error_at = db_int(s, 23);
    out->created_at = db_int(s, 24);
    out->copied_at = db_int(s, 25);
    out->flipped_at = db_int(s, 26);
    out->updated_at = db_int(s, 27);
    out->is_login_locked = db_int(s, 28) != 0;
    out->is_submission_locked = db_int(s, 29) != 0;
    out->accepted = db_int(s, 32);
    out->local_ready_at = db_int(s, 33);
    out->generation = db_int(s, 34);
    out->late_mail_at = db_int(s, 35);
    out->on_flip_attempts = (unsigned)db_int(s, 37);
    out->on_flip_at = db_int(s, 38);
    out->trail_ended_at = db_int(s, 39);
    out->local_password_at = db_int(s, 40);
    out->wants_rollback = (enum rollback_wish)db_int(s, 41);
    out->rolled_back_at = db_int(s, 42);
    out->delta_at = db_int(s, 43);
    out->has_seal = db_int(s, 44) != 0;
    out->has_hash = db_int(s, 45) != 0;
}

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct account *out = row;
    const struct row_text texts[] = {
        {out->address, sizeof(out->address), 2},
        {out->legacy_user, sizeof(out->legacy_user), 3},
        {out->legacy_prefix, sizeof(out->legacy_prefix), 9},
        {out->legacy_separator, sizeof(out->legacy_separator), 10},
        {out->last_error_kind, sizeof(out->last_error_kind), 21},
        {out->last_error, sizeof(out->last_error), 22},
        {out->question, sizeof(out->question), 30},
        {out->mailbox_id, sizeof(out->mailbox_id), 31},
    };

    memset(out, 0, sizeof(*out));
    out->id = db_int(s, 0);
    out->domain_id = db_int(s, 1);
    if (row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err) == -1)
        return -1;
    read_numbers(s, out);
    return read_states(s, out, err);
}

int account_find(struct db *db, const char *address, struct account *out,
                 struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE a.address = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, address);
    return row_one(s, read_row, out, err);
}

int account_get(struct db *db, int64_t id, struct account *out, struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE a.id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return row_one(s, read_row, out, err);
}

static void bind_states(struct db_statement *s, const struct account *a)
{
    db_bind_text(s, 2, a->legacy_user);
    db_bind_text(s, 3, account_route_name(a->route));
    db_bind_text(s, 4, account_copy_name(a->copy));
    db_bind_int(s, 5, a->epoch);
    db_bind_int(s, 6, a->provisioned_epoch);
    db_bind_text(s, 7, password_state_name(a->password_state));
    db_bind_text(s, 8, a->has_prefix ? a->legacy_prefix : NULL);
    db_bind_text(s, 9, a->has_prefix ? a->legacy_separator : NULL);
    db_bind_int(s, 10, a->folders);
    db_bind_int(s, 11, a->messages);
    db_bind_int(s, 12, a->bytes);
    db_bind_int(s, 13, a->messages_total);
    db_bind_int(s, 14, a->bytes_total);
    db_bind_int(s, 15, a->set_aside);
    db_bind_int(s, 16, a->hold_failures);
    db_bind_int(s, 17, a->next_flip_at);
    db_bind_int(s, 18, a->wants_flip);
    db_bind_int(s, 19, a->is_clean);
    db_bind_text(s, 20, a->last_error_kind);
    db_bind_text(s, 21, a->last_error);
    db_bind_int(s, 22, a->last_error_at);
    db_bind_int(s, 23, a->created_at);
    db_bind_int(s, 24, a->copied_at);
    db_bind_int(s, 25, a->flipped_at);
    db_bind_int(s, 26, a->updated_at);
    db_bind_int(s, 27, a->is_login_locked);
    db_bind_int(s, 28, a->is_submission_locked);
    db_bind_text(s, 29, a->question);
    db_bind_text(s, 30, a->mailbox_id);
    db_bind_int(s, 31, a->accepted);
    db_bind_int(s, 32, a->local_ready_at);
    db_bind_int(s, 33, a->generation);
    db_bind_int(s, 34, a->late_mail_at);
    db_bind_text(s, 35, on_flip_state_name(a->on_flip));
    db_bind_int(s, 36, a->on_flip_attempts);
    db_bind_int(s, 37, a->on_flip_at);
    db_bind_int(s, 38, a->trail_ended_at);
    db_bind_int(s, 39, a->local_password_at);
    db_bind_int(s, 40, a->wants_rollback);
    db_bind_int(s, 41, a->rolled_back_at);
    db_bind_int(s, 42, a->delta_at);
}

int account_insert(struct db *db, struct account *a, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO accounts (" STATE_COLUMNS ", domain_id, address) "
        "VALUES (" STATE_VALUES ", ?43, ?44) ON CONFLICT (address) DO NOTHING",
        err);
    int found;

    if (s == NULL)
        return -1;
    if (a->created_at == 0)
        a->created_at = clock_unix_ms();
    if (a->updated_at == 0)
        a->updated_at = a->created_at;
    bind_states(s, a);
    db_bind_int(s, AFTER_STATE, a->domain_id);
    db_bind_text(s, AFTER_STATE + 1, a->address);
    if (db_run(s, err) == -1)
        return -1;
    if (db_changed_rows(db) == 1) {
        a->id = db_last_row_id(db);
        a->has_seal = a->has_hash = false;
        return 1;
    }
    found = account_find(db, a->address, a, err);
    if (found == 0)
        return err_set(err, ERR_RETRY, "account %s: came and went", a->address);
    return found == 1 ? 0 : -1;
}

int account_update(struct db *db, const struct account *a, struct err *err)
{
    struct db_statement *s = db_prepare(db,
                                        "UPDATE accounts SET (" STATE_COLUMNS
                                        ") = (" STATE_VALUES ") WHERE id = ?1",
                                        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, a->id);
    bind_states(s, a);
    if (db_run(s, err) == -1)
        return -1;
    if (db_changed_rows(db) != 1)
        return err_set(err, ERR_SETUP, "account %s: no such row", a->address);
    return 0;
}

int account_rename(struct db *db, int64_t id, const char *address,
                   int64_t domain_id, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "UPDATE accounts SET address = ?1, domain_id = ?2 WHERE id = ?3",
        err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, address);
    db_bind_int(s, 2, domain_id);
    db_bind_int(s, 3, id);
    return db_run(s, err);
}

int account_delete(struct db *db, int64_t id, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM accounts WHERE id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return db_run(s, err);
}

static int each_row(struct db_statement *s,
                    int (*fn)(void *ctx, const struct account *a), void *ctx,
                    struct err *err)
{
    struct account a;
    int result;

    while ((result = db_step(s, err)) == 1) {
        if (read_row(s, &a, err) == -1) {
            result = -1;
            break;
        }
        if (fn(ctx, &a) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}

int account_page(struct db *db, int64_t domain_id, const char *after, int limit,
                 int (*fn)(void *ctx, const struct account *a), void *ctx,
                 struct err *err)
{
    struct db_statement *s;

    if (domain_id == 0) {
        s = db_prepare(
            db, SELECT "WHERE a.address > ?1 ORDER BY a.address LIMIT ?2", err);
    } else {
        s = db_prepare(db,
                       SELECT "WHERE a.domain_id = ?3 AND a.address > ?1 "
                              "ORDER BY a.address LIMIT ?2",
                       err);
    }
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, after);
    db_bind_int(s, 2, limit);
    if (domain_id != 0)
        db_bind_int(s, 3, domain_id);
    return each_row(s, fn, ctx, err);
}

int account_each(struct db *db, int64_t domain_id,
                 int (*fn)(void *ctx, const struct account *a), void *ctx,
                 struct err *err)
{
    return account_page(db, domain_id, "", -1, fn, ctx, err);
}

int account_each_since(struct db *db, int64_t generation,
                       int (*fn)(void *ctx, const struct account *a), void *ctx,
                       struct err *err)
{
    struct db_statement *s = db_prepare(
        db, SELECT "WHERE a.generation > ?1 ORDER BY a.generation", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, generation);
    return each_row(s, fn, ctx, err);
}

int account_count_told(struct db *db, int64_t *count_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT count(*) FROM accounts WHERE route = 'local' AND "
                   "provisioned_epoch = epoch",
                   err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *count_out = db_int(s, 0);
    db_finish(s);
    return 0;
}

int account_remind_all(struct db *db, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE accounts SET provisioned_epoch = 0 WHERE "
                   "provisioned_epoch = epoch AND (route = 'local' OR "
                   "(route = 'legacy' AND rolled_back_at > 0))",
                   err);

    return s == NULL ? -1 : db_run(s, err);
}

/* As the index accounts_unsettled has it, to the letter. */
#define UNSETTLED                                                              \
    "(a.route = 'held' OR (a.provisioned_epoch < a.epoch AND "                 \
    "(a.route = 'local' OR a.rolled_back_at > 0))) "

int account_each_held(struct db *db,
                      int (*fn)(void *ctx, const struct account *a), void *ctx,
                      struct err *err)
{
    struct db_statement *s = db_prepare(
        db, SELECT "WHERE " UNSETTLED "AND a.route = 'held' ORDER BY a.id",
        err);

    return s == NULL ? -1 : each_row(s, fn, ctx, err);
}

int account_each_unsettled(struct db *db, int64_t after_id, int limit,
                           int (*fn)(void *ctx, const struct account *a),
                           void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, SELECT "WHERE " UNSETTLED "AND a.id > ?1 ORDER BY a.id LIMIT ?2",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, after_id);
    db_bind_int(s, 2, limit);
    return each_row(s, fn, ctx, err);
}

int account_each_on_flip(struct db *db, int64_t now, int limit,
                         int (*fn)(void *ctx, const struct account *a),
                         void *ctx, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   SELECT "WHERE a.on_flip IN ('due', 'failed') AND "
                          "a.on_flip_at <= ?1 ORDER BY a.on_flip_at LIMIT ?2",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, now);
    db_bind_int(s, 2, limit);
    return each_row(s, fn, ctx, err);
}

int account_seal_get(struct db *db, int64_t id, struct account_seal *out,
                     struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT wrapped_key, sealed FROM secrets "
                   "WHERE account_id = ?1 AND wrapped_key IS NOT NULL",
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
        result = err_set(err, ERR_SETUP, "account %lld: seal is too long",
                         (long long)id);
    db_finish(s);
    return result;
}

int account_seal_set(struct db *db, int64_t id, const struct account_seal *seal,
                     struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO secrets (account_id, wrapped_key, sealed) "
        "VALUES (?1, ?2, ?3) ON CONFLICT (account_id) DO UPDATE SET "
        "wrapped_key = excluded.wrapped_key, sealed = excluded.sealed",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    if (seal != NULL && seal->wrapped_length > 0) {
        db_bind_blob(s, 2, seal->wrapped_key, seal->wrapped_length);
        db_bind_blob(s, 3, seal->blob, seal->blob_length);
    }
    return db_run(s, err);
}

int account_hash_get(struct db *db, int64_t id, char *hash_out, size_t size,
                     struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT password_hash FROM secrets WHERE account_id = ?1", err);
    int result;

    hash_out[0] = '\0';
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    result = db_step(s, err);
    if (result == 1 && row_text(s, 0, hash_out, size, err) == -1) {
        hash_out[0] = '\0'; /* half a hash opens nothing */
        result = -1;
    }
    if (result == 1 && hash_out[0] == '\0')
        result = 0;
    db_finish(s);
    return result;
}

int account_hash_set(struct db *db, int64_t id, const char *hash,
                     struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO secrets (account_id, password_hash) VALUES (?1, ?2) "
        "ON CONFLICT (account_id) DO UPDATE SET "
        "password_hash = excluded.password_hash",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    db_bind_text(s, 2, hash == NULL ? "" : hash);
    return db_run(s, err);
}

static void add_group(struct db_statement *s, struct account_totals *out)
{
    int route = account_route_named(db_text(s, 0));
    int copy = account_copy_named(db_text(s, 1));
    int64_t count = db_int(s, 2);

    out->accounts += count;
    if (route != -1)
        out->by_route[route] += count;
    if (copy != -1)
        out->by_copy[copy] += count;
    out->messages += db_int(s, 3);
    out->bytes += db_int(s, 4);
    out->messages_total += db_int(s, 5);
    out->bytes_total += db_int(s, 6);
    out->set_aside += db_int(s, 7);
    out->failing += db_int(s, 8);
}

int account_totals(struct db *db, int64_t domain_id, struct account_totals *out,
                   struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT route, copy, count(*), sum(messages), sum(bytes), "
        "sum(messages_total), sum(bytes_total), sum(set_aside), "
        "sum(copy = 'failed' OR last_error_kind <> '') FROM accounts "
        "WHERE ?1 = 0 OR domain_id = ?1 GROUP BY route, copy",
        err);
    int result;

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    while ((result = db_step(s, err)) == 1)
        add_group(s, out);
    return result;
}
