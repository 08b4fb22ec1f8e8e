#include "db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define BUSY_MS       10000
#define CACHE_BUCKETS 64 /* a power of two */
#define FILE_MODE     0640

struct db_statement {
    struct db *db;
    struct db_statement *next; /* in its bucket */
    const char *sql;           /* borrowed for ever */
    sqlite3_stmt *stmt;
    int bind_error; /* the first one since db_prepare; SQLITE_OK */
    bool is_busy;   /* has given a row and is not reset */
};

struct db {
    sqlite3 *sqlite;
    char *path;
    int lock_fd; /* -1: not alone */
    bool is_conflict;
    bool is_read_only; /* by db_set_read_only */
    int busy_ms;
    struct db_statement *cache[CACHE_BUCKETS];
};

/* SQLite says "full" only of write(); where making room failed otherwise, the
   reason is often overwritten by what it tidies up. */
static enum err_kind kind_of_io(int extended, int number)
{
    if (number != EIO &&
        (extended == SQLITE_IOERR_SHMSIZE || extended == SQLITE_IOERR_WRITE ||
         extended == SQLITE_IOERR_TRUNCATE || extended == SQLITE_IOERR_FSYNC ||
         extended == SQLITE_IOERR_DIR_FSYNC))
        return ERR_RETRY;
    return err_kind_of_errno(number);
}

static int fail(struct db *db, const char *what, struct err *err)
{
    int extended = sqlite3_extended_errcode(db->sqlite);
    int code = extended & 0xff; /* sqlite3_errcode() tells the extended, too */
    enum err_kind kind = ERR_SETUP;

    if (code == SQLITE_BUSY || code == SQLITE_LOCKED || code == SQLITE_FULL)
        kind = ERR_RETRY;
    else if (code == SQLITE_IOERR || code == SQLITE_CANTOPEN)
        kind = kind_of_io(extended, sqlite3_system_errno(db->sqlite));
    db->is_conflict = extended == SQLITE_CONSTRAINT_UNIQUE ||
                      extended == SQLITE_CONSTRAINT_PRIMARYKEY;
    if (code == SQLITE_READONLY && db->is_read_only)
        return err_set(err, ERR_RETRY, "%s: no room on its disk", db->path);
    return err_set(err, kind, "%s: %s: %s", db->path, what,
                   sqlite3_errmsg(db->sqlite));
}

static int run_script(struct db *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(db, "statement", err);
    return 0;
}

/* Make the file ourselves, since SQLite would use mode 0644. Only when it is
   missing: closing a descriptor of an open database drops its locks. */
static int make_file(const char *path, struct err *err)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, FILE_MODE);

    if (fd == -1 && errno != EEXIST)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", path,
                       strerror(errno));
    if (fd != -1)
        close(fd);
    return 0;
}

int db_lock(const char *path, int *fd_out, struct err *err)
{
    char name[4096];
    int length = snprintf(name, sizeof(name), "%s.lock", path);
    int fd;

    if (length < 0 || (size_t)length >= sizeof(name))
        return err_set(err, ERR_SETUP, "%s: name is too long", path);
    fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (fd == -1)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", name,
                       strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == -1) {
        enum err_kind kind = errno == EWOULDBLOCK ? ERR_RETRY : ERR_SETUP;

        err_set(err, kind, "%s: %s", name,
                kind == ERR_RETRY ? "another process has it open"
                                  : strerror(errno));
        close(fd);
        return -1;
    }
    *fd_out = fd;
    return 0;
}

