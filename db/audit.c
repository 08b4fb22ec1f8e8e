#include "db/audit.h"

#include <string.h>

#include "base/clock.h"

#define COLUMNS                                                                \
    "SELECT at, account_id, actor, event, detail, address, was, became, "      \
    "reason FROM audit "
#define NEWEST " AND at >= ?3 ORDER BY id DESC LIMIT ?1"

int audit_append(struct db *db, const struct audit_entry *entry,
                 struct err *err)
{
    const char *at = entry->address ? strrchr(entry->address, '@') : NULL;
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO audit (at, account_id, actor, event, detail, address, "
        "was, became, reason, domain) VALUES (?1, ?2, ?3, ?4, "
        "coalesce(?5, ''), coalesce(?6, ''), coalesce(?7, ''), "
        "coalesce(?8, ''), coalesce(?9, ''), coalesce(?10, ''))",
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
    db_bind_text(s, 10, at ? at + 1 : entry->address);
    return db_run(s, err);
}

static struct db_statement *choose(struct db *db, const struct audit_filter *f,
                                   struct err *err)
{
    struct db_statement *s;

    if (f->account_id != 0)
        s = db_prepare(db, COLUMNS "WHERE account_id = ?2" NEWEST, err);
    else if (f->address)
        s = db_prepare(
            db, COLUMNS "WHERE address <> '' AND address = ?2" NEWEST, err);
    else if (f->domain)
        s = db_prepare(db, COLUMNS "WHERE domain <> '' AND domain = ?2" NEWEST,
                       err);
    else
        s = db_prepare(db, COLUMNS "WHERE ?2 IS NULL" NEWEST, err);
    if (s == NULL)
        return NULL;
    db_bind_int(s, 1, f->limit);
    if (f->account_id != 0)
        db_bind_int(s, 2, f->account_id);
    else
        db_bind_text(s, 2, f->address ? f->address : f->domain);
    db_bind_int(s, 3, f->since);
    return s;
}

int audit_each(struct db *db, const struct audit_filter *filter,
               int (*fn)(void *ctx, const struct audit_entry *entry), void *ctx,
               struct err *err)
{
    struct db_statement *s = choose(db, filter, err);
    int result;

    if (s == NULL)
        return -1;
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
