#include "db/counts.h"

#include <string.h>

int account_counts_each(struct db *db,
                        int (*fn)(void *ctx, const struct account_count *count),
                        void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "SELECT d.name, c.route, c.copy, c.accounts FROM account_counts c "
        "JOIN domains d ON d.id = c.domain_id ORDER BY 1, 2, 3",
        err);
    int result;

    if (s == NULL)
        return -1;
    while ((result = db_step(s, err)) == 1) {
        int route = account_route_named(db_text(s, 1));
        int copy = account_copy_named(db_text(s, 2));
        struct account_count count = {.domain = db_text(s, 0),
                                      .route = (enum account_route)route,
                                      .copy = (enum account_copy)copy,
                                      .accounts = db_int(s, 3)};

        if (route != -1 && copy != -1 && fn(ctx, &count) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}

int account_counts_sum(struct db *db, int64_t domain_id, int64_t *accounts_out,
                       struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT coalesce(sum(accounts), 0) FROM account_counts "
                   "WHERE domain_id = ?1 OR ?1 = 0",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, domain_id);
    if (db_step(s, err) != 1)
        return -1;
    *accounts_out = db_int(s, 0);
    db_finish(s);
    return 0;
}

int job_counts_read(struct db *db, struct job_counts *out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT kind, is_leased, jobs FROM job_counts", err);
    int result;

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    while ((result = db_step(s, err)) == 1) {
        int kind = job_kind_named(db_text(s, 0));

        if (kind < 0)
            continue;
        if (db_int(s, 1))
            out->running[kind] = db_int(s, 2);
        else
            out->waiting[kind] = db_int(s, 2);
    }
    db_finish(s);
    return result;
}

int on_flip_counts_read(struct db *db, int64_t *due_out, int64_t *failed_out,
                        struct err *err)
{
    /* only those two words are in the index accounts_on_flip */
    struct db_statement *s =
        db_prepare(db,
                   "SELECT count(*), coalesce(sum(on_flip = 'failed'), 0) "
                   "FROM accounts WHERE on_flip IN ('due', 'failed')",
                   err);
    int result;

    *due_out = *failed_out = 0;
    if (s == NULL)
        return -1;
    result = db_step(s, err);
    if (result == 1) {
        *failed_out = db_int(s, 1);
        *due_out = db_int(s, 0) - *failed_out;
    }
    db_finish(s);
    return result == -1 ? -1 : 0;
}
