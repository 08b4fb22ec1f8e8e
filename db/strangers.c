#include "db/strangers.h"

#include <string.h>

#include "db/row.h"

static int is_known(struct db *db, const char *address, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT 1 FROM accounts WHERE address = ?1 UNION ALL "
                   "SELECT 1 FROM aliases WHERE alias = ?1 LIMIT 1",
                   err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, address);
    result = db_step(s, err);
    db_finish(s);
    return result;
}

/* The mails of one that is listed already: 1, or 0 if he is not. */
static int count_again(struct db *db, const struct stranger *noted,
                       struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE strangers SET mails = mails + ?2, last_at = ?3 "
                   "WHERE address = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, noted->address);
    db_bind_int(s, 2, noted->mails);
    db_bind_int(s, 3, noted->last_at);
    return db_run(s, err) == -1 ? -1 : db_changed_rows(db) == 1;
}

static int count_unlisted(struct db *db, int64_t domain_id, int64_t mails,
                          struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO stranger_totals (domain_id, unlisted_mails) "
                   "VALUES (?1, ?2) ON CONFLICT (domain_id) DO UPDATE SET "
                   "unlisted_mails = unlisted_mails + excluded.unlisted_mails",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    db_bind_int(s, 2, mails);
    return db_run(s, err);
}

static int insert(struct db *db, int64_t domain_id,
                  const struct stranger *noted, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO strangers (address, domain_id, mails, first_at, last_at) "
        "VALUES (?1, ?2, ?3, ?4, ?5)",
        err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, noted->address);
    db_bind_int(s, 2, domain_id);
    db_bind_int(s, 3, noted->mails);
    db_bind_int(s, 4, noted->first_at);
    db_bind_int(s, 5, noted->last_at);
    return db_run(s, err);
}

int stranger_note(struct db *db, int64_t domain_id,
                  const struct stranger *noted, int64_t most, struct err *err)
{
    struct stranger_totals totals;
    int result = is_known(db, noted->address, err);

    if (result != 0)
        return result == 1 ? 0 : -1;
    result = count_again(db, noted, err);
    if (result != 0)
        return result == 1 ? 0 : -1;
    if (stranger_totals(db, domain_id, &totals, err) == -1)
        return -1;
    return totals.addresses < most
               ? insert(db, domain_id, noted, err)
               : count_unlisted(db, domain_id, noted->mails, err);
}

int stranger_totals(struct db *db, int64_t domain_id,
                    struct stranger_totals *out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT addresses, unlisted_mails FROM stranger_totals "
                   "WHERE domain_id = ?1",
                   err);
    int result;

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    result = db_step(s, err);
    if (result == 1) {
        out->addresses = db_int(s, 0);
        out->unlisted_mails = db_int(s, 1);
    }
    db_finish(s);
    return result == -1 ? -1 : 0;
}

int stranger_each(struct db *db, int64_t domain_id, int limit,
                  int (*fn)(void *ctx, const struct stranger *s), void *ctx,
                  struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT address, mails, first_at, last_at FROM strangers "
                   "WHERE domain_id = ?1 ORDER BY mails DESC, address LIMIT ?2",
                   err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    db_bind_int(s, 2, limit);
    while ((result = db_step(s, err)) == 1) {
        struct stranger found = {.mails = db_int(s, 1),
                                 .first_at = db_int(s, 2),
                                 .last_at = db_int(s, 3)};

        result = row_text(s, 0, found.address, sizeof(found.address), err);
        if (result == -1 || fn(ctx, &found) != 0)
            break;
    }
    db_finish(s);
    return result;
}