static int read_version(struct db *db, int *version_out, struct err *err)
{
    struct db_statement *s = db_prepare(db, "PRAGMA user_version", err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *version_out = (int)db_int(s, 0);
    db_finish(s);
    return 0;
}

/* One step, in one transaction with its number; another process may have done
   it while we waited for the lock. 1: done, 0: nothing left to do. */
static int upgrade_once(struct db *db, const struct db_options *options,
                        struct err *err)
{
    char pragma[64];
    int version;

    if (db_begin(db, err) == -1)
        return -1;
    if (read_version(db, &version, err) == -1)
        goto failed;
    if (version > options->script_count) {
        err_set(err, ERR_SETUP,
                "%s: has version %d, made by a newer mailhaul; this one knows "
                "%d",
                db->path, version, options->script_count);
        goto failed;
    }
    if (version == options->script_count) {
        db_rollback(db);
        return 0;
    }
    snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", version + 1);
    if (run_script(db, options->scripts[version], err) == -1 ||
        run_script(db, pragma, err) == -1 || db_commit(db, err) == -1)
        goto failed;
    return 1;
failed:
    db_rollback(db);
    return -1;
}

static int upgrade(struct db *db, const struct db_options *options,
                   struct err *err)
{
    int version, result;

    if (options->scripts == NULL)
        return 0;
    if (read_version(db, &version, err) == -1)
        return -1;
    if (version == options->script_count)
        return 0;
    if (options->read_only)
        return err_set(err, ERR_SETUP, "%s: has version %d, not %d", db->path,
                       version, options->script_count);
    do
        result = upgrade_once(db, options, err);
    while (result == 1);
    return result;
}

int db_set_sync(struct db *db, enum db_sync sync, struct err *err)
{
    static const char *const sync_pragma[] = {
        [DB_SYNC_FULL] = "PRAGMA synchronous = FULL",
        [DB_SYNC_NORMAL] = "PRAGMA synchronous = NORMAL",
        [DB_SYNC_OFF] = "PRAGMA synchronous = OFF"};

    return run_script(db, sync_pragma[sync], err);
}

int db_set_scratch(struct db *db, struct err *err)
{
    return run_script(db,
                      "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; "
                      "PRAGMA secure_delete = OFF; "
                      "PRAGMA mmap_size = 17179869184; "
                      "PRAGMA journal_mode = MEMORY",
                      err);
}

void db_set_busy_ms(struct db *db, int busy_ms)
{
    db->busy_ms = busy_ms;
    sqlite3_busy_timeout(db->sqlite, busy_ms);
}

int db_checkpoint(struct db *db, struct err *err)
{
    int status;

    sqlite3_busy_timeout(db->sqlite, 0);
    status = sqlite3_wal_checkpoint_v2(db->sqlite, NULL,
                                       SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(db->sqlite, db->busy_ms);
    if (status == SQLITE_BUSY || status == SQLITE_LOCKED)
        return 0;
    return status == SQLITE_OK ? 1 : fail(db, "checkpoint", err);
}

int db_set_read_only(struct db *db, bool is_read_only, struct err *err)
{
    db->is_read_only = is_read_only;
    return run_script(
        db, is_read_only ? "PRAGMA query_only = ON" : "PRAGMA query_only = OFF",
        err);
}

static int set_up(struct db *db, const struct db_options *options,
                  struct err *err)
{
    int keep = 1;

    sqlite3_extended_result_codes(db->sqlite, 1);
    db_set_busy_ms(db, BUSY_MS);
    sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (run_script(db, "PRAGMA foreign_keys = ON", err) == -1)
        return -1;
    if (!options->read_only &&
        (run_script(db, "PRAGMA journal_mode = WAL", err) == -1 ||
         run_script(db, "PRAGMA secure_delete = ON", err) == -1 ||
         db_set_sync(db, options->sync, err) == -1))
        return -1;
    if (options->keep_wal)
        sqlite3_file_control(db->sqlite, NULL, SQLITE_FCNTL_PERSIST_WAL, &keep);
    return upgrade(db, options, err);
}

int db_open(const char *path, const struct db_options *options,
            struct db **db_out, struct err *err)
{
    int flags =
        (options->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
        SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    struct db *db = mem_alloc(sizeof(*db));

    *db_out = NULL;
    db->path = mem_dup_text(path);
    db->lock_fd = -1;
    if (!options->create && access(path, F_OK) == -1) {
        err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
        goto failed;
    }
    if (options->is_alone && db_lock(path, &db->lock_fd, err) == -1)
        goto failed;
    if (options->create && make_file(path, err) == -1)
        goto failed;
    if (sqlite3_open_v2(path, &db->sqlite, flags, NULL) != SQLITE_OK) {
        if (db->sqlite == NULL)
            abort(); /* no memory */
        fail(db, "cannot open", err);
        goto failed;
    }
    if (set_up(db, options, err) == -1)
        goto failed;
    *db_out = db;
    return 0;
failed:
    db_close(&db);
    return -1;
}

void db_close(struct db **db_in)
{
    struct db *db = *db_in;

    *db_in = NULL;
    if (db == NULL)
        return;
    for (int i = 0; i < CACHE_BUCKETS; i++) {
        while (db->cache[i] != NULL) {
            struct db_statement *s = db->cache[i];

            db->cache[i] = s->next;
            sqlite3_finalize(s->stmt);
            free(s);
        }
    }
    sqlite3_close(db->sqlite);
    if (db->lock_fd != -1)
        close(db->lock_fd); /* after the last checkpoint */
    free(db->path);
    free(db);
}

int db_attach(struct db *db, const char *path, const char *name,
              struct err *err)
{
    char *sql = sqlite3_mprintf("ATTACH DATABASE %Q AS %w", path, name);
    int result = run_script(db, sql, err);

    sqlite3_free(sql);
    return result;
}

int db_copy(struct db *db, const char *path, struct err *err)
{
    char *sql = sqlite3_mprintf("VACUUM INTO %Q", path);
    int result = run_script(db, sql, err);

    sqlite3_free(sql);
    return result;
}

int db_examine(struct db *db, void (*fn)(void *ctx, const char *fault),
               void *ctx, struct err *err)
{
    struct db_statement *s = db_prepare(db, "PRAGMA integrity_check(100)", err);
    char text[256];
    int result = -1;

    while (s != NULL && (result = db_step(s, err)) == 1)
        if (strcmp(db_text(s, 0), "ok") != 0)
            fn(ctx, db_text(s, 0));
    if (result == -1)
        return -1;
    s = db_prepare(db, "PRAGMA foreign_key_check", err);
    result = -1;
    while (s != NULL && (result = db_step(s, err)) == 1) {
        snprintf(text, sizeof(text), "table %s, row %lld: no such %s",
                 db_text(s, 0), (long long)db_int(s, 1), db_text(s, 2));
        fn(ctx, text);
    }
    return result;
}

int db_begin(struct db *db, struct err *err)
{
    return run_script(db, "BEGIN IMMEDIATE", err);
}

int db_commit(struct db *db, struct err *err)
{
    return run_script(db, "COMMIT", err);
}

void db_rollback(struct db *db)
{
    /* an error may have rolled back already */
    if (db_in_transaction(db))
        run_script(db, "ROLLBACK", NULL);
}

bool db_in_transaction(const struct db *db)
{
    return sqlite3_get_autocommit(db->sqlite) == 0;
}

static struct db_statement **bucket_of(struct db *db, const char *sql)
{
    uintptr_t place = (uintptr_t)sql;

    return &db->cache[(place >> 3 ^ place >> 9) & (CACHE_BUCKETS - 1)];
}

struct db_statement *db_prepare(struct db *db, const char *sql, struct err *err)
{
    struct db_statement **bucket = bucket_of(db, sql);
    struct db_statement *s;

    /* one whose rows are still being read stays as it is: a callback may ask
       the same question */
    for (s = *bucket; s != NULL; s = s->next) {
        if (s->sql == sql && !s->is_busy)
            break;
    }
    if (s == NULL) {
        sqlite3_stmt *stmt;

        if (sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT,
                               &stmt, NULL) != SQLITE_OK) {
            fail(db, "cannot prepare", err);
            return NULL;
        }
        s = mem_alloc(sizeof(*s));
        s->db = db;
        s->sql = sql;
        s->stmt = stmt;
        s->next = *bucket;
        *bucket = s;
    }
    sqlite3_reset(s->stmt);
    sqlite3_clear_bindings(s->stmt);
    s->bind_error = SQLITE_OK;
    return s;
}

static void note_bind(struct db_statement *s, int code)
{
    if (s->bind_error == SQLITE_OK)
        s->bind_error = code;
}

void db_bind_int(struct db_statement *s, int index, int64_t value)
{
    note_bind(s, sqlite3_bind_int64(s->stmt, index, value));
}

void db_bind_text(struct db_statement *s, int index, const char *value)
{
    note_bind(s,
              sqlite3_bind_text(s->stmt, index, value, -1, SQLITE_TRANSIENT));
}

void db_bind_blob(struct db_statement *s, int index, const void *bytes,
                  size_t length)
{
    /* a NULL pointer would bind NULL, not an empty blob */
    note_bind(s, sqlite3_bind_blob64(s->stmt, index, length > 0 ? bytes : "",
                                     length, SQLITE_TRANSIENT));
}

void db_bind_null(struct db_statement *s, int index)
{
    note_bind(s, sqlite3_bind_null(s->stmt, index));
}

int db_step(struct db_statement *s, struct err *err)
{
    int code;

    if (s->bind_error != SQLITE_OK)
        return err_set(err, ERR_SETUP, "%s: cannot bind: %s", s->db->path,
                       sqlite3_errstr(s->bind_error));
    code = sqlite3_step(s->stmt);
    s->is_busy = code == SQLITE_ROW;
    if (code == SQLITE_ROW)
        return 1;
    if (code == SQLITE_DONE) {
        db_finish(s);
        return 0;
    }
    fail(s->db, "statement", err);
    db_finish(s);
    return -1;
}

int db_run(struct db_statement *s, struct err *err)
{
    int result = db_step(s, err);

    if (result == 1)
        db_finish(s);
    return result == -1 ? -1 : 0;
}

void db_finish(struct db_statement *s)
{
    s->is_busy = false;
    sqlite3_reset(s->stmt);
    /* copies of secrets do not wait for the next use */
    sqlite3_clear_bindings(s->stmt);
}

int64_t db_int(struct db_statement *s, int column)
{
    return sqlite3_column_int64(s->stmt, column);
}

const char *db_text(struct db_statement *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s->stmt, column);

    return text == NULL ? "" : text;
}

const void *db_blob(struct db_statement *s, int column, size_t *length_out)
{
    const void *bytes = sqlite3_column_blob(s->stmt, column);

    *length_out = (size_t)sqlite3_column_bytes(s->stmt, column);
    return bytes == NULL ? "" : bytes;
}

bool db_is_null(struct db_statement *s, int column)
{
    return sqlite3_column_type(s->stmt, column) == SQLITE_NULL;
}

int64_t db_last_row_id(struct db *db)
{
    return sqlite3_last_insert_rowid(db->sqlite);
}

int db_changed_rows(struct db *db)
{
    return sqlite3_changes(db->sqlite);
}

bool db_is_conflict(const struct db *db)
{
    return db->is_conflict;
}
