#include "db/rebuild.h"

#include <stdio.h>
#include <string.h>

#define DOMAIN_OF(address) "substr(" address ", instr(" address ", '@') + 1)"

/* Steps of one statement each, with ?1 the time. */
static int run_all(struct db *db, const char *const *steps, size_t count,
                   int64_t now_ms, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct db_statement *s = db_prepare(db, steps[i], err);

        if (s == NULL)
            return -1;
        if (strstr(steps[i], "?1") != NULL)
            db_bind_int(s, 1, now_ms);
        if (db_run(s, err) == -1)
            return -1;
    }
    return 0;
}

#define STEPS(steps) steps, sizeof(steps) / sizeof((steps)[0])

/* First column an address, the second what is to be said of it. */
static int tell_rows(struct db *db, const char *sql, rebuild_line_fn *fn,
                     void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(db, sql, err);
    int result;

    if (s == NULL)
        return -1;
    while ((result = db_step(s, err)) == 1)
        fn(ctx, db_text(s, 0), db_text(s, 1));
    return result;
}

/* --- auth.db against the witnesses */

#define AUTH_IS_AHEAD                                                          \
    "FROM auth.users u LEFT JOIN refused r ON r.address = u.username "         \
    "LEFT JOIN accounts a ON a.address = u.username WHERE u.epoch > 0 AND "    \
    "CASE WHEN u.active = 1 THEN "                                             \
    " (r.address IS NULL OR u.epoch > r.epoch OR "                             \
    "  (u.epoch = r.epoch AND r.route <> 'local')) AND "                       \
    " (a.address IS NULL OR u.epoch > a.epoch OR "                             \
    "  (u.epoch = a.epoch AND a.route <> 'local')) "                           \
    "ELSE r.route = 'local' AND u.epoch > r.epoch AND "                        \
    " (a.address IS NULL OR u.epoch > a.epoch) END"

int rebuild_take_auth(struct db *db, rebuild_line_fn *fn, void *ctx,
                      struct err *err)
{
    static const char *const take[] = {
        "INSERT INTO refused (address, generation, epoch, route, at, "
        "legacy_user, prefix, separator, source) SELECT u.username, "
        "coalesce(r.generation, 0), u.epoch, "
        "iif(u.active = 1, 'local', 'legacy'), coalesce(r.at, ?1), "
        "coalesce(r.legacy_user, ''), coalesce(r.prefix, u.prefix), "
        "coalesce(r.separator, u.separator), 'auth' " AUTH_IS_AHEAD
        " ON CONFLICT (address) DO UPDATE SET epoch = excluded.epoch, "
        "route = excluded.route, source = excluded.source"};

    if (tell_rows(db,
                  "SELECT u.username, printf('auth.db says %s in epoch %d, the "
                  "witness %s in epoch %d', iif(u.active = 1, 'local', "
                  "'legacy'), u.epoch, coalesce(r.route, 'nothing'), "
                  "coalesce(r.epoch, 0)) " AUTH_IS_AHEAD,
                  fn, ctx, err) == -1)
        return -1;
    return run_all(db, STEPS(take), 0, err);
}

int rebuild_missing_domains(struct db *db, rebuild_line_fn *fn, void *ctx,
                            struct err *err)
{
    return tell_rows(
        db,
        "SELECT DISTINCT " DOMAIN_OF(
            "r.address") ", '' FROM refused r WHERE "
                         "NOT EXISTS (SELECT 1 FROM domains d WHERE d.name "
                         "= " DOMAIN_OF("r.address") ") AND NOT EXISTS (SELECT "
                                                     "1 FROM accounts a WHERE "
                                                     "a.address = r.address)",
        fn, ctx, err);
}

/* --- witnesses into rows */

#define SURE "r.source <> 'maildir'"
#define SURE_ACCOUNTS                                                          \
    "(SELECT a.id FROM refused r JOIN accounts a ON a.address = r.address "    \
    "WHERE " SURE ")"

/* Local is told of it; 0: and the journal has it already (db/accounts.h,
   ACCOUNT_REMINDED). */
#define TOLD "iif(r.source = 'journal', 0, -1)"

/* The row says what the witness says; what was on its way is not any more. A
   mailbox that went back is gone through again, and waits for a password. */
