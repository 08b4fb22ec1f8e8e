#include "db/domains.h"

#include <string.h>

#include "base/clock.h"
#include "db/row.h"

#define COLUMNS                                                                \
    "id, name, is_enabled, imap_url, pop3_url, smtp_url, submission_url, "     \
    "sieve_url, username_template, master_user, on_flip, cutover, "            \
    "hold_seconds, created_at, cutover_window, blackout, admit_share, "        \
    "admit_listed, admit_rate, learn_days, rollback_days, quiet_days, "        \
    "closed_at, exclude, reopened_from, closed_key"
#define SELECT "SELECT " COLUMNS ", is_frozen FROM domains "

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct domain *out = row;
    const struct row_text texts[] = {
        {out->name, sizeof(out->name), 1},
        {out->imap_url, sizeof(out->imap_url), 3},
        {out->pop3_url, sizeof(out->pop3_url), 4},
        {out->smtp_url, sizeof(out->smtp_url), 5},
        {out->submission_url, sizeof(out->submission_url), 6},
        {out->sieve_url, sizeof(out->sieve_url), 7},
        {out->username_template, sizeof(out->username_template), 8},
        {out->master_user, sizeof(out->master_user), 9},
        {out->on_flip, sizeof(out->on_flip), 10},
        {out->cutover_window, sizeof(out->cutover_window), 14},
        {out->blackout, sizeof(out->blackout), 15},
        {out->exclude, sizeof(out->exclude), 23},
        {out->closed_key, sizeof(out->closed_key), 25},
    };
    int cutover = domain_cutover_named(db_text(s, 11));

    memset(out, 0, sizeof(*out));
    if (row_texts(s, texts, sizeof(texts) / sizeof(texts[0]), err) == -1)
        return -1;
    if (cutover == -1)
        return err_set(err, ERR_SETUP, "domain %s: unknown cutover", out->name);
    out->id = db_int(s, 0);
    out->is_enabled = db_int(s, 2) != 0;
    out->cutover = (enum domain_cutover)cutover;
    out->hold_seconds = (unsigned)db_int(s, 12);
    out->created_at = db_int(s, 13);
    out->admit_share = (unsigned)db_int(s, 16);
    out->is_admit_listed = db_int(s, 17) != 0;
    out->admit_rate = (unsigned)db_int(s, 18);
    out->learn_days = (unsigned)db_int(s, 19);
    out->rollback_days = (unsigned)db_int(s, 20);
    out->quiet_days = (unsigned)db_int(s, 21);
    out->closed_at = db_int(s, 22);
    out->reopened_from = db_int(s, 24);
    out->is_frozen = db_int(s, 26) != 0;
    return 0;
}

int domain_find(struct db *db, const char *name, struct domain *out,
                struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE name = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, name);
    return row_one(s, read_row, out, err);
}

int domain_get(struct db *db, int64_t id, struct domain *out, struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "WHERE id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return row_one(s, read_row, out, err);
}

static void bind_row(struct db_statement *s, const struct domain *d)
{
    db_bind_text(s, 2, d->name);
    db_bind_int(s, 3, d->is_enabled);
    db_bind_text(s, 4, d->imap_url);
    db_bind_text(s, 5, d->pop3_url);
    db_bind_text(s, 6, d->smtp_url);
    db_bind_text(s, 7, d->submission_url);
    db_bind_text(s, 8, d->sieve_url);
    db_bind_text(s, 9, d->username_template);
    db_bind_text(s, 10, d->master_user);
    db_bind_text(s, 11, d->on_flip);
    db_bind_text(s, 12, domain_cutover_name(d->cutover));
    db_bind_int(s, 13, d->hold_seconds);
    db_bind_int(s, 14, d->created_at);
    db_bind_text(s, 15, d->cutover_window);
    db_bind_text(s, 16, d->blackout);
    db_bind_int(s, 17, d->admit_share);
    db_bind_int(s, 18, d->is_admit_listed);
    db_bind_int(s, 19, d->admit_rate);
    db_bind_int(s, 20, d->learn_days);
    db_bind_int(s, 21, d->rollback_days);
    db_bind_int(s, 22, d->quiet_days);
    db_bind_int(s, 23, d->closed_at);
    db_bind_text(s, 24, d->exclude);
    db_bind_int(s, 25, d->reopened_from);
    db_bind_text(s, 26, d->closed_key);
}

static int run_named(struct db *db, struct db_statement *s,
                     const struct domain *d, struct err *err)
{
    if (db_run(s, err) == 0)
        return 0;
    if (db_is_conflict(db))
        return err_set(err, ERR_SETUP, "domain %s: exists already", d->name);
    return -1;
}

int domain_insert(struct db *db, struct domain *d, struct err *err)
{
    struct db_statement *s = db_prepare(db,
                                        "INSERT INTO domains (" COLUMNS
                                        ") VALUES (NULL, ?2, ?3, ?4, ?5, ?6, "
                                        "?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, "
                                        "?15, ?16, ?17, ?18, ?19, ?20, ?21, "
                                        "?22, ?23, ?24, ?25, ?26)",
                                        err);

    if (s == NULL)
        return -1;
    if (d->created_at == 0)
        d->created_at = clock_unix_ms() / 1000;
    bind_row(s, d);
    if (run_named(db, s, d, err) == -1)
        return -1;
    d->id = db_last_row_id(db);
    return 0;
}

int domain_update(struct db *db, const struct domain *d, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "UPDATE domains SET name = ?2, is_enabled = ?3, imap_url = ?4, "
        "pop3_url = ?5, smtp_url = ?6, submission_url = ?7, sieve_url = ?8, "
        "username_template = ?9, master_user = ?10, on_flip = ?11, "
        "cutover = ?12, hold_seconds = ?13, created_at = ?14, "
        "cutover_window = ?15, blackout = ?16, admit_share = ?17, "
        "admit_listed = ?18, admit_rate = ?19, learn_days = ?20, "
        "rollback_days = ?21, quiet_days = ?22, closed_at = ?23, exclude = "
        "?24, "
        "reopened_from = ?25, closed_key = ?26 "
        "WHERE id = ?1",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, d->id);
    bind_row(s, d);
    if (run_named(db, s, d, err) == -1)
        return -1;
    if (db_changed_rows(db) != 1)
        return err_set(err, ERR_SETUP, "domain %s: no such row", d->name);
    return 0;
}

int domain_set_frozen(struct db *db, int64_t id, bool is_frozen,
                      struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "UPDATE domains SET is_frozen = ?2 WHERE id = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, is_frozen);
    return db_run(s, err);
}

static int has_accounts(struct db *db, int64_t id, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT 1 FROM accounts WHERE domain_id = ?1 LIMIT 1", err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    result = db_step(s, err);
    db_finish(s);
    return result;
}

int domain_delete(struct db *db, int64_t id, struct err *err)
{
    struct db_statement *s;
    int result = has_accounts(db, id, err);

    if (result == -1)
        return -1;
    if (result == 1)
        return err_set(err, ERR_SETUP, "the domain still has accounts");
    s = db_prepare(db, "DELETE FROM domains WHERE id = ?1", err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return db_run(s, err);
}

int domain_each(struct db *db, int (*fn)(void *ctx, const struct domain *d),
                void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(db, SELECT "ORDER BY name", err);
    struct domain d;
    int result;

    if (s == NULL)
        return -1;
    while ((result = db_step(s, err)) == 1) {
        if (read_row(s, &d, err) == -1) {
            result = -1;
            break;
        }
        if (fn(ctx, &d) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}
