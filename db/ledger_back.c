/*
 * The ledger's tables of the way back: what is on its way to legacy, and which
 * files legacy has under a UID of its own.
 */
#include <string.h>

#include "db/ledger_parts.h"

static void read_back(struct db_statement *s, struct ledger_back *out)
{
    size_t length;
    const void *digest = db_blob(s, 10, &length);

    *out = (struct ledger_back){
        .uidvalidity = (uint32_t)db_int(s, 1),
        .uid = (uint32_t)db_int(s, 2),
        .state = (enum ledger_back_state)db_int(s, 3),
        .first = (uint32_t)db_int(s, 4),
        .flags = (uint8_t)db_int(s, 5),
        .keywords = (uint64_t)db_int(s, 6),
        .date = db_int(s, 7),
        .size = (uint32_t)db_int(s, 8),
        .vsize = (uint32_t)db_int(s, 9),
        .error = db_is_null(s, 11) ? NULL : db_text(s, 11),
    };
    if (digest != NULL && length == LEDGER_DIGEST_SIZE)
        memcpy(out->digest, digest, LEDGER_DIGEST_SIZE);
}

int ledger_backs(struct ledger *ledger, int64_t folder, ledger_back_fn *fn,
                 void *ctx, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "SELECT folder, uidvalidity, uid, state, first, flags,"
                   " keywords, date, size, vsize, digest, error FROM back"
                   " WHERE ? IN (0, folder) ORDER BY folder, uid",
                   err);
    struct ledger_back back;
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    while ((rc = db_step(s, err)) == 1) {
        read_back(s, &back);
        if (fn(ctx, db_int(s, 0), &back, err) == -1) {
            db_finish(s);
            return -1;
        }
    }
    return rc;
}

int ledger_back_save(struct ledger *ledger, int64_t folder,
                     const struct ledger_back *back, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "INSERT OR REPLACE INTO back (folder, uidvalidity, uid, state, first,"
        " flags, keywords, date, size, vsize, digest, error)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, back->uidvalidity);
    db_bind_int(s, 3, back->uid);
    db_bind_int(s, 4, back->state);
    db_bind_int(s, 5, back->first);
    db_bind_int(s, 6, back->flags);
    db_bind_int(s, 7, (int64_t)back->keywords);
    db_bind_int(s, 8, back->date);
    db_bind_int(s, 9, back->size);
    db_bind_int(s, 10, back->vsize);
    db_bind_blob(s, 11, back->digest, LEDGER_DIGEST_SIZE);
    db_bind_text(s, 12, back->error);
    return db_run(s, err);
}

int ledger_back_remove(struct ledger *ledger, int64_t folder,
                       uint32_t uidvalidity, uint32_t uid, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "DELETE FROM back WHERE folder = ? AND uidvalidity = ? AND uid = ?",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, uidvalidity);
    db_bind_int(s, 3, uid);
    return db_run(s, err);
}

int ledger_back_forget_refused(struct ledger *ledger, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db, "DELETE FROM back WHERE state = ?", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, LEDGER_BACK_REFUSED);
    return db_run(s, err);
}

int ledger_superseded_add(struct ledger *ledger, int64_t folder,
                          const char *file, uint32_t uid, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "INSERT OR REPLACE INTO superseded (folder, file, uid)"
                   " VALUES (?, ?, ?)",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_text(s, 2, file);
    db_bind_int(s, 3, uid);
    return db_run(s, err);
}

int ledger_superseded_remove(struct ledger *ledger, int64_t folder,
                             const char *file, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "DELETE FROM superseded WHERE folder = ? AND file = ?", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_text(s, 2, file);
    return db_run(s, err);
}

int ledger_superseded(struct ledger *ledger, int64_t folder,
                      int (*fn)(void *ctx, const char *file, uint32_t uid),
                      void *ctx, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "SELECT file, uid FROM superseded WHERE folder = ?"
                   " ORDER BY file",
                   err);
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    while ((rc = db_step(s, err)) == 1)
        if (fn(ctx, db_text(s, 0), (uint32_t)db_int(s, 1)) == -1) {
            db_finish(s);
            break;
        }
    return rc == -1 ? -1 : 0;
}
