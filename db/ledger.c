#include "db/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "db/db.h"
#include "db/ledger_parts.h"

static const char *const scripts[] = {
    "CREATE TABLE value (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE folder ("
    " id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " directory TEXT NOT NULL, separator TEXT NOT NULL,"
    " is_selectable INTEGER NOT NULL, is_subscribed INTEGER NOT NULL,"
    " uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL,"
    " modseq INTEGER NOT NULL, messages INTEGER NOT NULL,"
    " is_complete INTEGER NOT NULL, flip_uidnext INTEGER NOT NULL,"
    " lifted_modseq INTEGER NOT NULL, uidl_count INTEGER NOT NULL);"
    "CREATE TABLE keyword (folder INTEGER NOT NULL, position INTEGER NOT NULL,"
    " name TEXT NOT NULL, PRIMARY KEY (folder, position)) WITHOUT ROWID;"
    "CREATE TABLE message ("
    " folder INTEGER NOT NULL, uid INTEGER NOT NULL, state INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, keywords INTEGER NOT NULL,"
    " date INTEGER NOT NULL, size INTEGER NOT NULL, vsize INTEGER NOT NULL,"
    " digest BLOB, pop3_order INTEGER NOT NULL, local_uid INTEGER NOT NULL,"
    " uidl TEXT, error TEXT, attempts INTEGER NOT NULL,"
    " PRIMARY KEY (folder, uid)) WITHOUT ROWID;",

    "ALTER TABLE folder ADD COLUMN cur_inode INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE folder ADD COLUMN cur_mtime_ns INTEGER NOT NULL DEFAULT 0;",

    /* the way back, see ledger_back.c */
    "ALTER TABLE folder ADD COLUMN least_uidnext INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE folder ADD COLUMN least_modseq INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE back ("
    " folder INTEGER NOT NULL, uidvalidity INTEGER NOT NULL,"
    " uid INTEGER NOT NULL, state INTEGER NOT NULL, first INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, keywords INTEGER NOT NULL,"
    " date INTEGER NOT NULL, size INTEGER NOT NULL, vsize INTEGER NOT NULL,"
    " digest BLOB, error TEXT,"
    " PRIMARY KEY (folder, uidvalidity, uid)) WITHOUT ROWID;"
    "CREATE TABLE superseded ("
    " folder INTEGER NOT NULL, file TEXT NOT NULL, uid INTEGER NOT NULL,"
    " PRIMARY KEY (folder, file)) WITHOUT ROWID;"};

/* ---- opening ---- */

static int take_lock(struct ledger *ledger, const char *directory,
                     struct err *err)
{
    char path[1100];

    snprintf(path, sizeof(path), "%s/lock", directory);
    ledger->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ledger->lock == -1)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", path,
                       strerror(errno));
    if (flock(ledger->lock, LOCK_EX | LOCK_NB) == -1)
        return err_set(err, ERR_RETRY, "%s: held by another worker", path);
    return 0;
}

int ledger_open(const char *directory, struct ledger **out, struct err *err)
{
    /* commits cost no sync, but a power cut must not leave half a checkpoint:
       such a ledger would be of no use at all */
    struct db_options options = {.sync = DB_SYNC_NORMAL,
                                 .create = true,
                                 .scripts = scripts,
                                 .script_count =
                                     sizeof(scripts) / sizeof(scripts[0])};
    struct ledger *ledger = mem_alloc(sizeof(*ledger));
    char path[1100];

    ledger->lock = -1;
    snprintf(path, sizeof(path), "%s/ledger.db", directory);
    ledger->path = mem_dup_text(path);
    if (path_make(directory, err) == -1 ||
        take_lock(ledger, directory, err) == -1 ||
        db_open(path, &options, &ledger->db, err) == -1) {
        ledger_close(&ledger);
        return -1;
    }
    *out = ledger;
    return 0;
}

