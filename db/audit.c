#include "db/audit.h"

#include "base/clock.h"

#define COLUMNS                                                                \
    "SELECT at, account_id, actor, event, detail, address, was, became, "      \
    "reason "

int audit_append(struct db *db, const struct audit_entry *entry,
                 struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO audit (at, account_id, actor, event, detail, "
                   "address, was, became, reason) VALUES (?1, ?2, ?3, ?4, "
                   "coalesce(?5, ''), coalesce(?6, ''), coalesce(?7, ''), "
                   "coalesce(?8, ''), coalesce(?9, ''))",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, entry->at != 0 ? entry->at : clock_unix_ms());
    db_bind_int(s, 2, entry->account_id);
    db_bind_text(s, 3, entry->actor);
    db_bind_text(s, 4, entry->event);
    db_bind_text(s, 5, entry->detail);
    db_bind_text(s, 6, entry->address);
    db_bind_text(s, 7, entry->was);
    db_bind_text(s, 8, entry->became);
    db_bind_text(s, 9, entry->reason);
    return db_run(s, err);
}

int audit_each(struct db *db, int64_t account_id, int limit,
               int (*fn)(void *ctx, const struct audit_entry *entry), void *ctx,
               struct err *err)
{
    struct db_statement *s;
    int result;

    if (account_id == 0) {
        s = db_prepare(db, COLUMNS "FROM audit ORDER BY id DESC LIMIT ?1", err);
    } else {
        s = db_prepare(db,
                       COLUMNS "FROM audit WHERE account_id = ?2 "
                               "ORDER BY id DESC LIMIT ?1",
                       err);
    }
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, limit);
    if (account_id != 0)
        db_bind_int(s, 2, account_id);
    while ((result = db_step(s, err)) == 1) {
        const struct audit_entry entry = {.at = db_int(s, 0),
                                          .account_id = db_int(s, 1),
                                          .actor = db_text(s, 2),
                                          .event = db_text(s, 3),
                                          .detail = db_text(s, 4),
                                          .address = db_text(s, 5),
                                          .was = db_text(s, 6),
                                          .became = db_text(s, 7),
                                          .reason = db_text(s, 8)};

        if (fn(ctx, &entry) != 0) {
            result = 0;
            break;
        }
    }
    db_finish(s);
    return result;
}
