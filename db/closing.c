#include "db/closing.h"

#include <string.h>

#define DAY_MS (24 * 60 * 60 * 1000LL)

static const char *const bar_names[] = {"on_legacy", "held",      "paused",
                                        "set_aside", "late_mail", "way_back",
                                        "goes_back"};
_Static_assert(sizeof(bar_names) / sizeof(bar_names[0]) == CLOSING_BAR_COUNT,
               "a name for each bar");

const char *closing_bar_name(enum closing_bar bar)
{
    return bar_names[bar];
}

/* ?1 the domain, ?2 the begin of the quiet days, ?3 of the rollback days. In
   the order of enum closing_bar. */
#define ON_LEGACY "(route = 'legacy')"
#define HELD      "(route = 'held')"
#define PAUSED    "(route = 'local' AND copy NOT IN ('trail', 'done'))"
#define SET_ASIDE                                                              \
    "(route = 'local' AND copy <> 'done' AND set_aside > accepted)"
#define LATE_MAIL                                                              \
    "(route = 'local' AND copy <> 'done' AND "                                 \
    "max(late_mail_at, flipped_at) > ?2)"
#define WAY_BACK  "(route = 'local' AND copy <> 'done' AND flipped_at > ?3)"
#define GOES_BACK "(route = 'local' AND wants_rollback <> 0)"

static void bind_terms(struct db_statement *s, const struct domain *d,
                       int64_t now)
{
    db_bind_int(s, 1, d->id);
    db_bind_int(s, 2, now - d->quiet_days * DAY_MS);
    db_bind_int(s, 3, now - d->rollback_days * DAY_MS);
}

int closing_count(struct db *db, const struct domain *domain, int64_t now,
                  int64_t counts_out[CLOSING_BAR_COUNT], struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT sum(" ON_LEGACY "), sum(" HELD "), sum(" PAUSED
                   "), sum(" SET_ASIDE "), sum(" LATE_MAIL "), sum(" WAY_BACK
                   "), sum(" GOES_BACK ") FROM accounts WHERE domain_id = ?1",
                   err);
    int result;

    memset(counts_out, 0, CLOSING_BAR_COUNT * sizeof(*counts_out));
    if (s == NULL)
        return -1;
    bind_terms(s, domain, now);
    result = db_step(s, err);
    for (int i = 0; result == 1 && i < CLOSING_BAR_COUNT; i++)
        counts_out[i] = db_int(s, i);
    db_finish(s);
    return result == -1 ? -1 : 0;
}

static int each_address(struct db_statement *s,
                        int (*fn)(void *ctx, const char *address), void *ctx,
                        struct err *err)
{
    int result;

    while ((result = db_step(s, err)) == 1)
        if (fn(ctx, db_text(s, 0)) != 0)
            break;
    db_finish(s);
    return result == -1 ? -1 : 0;
}

int closing_each_barred(struct db *db, const struct domain *domain, int64_t now,
                        enum closing_bar bar, int limit,
                        int (*fn)(void *ctx, const char *address), void *ctx,
                        struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT address FROM accounts WHERE domain_id = ?1 AND CASE ?4 "
        "WHEN 0 THEN " ON_LEGACY " WHEN 1 THEN " HELD " WHEN 2 THEN " PAUSED
        " WHEN 3 THEN " SET_ASIDE " WHEN 4 THEN " LATE_MAIL
        " WHEN 5 THEN " WAY_BACK " ELSE " GOES_BACK
        " END ORDER BY address LIMIT ?5",
        err);

    if (s == NULL)
        return -1;
    bind_terms(s, domain, now);
    db_bind_int(s, 4, bar);
    db_bind_int(s, 5, limit);
    return each_address(s, fn, ctx, err);
}

static int each_id(struct db_statement *s,
                   int (*fn)(void *ctx, int64_t account_id), void *ctx,
                   struct err *err)
{
    int result;

    while ((result = db_step(s, err)) == 1)
        if (fn(ctx, db_int(s, 0)) != 0)
            break;
    db_finish(s);
    return result == -1 ? -1 : 0;
}

int closing_each_trail(struct db *db, int64_t domain_id, int64_t after,
                       int limit, int (*fn)(void *ctx, int64_t account_id),
                       void *ctx, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT id FROM accounts WHERE domain_id = ?1 AND id > ?2 "
                   "AND route = 'local' AND copy IN ('trail', 'paused') "
                   "ORDER BY id LIMIT ?3",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    db_bind_int(s, 2, after);
    db_bind_int(s, 3, limit);
    return each_id(s, fn, ctx, err);
}

int closing_count_trails(struct db *db, int64_t domain_id, int64_t *count_out,
                         struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT count(*) FROM accounts WHERE domain_id = ?1 AND "
                   "route = 'local' AND copy IN ('trail', 'paused')",
                   err);
    int result;

    *count_out = 0;
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    result = db_step(s, err);
    if (result == 1)
        *count_out = db_int(s, 0);
    db_finish(s);
    return result == -1 ? -1 : 0;
}

#define UNENDED                                                                \
    "FROM domains d CROSS JOIN accounts a ON a.domain_id = d.id "              \
    "WHERE d.closed_at <> 0 AND a.route = 'local' AND "                        \
    "a.copy IN ('trail', 'paused') "

int closing_each_unended(struct db *db, int limit,
                         int (*fn)(void *ctx, int64_t account_id), void *ctx,
                         struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT a.id " UNENDED "AND NOT EXISTS (SELECT 1 FROM jobs "
                   "j WHERE j.account_id = a.id AND j.kind = 'hash') LIMIT ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, limit);
    return each_id(s, fn, ctx, err);
}

int closing_has_unended(struct db *db, struct err *err)
{
    struct db_statement *s = db_prepare(db, "SELECT 1 " UNENDED "LIMIT 1", err);
    int result;

    if (s == NULL)
        return -1;
    result = db_step(s, err);
    db_finish(s);
    return result;
}

int closing_each_address(struct db *db, int64_t domain_id, const char *after,
                         int limit, int (*fn)(void *ctx, const char *address),
                         void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT address FROM ("
        "SELECT * FROM (SELECT address FROM accounts WHERE domain_id = ?1 AND "
        "address > ?2 ORDER BY address LIMIT ?3) UNION "
        "SELECT * FROM (SELECT alias AS address FROM aliases, domains d "
        "WHERE d.id = ?1 AND alias > ?2 AND "
        "substr(alias, -length(d.name) - 1) = '@' || d.name "
        "ORDER BY alias LIMIT ?3) UNION "
        "SELECT * FROM (SELECT address FROM strangers WHERE domain_id = ?1 AND "
        "address > ?2 ORDER BY address LIMIT ?3)) ORDER BY address LIMIT ?3",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    db_bind_text(s, 2, after);
    db_bind_int(s, 3, limit);
    return each_address(s, fn, ctx, err);
}