void ledger_close(struct ledger **ledger)
{
    struct ledger *l = *ledger;

    *ledger = NULL;
    if (l == NULL)
        return;
    if (l->db != NULL)
        db_close(&l->db);
    if (l->lock != -1)
        close(l->lock);
    free(l->path);
    free(l);
}

int ledger_begin(struct ledger *ledger, struct err *err)
{
    return db_begin(ledger->db, err);
}

int ledger_commit(struct ledger *ledger, struct err *err)
{
    return db_commit(ledger->db, err);
}

void ledger_rollback(struct ledger *ledger)
{
    if (db_in_transaction(ledger->db))
        db_rollback(ledger->db);
}

static int sync_file(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = 0;

    if (fd == -1)
        return errno == ENOENT ? 0
                               : err_set(err, err_kind_of_errno(errno),
                                         "%s: %s", path, strerror(errno));
    if (fsync(fd) == -1)
        rc = err_set(err, err_kind_of_errno(errno), "%s: %s", path,
                     strerror(errno));
    close(fd);
    return rc;
}

int ledger_make_durable(struct ledger *ledger, struct err *err)
{
    char wal[1200], directory[1200];

    snprintf(wal, sizeof(wal), "%s-wal", ledger->path);
    snprintf(directory, sizeof(directory), "%s", ledger->path);
    *strrchr(directory, '/') = '\0';
    if (db_set_sync(ledger->db, DB_SYNC_FULL, err) == -1)
        return -1;
    return sync_file(wal, err) == -1 || sync_file(ledger->path, err) == -1 ||
                   sync_file(directory, err) == -1
               ? -1
               : 0;
}

/* ---- values ---- */

int ledger_get(struct ledger *ledger, const char *key, char **value_out,
               struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db, "SELECT value FROM value WHERE key = ?", err);
    int rc;

    *value_out = NULL;
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, key);
    rc = db_step(s, err);
    if (rc == 1)
        *value_out = mem_dup_text(db_text(s, 0));
    db_finish(s);
    return rc == -1 ? -1 : 0;
}

int ledger_put(struct ledger *ledger, const char *key, const char *value,
               struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db, "INSERT OR REPLACE INTO value (key, value) VALUES (?, ?)",
        err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, key);
    db_bind_text(s, 2, value);
    return db_run(s, err);
}

/* ---- folders ---- */

static void read_folder(struct db_statement *s, struct ledger_folder *f)
{
    *f = (struct ledger_folder){
        .id = db_int(s, 0),
        .name = mem_dup_text(db_text(s, 1)),
        .directory = mem_dup_text(db_text(s, 2)),
        .separator = db_text(s, 3)[0],
        .is_selectable = db_int(s, 4) != 0,
        .is_subscribed = db_int(s, 5) != 0,
        .uidvalidity = (uint32_t)db_int(s, 6),
        .uidnext = (uint32_t)db_int(s, 7),
        .modseq = (uint64_t)db_int(s, 8),
        .messages = (uint32_t)db_int(s, 9),
        .is_complete = db_int(s, 10) != 0,
        .flip_uidnext = (uint32_t)db_int(s, 11),
        .lifted_modseq = (uint64_t)db_int(s, 12),
        .uidl_count = db_int(s, 13),
        .cur_inode = (uint64_t)db_int(s, 14),
        .cur_mtime_ns = db_int(s, 15),
        .least_uidnext = (uint32_t)db_int(s, 16),
        .least_modseq = (uint64_t)db_int(s, 17),
    };
}

int ledger_folders(struct ledger *ledger, struct ledger_folder **folders_out,
                   size_t *count_out, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "SELECT id, name, directory, separator, is_selectable, is_subscribed,"
        " uidvalidity, uidnext, modseq, messages, is_complete, flip_uidnext,"
        " lifted_modseq, uidl_count, cur_inode, cur_mtime_ns, least_uidnext,"
        " least_modseq FROM folder ORDER BY id",
        err);
    struct ledger_folder *folders = NULL;
    size_t count = 0;
    int rc;

    if (s == NULL)
        return -1;
    while ((rc = db_step(s, err)) == 1) {
        folders = mem_grow(folders, (count + 1) * sizeof(*folders));
        read_folder(s, &folders[count++]);
    }
    if (rc == -1) {
        ledger_folders_free(&folders, count);
        return -1;
    }
    *folders_out = folders;
    *count_out = count;
    return 0;
}