static const char *const row_steps[] = {
    "INSERT INTO audit (at, account_id, actor, event, address, domain, was, "
    "became) SELECT ?1, a.id, 'db rebuild', 'rebuilt', a.address, " DOMAIN_OF(
        "a.address") ", "
                     "printf('route=%s copy=%s epoch=%d', a.route, a.copy, "
                     "a.epoch), "
                     "printf('route=%s copy=%s epoch=%d', r.route, "
                     "iif(r.route = 'local', 'trail', 'failed'), r.epoch) FROM "
                     "refused r JOIN "
                     "accounts a ON a.address = r.address WHERE " SURE,

    "UPDATE accounts SET route = r.route, "
    "copy = iif(r.route = 'local', 'trail', 'failed'), epoch = r.epoch, "
    "provisioned_epoch = " TOLD ", generation = r.generation, "
    "legacy_user = iif(r.legacy_user = '', accounts.legacy_user, "
    "r.legacy_user), "
    "legacy_prefix = coalesce(r.prefix, legacy_prefix), "
    "legacy_separator = coalesce(r.separator, legacy_separator), "
    "flipped_at = iif(r.route = 'local', r.at, flipped_at), "
    "rolled_back_at = iif(r.route = 'legacy', r.at, rolled_back_at), "
    "hold_failures = 0, wants_flip = 0, wants_rollback = 0, is_clean = 0, "
    "last_error_kind = iif(r.route = 'local', '', 'denied'), "
    "last_error = iif(r.route = 'local', '', "
    "'rebuilt: waits for the next login'), updated_at = ?1 "
    "FROM refused r WHERE r.address = accounts.address AND " SURE,

    "INSERT INTO accounts (domain_id, address, legacy_user, route, copy, "
    "epoch, provisioned_epoch, generation, password_state, legacy_prefix, "
    "legacy_separator, flipped_at, rolled_back_at, last_error_kind, "
    "last_error, created_at, "
    "updated_at) "
    "SELECT d.id, r.address, iif(r.legacy_user = '', r.address, "
    "r.legacy_user), r.route, iif(r.route = 'local', 'trail', 'failed'), "
    "r.epoch, " TOLD ", r.generation, 'none', r.prefix, r.separator, "
    "iif(r.route = 'local', r.at, 0), iif(r.route = 'legacy', r.at, 0), "
    "iif(r.route = 'local', '', 'denied'), "
    "iif(r.route = 'local', '', 'rebuilt: waits for the next login'), ?1, ?1 "
    "FROM refused r JOIN domains d ON d.name = " DOMAIN_OF(
        "r.address") " WHERE " SURE " AND NOT EXISTS (SELECT 1 FROM accounts a "
                     "WHERE a.address = r.address)",
};

/* On local, as local itself says. */
#define SERVED                                                                 \
    "u.username = a.address AND u.active = 1 AND u.epoch = a.epoch AND "       \
    "a.route = 'local'"
/* An operator has set a password there since. */
#define SET_SINCE                                                              \
    "(SELECT a.id FROM auth.users u JOIN accounts a ON " SERVED                \
    " WHERE u.set_at > a.local_password_at)"

static const char *const auth_steps[] = {
    "INSERT INTO secrets (account_id, password_hash) SELECT a.id, u.password "
    "FROM refused r JOIN accounts a ON a.address = r.address JOIN auth.users u "
    "ON u.username = r.address WHERE " SURE " AND u.password IS NOT NULL "
    "ON CONFLICT (account_id) DO UPDATE SET "
    "password_hash = excluded.password_hash",

    "INSERT INTO credentials (account_id, origin, hash, created_at) "
    "SELECT a.id, 'local', p.password, ?1 FROM refused r JOIN accounts a ON "
    "a.address = r.address JOIN auth.passwords p ON p.username = r.address "
    "WHERE " SURE " AND NOT EXISTS (SELECT 1 FROM credentials c WHERE "
    "c.account_id = a.id AND c.hash = p.password)",

    /* what counted before a password was set counts no more, and legacy is not
       asked what it thinks of it */
    "UPDATE secrets SET password_hash = coalesce((SELECT u.password FROM "
    "auth.users u JOIN accounts a ON a.address = u.username WHERE "
    "a.id = secrets.account_id), '') WHERE account_id IN " SET_SINCE,

    "DELETE FROM credentials WHERE account_id IN " SET_SINCE
    " AND hash NOT IN (SELECT p.password FROM auth.passwords p JOIN accounts "
    "a ON a.address = p.username WHERE a.id = credentials.account_id)",

    "INSERT INTO credentials (account_id, origin, hash, created_at) "
    "SELECT a.id, 'local', p.password, ?1 FROM auth.passwords p JOIN accounts "
    "a ON a.address = p.username WHERE a.id IN " SET_SINCE
    " AND NOT EXISTS (SELECT 1 FROM credentials c WHERE c.account_id = a.id "
    "AND c.hash = p.password)",

    "INSERT INTO audit (at, account_id, actor, event, address, domain, was, "
    "became) SELECT ?1, a.id, 'db rebuild', 'password set', "
    "a.address, " DOMAIN_OF(
        "a.address") ", printf('local_password_at=%d', "
                     "a.local_password_at), printf('local_password_at=%d', "
                     "u.set_at) FROM "
                     "auth.users u JOIN accounts a ON " SERVED
                     " WHERE u.set_at > a.local_password_at",

    "UPDATE accounts AS a SET local_password_at = u.set_at FROM auth.users u "
    "WHERE " SERVED " AND u.set_at > a.local_password_at",

    /* who was locked out stays out, who was let in again stays in */
    "UPDATE accounts AS a SET lock_login = (u.can_login = 0), "
    "lock_submission = (u.can_submit = 0) FROM auth.users u WHERE "
    "u.username = a.address AND (a.id IN " SURE_ACCOUNTS " OR (" SERVED ")) "
    "AND (a.lock_login <> (u.can_login = 0) OR "
    "a.lock_submission <> (u.can_submit = 0))",

    "UPDATE accounts SET provisioned_epoch = accounts.epoch FROM auth.users u "
    "WHERE "
    "u.username = accounts.address AND u.active = 1 AND "
    "u.epoch = accounts.epoch AND accounts.route = 'local' AND "
    "u.password IS NOT NULL AND accounts.id IN " SURE_ACCOUNTS,
};

static const char *const end_steps[] = {
    "UPDATE accounts SET password_state = 'learnt' WHERE route = 'local' AND "
    "password_state = 'none' AND id IN " SURE_ACCOUNTS
    " AND EXISTS (SELECT 1 FROM secrets s WHERE s.account_id = accounts.id "
    "AND s.password_hash <> '')",
    "DELETE FROM jobs WHERE account_id IN " SURE_ACCOUNTS,
    "INSERT INTO jobs (account_id, kind, host, epoch, due_at, priority) "
    "SELECT a.id, 'trail', d.imap_url, a.epoch, ?1, 10 FROM accounts a JOIN "
    "domains d ON d.id = a.domain_id JOIN secrets s ON s.account_id = a.id "
    "WHERE s.wrapped_key IS NOT NULL AND a.route = 'local' AND "
    "a.id IN " SURE_ACCOUNTS,
    "INSERT INTO audit (at, account_id, actor, event, address, became, domain) "
    "SELECT ?1, a.id, 'db rebuild', 'rebuilt', a.address, "
    "printf('route=%s copy=%s epoch=%d', a.route, a.copy, a.epoch), " DOMAIN_OF(
        "a.address") " FROM accounts a WHERE a.id IN " SURE_ACCOUNTS
                     " AND NOT EXISTS (SELECT 1 FROM audit e WHERE "
                     /* by the account's index: all of them have this time */
                     "e.account_id = a.id AND "
                     "+e.at = ?1 AND e.event = 'rebuilt')",
    "UPDATE counters SET value = max(value, (SELECT coalesce(max(generation), "
    "0) FROM refused)) WHERE name = 'generation'",
};