void ledger_folders_free(struct ledger_folder **folders, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((*folders)[i].name);
        free((*folders)[i].directory);
    }
    free(*folders);
    *folders = NULL;
}

int ledger_folder_save(struct ledger *ledger, struct ledger_folder *f,
                       struct err *err)
{
    char separator[2] = {f->separator, '\0'};
    struct db_statement *s = db_prepare(
        ledger->db,
        "INSERT OR REPLACE INTO folder (id, name, directory, separator,"
        " is_selectable, is_subscribed, uidvalidity, uidnext, modseq, messages,"
        " is_complete, flip_uidnext, lifted_modseq, uidl_count, cur_inode,"
        " cur_mtime_ns, least_uidnext, least_modseq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        err);

    if (s == NULL)
        return -1;
    if (f->id == 0)
        db_bind_null(s, 1);
    else
        db_bind_int(s, 1, f->id);
    db_bind_text(s, 2, f->name);
    db_bind_text(s, 3, f->directory);
    db_bind_text(s, 4, separator);
    db_bind_int(s, 5, f->is_selectable);
    db_bind_int(s, 6, f->is_subscribed);
    db_bind_int(s, 7, f->uidvalidity);
    db_bind_int(s, 8, f->uidnext);
    db_bind_int(s, 9, (int64_t)f->modseq);
    db_bind_int(s, 10, f->messages);
    db_bind_int(s, 11, f->is_complete);
    db_bind_int(s, 12, f->flip_uidnext);
    db_bind_int(s, 13, (int64_t)f->lifted_modseq);
    db_bind_int(s, 14, f->uidl_count);
    db_bind_int(s, 15, (int64_t)f->cur_inode);
    db_bind_int(s, 16, f->cur_mtime_ns);
    db_bind_int(s, 17, f->least_uidnext);
    db_bind_int(s, 18, (int64_t)f->least_modseq);
    if (db_run(s, err) == -1)
        return -1;
    if (f->id == 0)
        f->id = db_last_row_id(ledger->db);
    return 0;
}

/* One statement with one number to bind. */
static int run_for(struct ledger *ledger, const char *sql, int64_t number,
                   struct err *err)
{
    struct db_statement *s = db_prepare(ledger->db, sql, err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, number);
    return db_run(s, err);
}

int ledger_folder_empty(struct ledger *ledger, int64_t folder, struct err *err)
{
    if (run_for(ledger, "DELETE FROM message WHERE folder = ?", folder, err) ==
        -1)
        return -1;
    if (run_for(ledger, "DELETE FROM keyword WHERE folder = ?", folder, err) ==
            -1 ||
        run_for(ledger, "DELETE FROM back WHERE folder = ?", folder, err) == -1)
        return -1;
    return run_for(ledger, "DELETE FROM superseded WHERE folder = ?", folder,
                   err);
}

int ledger_folder_remove(struct ledger *ledger, int64_t folder, struct err *err)
{
    if (ledger_folder_empty(ledger, folder, err) == -1)
        return -1;
    return run_for(ledger, "DELETE FROM folder WHERE id = ?", folder, err);
}

/* ---- keywords ---- */

int ledger_keywords(struct ledger *ledger, int64_t folder, char ***names_out,
                    unsigned *count_out, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "SELECT name FROM keyword WHERE folder = ? ORDER BY position", err);
    char **names = mem_alloc((LEDGER_KEYWORDS_MAX + 1) * sizeof(*names));
    char *text = NULL;
    size_t offsets[LEDGER_KEYWORDS_MAX], used = 0;
    unsigned count = 0;
    int rc;