static int count(struct db *db, const char *sql, int64_t *out, struct err *err)
{
    struct db_statement *s = db_prepare(db, sql, err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *out = db_int(s, 0);
    db_finish(s);
    return 0;
}

static int count_all(struct db *db, struct rebuild_counts *out, struct err *err)
{
    const struct {
        const char *sql;
        int64_t *out;
    } counts[] = {
        {"SELECT count(*) FROM accounts WHERE route = 'local' AND "
         "id IN " SURE_ACCOUNTS,
         &out->local},
        {"SELECT count(*) FROM accounts WHERE route = 'legacy' AND "
         "id IN " SURE_ACCOUNTS,
         &out->legacy},
        {"SELECT count(*) FROM accounts a WHERE a.route = 'local' AND "
         "a.id IN " SURE_ACCOUNTS " AND NOT EXISTS (SELECT 1 FROM secrets s "
         "WHERE s.account_id = a.id AND s.password_hash <> '') AND NOT EXISTS "
         "(SELECT 1 FROM credentials c WHERE c.account_id = a.id AND "
         "c.hash <> '')",
         &out->without_hash},
        {"SELECT count(*) FROM accounts a WHERE a.route = 'local' AND "
         "a.id IN " SURE_ACCOUNTS " AND NOT EXISTS (SELECT 1 FROM secrets s "
         "WHERE s.account_id = a.id AND s.wrapped_key IS NOT NULL)",
         &out->without_seal},
        {"SELECT count(*) FROM refused WHERE source = 'maildir'",
         &out->doubtful},
    };

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (count(db, counts[i].sql, counts[i].out, err) == -1)
            return -1;
    return 0;
}

int rebuild_merge(struct db *db, bool has_auth, int64_t now_ms,
                  struct rebuild_counts *out, struct err *err)
{
    static const char *const clear[] = {
        "DELETE FROM refused WHERE source <> 'maildir'"};

    memset(out, 0, sizeof(*out));
    if (run_all(db, row_steps, 2, now_ms, err) == -1)
        return -1;
    out->changed = db_changed_rows(db);
    if (run_all(db, row_steps + 2, 1, now_ms, err) == -1)
        return -1;
    out->added = db_changed_rows(db);
    if (has_auth && run_all(db, STEPS(auth_steps), now_ms, err) == -1)
        return -1;
    if (run_all(db, STEPS(end_steps), now_ms, err) == -1 ||
        count_all(db, out, err) == -1)
        return -1;
    return run_all(db, STEPS(clear), now_ms, err);
}

/* --- looking only */

int rebuild_look_at_rows(struct db *db, rebuild_line_fn *fn, void *ctx,
                         struct err *err)
{
    static const char *const faults[] = {
        "SELECT address, printf('route %s with copy %s', route, copy) FROM "
        "accounts WHERE route = 'local' AND copy NOT IN ('trail', 'done', "
        "'paused')",
        "SELECT address, printf('route %s with copy %s', route, copy) FROM "
        "accounts WHERE route = 'legacy' AND copy IN ('final', 'trail', "
        "'done')",
        "SELECT address, printf('local has been told epoch %d, the row has "
        "%d', provisioned_epoch, epoch) FROM accounts WHERE "
        "provisioned_epoch > epoch",
        "SELECT address, printf('moved in generation %d, the db has %d', "
        "generation, (SELECT value FROM counters WHERE name = 'generation')) "
        "FROM accounts WHERE generation > (SELECT value FROM counters WHERE "
        "name = 'generation')",
        "SELECT a.address, printf('is of domain %s', d.name) FROM accounts a "
        "JOIN domains d ON d.id = a.domain_id WHERE d.name <> " DOMAIN_OF(
            "a.address"),
        "SELECT address, printf('refused: moved in generation %d, the db is "
        "older', generation) FROM refused",
    };

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        if (tell_rows(db, faults[i], fn, ctx, err) == -1)
            return -1;
    return 0;
}

int rebuild_look_at_auth(struct db *db, rebuild_line_fn *fn, void *ctx,
                         struct err *err)
{
    static const char *const faults[] = {
        "SELECT u.username, printf('auth.db serves it in epoch %d, the row "
        "says %s in epoch %d', u.epoch, coalesce(a.route, 'nothing'), "
        "coalesce(a.epoch, 0)) FROM auth.users u LEFT JOIN accounts a ON "
        "a.address = u.username WHERE u.active = 1 AND u.epoch > 0 AND "
        "(a.address IS NULL OR a.route = 'legacy' OR u.epoch > a.epoch) "
        "AND NOT EXISTS (SELECT 1 FROM refused r WHERE r.address = u.username)",
        "SELECT a.address, printf('local in epoch %d, auth.db %s', a.epoch, "
        "iif(u.username IS NULL, 'does not know it', 'does not serve it so')) "
        "FROM accounts a LEFT JOIN auth.users u ON u.username = a.address "
        "WHERE a.route = 'local' AND a.provisioned_epoch = a.epoch AND "
        "(u.username IS NULL OR u.active <> 1 OR u.epoch <> a.epoch)",
    };

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        if (tell_rows(db, faults[i], fn, ctx, err) == -1)
            return -1;
    return 0;
}