    if (s == NULL) {
        free(names);
        return -1;
    }
    db_bind_int(s, 1, folder);
    while ((rc = db_step(s, err)) == 1 && count < LEDGER_KEYWORDS_MAX) {
        const char *name = db_text(s, 0);
        size_t size = strlen(name) + 1;

        text = mem_grow(text, used + size);
        memcpy(text + used, name, size);
        offsets[count++] = used;
        used += size;
    }
    db_finish(s);
    if (rc != -1) { /* pointers and texts in one block */
        size_t head = (LEDGER_KEYWORDS_MAX + 1) * sizeof(*names);

        names = mem_grow(names, head + used + 1);
        if (used > 0)
            memcpy((char *)names + head, text, used);
        for (unsigned i = 0; i < count; i++)
            names[i] = (char *)names + head + offsets[i];
        names[count] = NULL;
    }
    free(text);
    if (rc == -1) {
        free(names);
        return -1;
    }
    *names_out = names;
    *count_out = count;
    return 0;
}

int ledger_keyword(struct ledger *ledger, int64_t folder, const char *name,
                   int *position_out, struct err *err)
{
    struct db_statement *s;
    char **names;
    unsigned count;

    if (ledger_keywords(ledger, folder, &names, &count, err) == -1)
        return -1;
    *position_out = -1;
    for (unsigned i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            *position_out = (int)i;
    free(names);
    if (*position_out != -1 || count == LEDGER_KEYWORDS_MAX)
        return 0;
    s = db_prepare(
        ledger->db,
        "INSERT INTO keyword (folder, position, name) VALUES (?, ?, ?)", err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, count);
    db_bind_text(s, 3, name);
    if (db_run(s, err) == -1)
        return -1;
    *position_out = (int)count;
    return 0;
}

/* ---- messages ---- */

static void read_message(struct db_statement *s, struct ledger_message *m)
{
    size_t length;
    const void *digest = db_blob(s, 7, &length);

    *m = (struct ledger_message){
        .uid = (uint32_t)db_int(s, 0),
        .state = (enum ledger_state)db_int(s, 1),
        .flags = (uint8_t)db_int(s, 2),
        .keywords = (uint64_t)db_int(s, 3),
        .date = db_int(s, 4),
        .size = (uint32_t)db_int(s, 5),
        .vsize = (uint32_t)db_int(s, 6),
        .pop3_order = (uint32_t)db_int(s, 8),
        .local_uid = (uint32_t)db_int(s, 9),
        .uidl = db_is_null(s, 10) ? NULL : db_text(s, 10),
        .error = db_is_null(s, 11) ? NULL : db_text(s, 11),
        .attempts = (unsigned)db_int(s, 12),
    };
    if (digest != NULL && length == LEDGER_DIGEST_SIZE)
        memcpy(m->digest, digest, LEDGER_DIGEST_SIZE);
}

int ledger_messages(struct ledger *ledger, int64_t folder,
                    ledger_message_fn *fn, void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "SELECT uid, state, flags, keywords, date, size, vsize, digest,"
        " pop3_order, local_uid, uidl, error, attempts FROM message"
        " WHERE folder = ? ORDER BY uid",
        err);
    struct ledger_message message;
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    while ((rc = db_step(s, err)) == 1) {
        read_message(s, &message);
        if (fn(ctx, &message, err) == -1) {
            db_finish(s);
            return -1;
        }
    }
    return rc;
}

int ledger_message_find(struct ledger *ledger, int64_t folder, uint32_t uid,
                        struct ledger_message *out, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "SELECT uid, state, flags, keywords, date, size, vsize, digest,"
        " pop3_order, local_uid, uidl, error, attempts FROM message"
        " WHERE folder = ? AND uid = ?",
        err);
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, uid);
    rc = db_step(s, err);
    if (rc == 1)
        read_message(s, out);
    return rc;
}

int ledger_message_save(struct ledger *ledger, int64_t folder,
                        const struct ledger_message *m, struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db,
        "INSERT OR REPLACE INTO message (folder, uid, state, flags, keywords,"
        " date, size, vsize, digest, pop3_order, local_uid, uidl, error,"
        " attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, m->uid);
    db_bind_int(s, 3, m->state);
    db_bind_int(s, 4, m->flags);
    db_bind_int(s, 5, (int64_t)m->keywords);
    db_bind_int(s, 6, m->date);
    db_bind_int(s, 7, m->size);
    db_bind_int(s, 8, m->vsize);
    db_bind_blob(s, 9, m->digest, LEDGER_DIGEST_SIZE);
    db_bind_int(s, 10, m->pop3_order);
    db_bind_int(s, 11, m->local_uid);
    db_bind_text(s, 12, m->uidl);
    db_bind_text(s, 13, m->error);
    db_bind_int(s, 14, m->attempts);
    return db_run(s, err);
}

int ledger_message_remove(struct ledger *ledger, int64_t folder, uint32_t uid,
                          struct err *err)
{
    struct db_statement *s = db_prepare(
        ledger->db, "DELETE FROM message WHERE folder = ? AND uid = ?", err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    db_bind_int(s, 2, uid);
    return db_run(s, err);
}

int ledger_message_set_flags(struct ledger *ledger, int64_t folder,
                             uint32_t uid, uint8_t flags, uint64_t keywords,
                             struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "UPDATE message SET flags = ?, keywords = ?"
                   " WHERE folder = ? AND uid = ?",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, flags);
    db_bind_int(s, 2, (int64_t)keywords);
    db_bind_int(s, 3, folder);
    db_bind_int(s, 4, uid);
    return db_run(s, err);
}

int ledger_message_set_uidl(struct ledger *ledger, int64_t folder, uint32_t uid,
                            const char *uidl, uint32_t order, struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "UPDATE message SET uidl = ?, pop3_order = ?"
                   " WHERE folder = ? AND uid = ?",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, uidl);
    db_bind_int(s, 2, order);
    db_bind_int(s, 3, folder);
    db_bind_int(s, 4, uid);
    return db_run(s, err);
}

int ledger_totals(struct ledger *ledger, int64_t folder, int64_t *messages_out,
                  int64_t *bytes_out, int64_t *set_aside_out, struct err *err)
{
    int64_t messages = 0, bytes = 0, set_aside = 0;
    struct db_statement *s =
        db_prepare(ledger->db,
                   "SELECT state, count(*), sum(size) FROM message"
                   " WHERE ? IN (0, folder) GROUP BY state",
                   err);
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, folder);
    while ((rc = db_step(s, err)) == 1) {
        if (db_int(s, 0) == LEDGER_STORED || db_int(s, 0) == LEDGER_APPENDED ||
            db_int(s, 0) == LEDGER_RETURNED) {
            messages += db_int(s, 1);
            bytes += db_int(s, 2);
        } else if (db_int(s, 0) == LEDGER_SET_ASIDE) {
            set_aside += db_int(s, 1);
        }
    }
    if (messages_out != NULL)
        *messages_out = messages;
    if (bytes_out != NULL)
        *bytes_out = bytes;
    if (set_aside_out != NULL)
        *set_aside_out = set_aside;
    return rc;
}

int ledger_each_aside(struct ledger *ledger, ledger_aside_fn *fn, void *ctx,
                      struct err *err)
{
    struct db_statement *s =
        db_prepare(ledger->db,
                   "SELECT folder, name, uidvalidity, uid, error FROM message"
                   " JOIN folder ON folder.id = message.folder"
                   " WHERE state = ? ORDER BY folder, uid",
                   err);
    int rc;

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, LEDGER_SET_ASIDE);
    while ((rc = db_step(s, err)) == 1) {
        struct ledger_aside row = {.folder = db_int(s, 0),
                                   .name = db_text(s, 1),
                                   .uidvalidity = (uint32_t)db_int(s, 2),
                                   .uid = (uint32_t)db_int(s, 3),
                                   .error = db_text(s, 4)};

        if (fn(ctx, &row, err) == -1) {
            db_finish(s);
            return -1;
        }
    }
    return rc;
}
