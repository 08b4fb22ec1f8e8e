/*
 * The door to sqlite3: opening, upgrading, transactions, prepared statements.
 * The control db, the ledgers and auth.db all go through it. No other file
 * includes sqlite3.h; SQL text stands only in db/ (tables of the control db in
 * db/schema.sql, one file a table; db/ledger.c; db/auth.c).
 */
#ifndef DB_DB_H
#define DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct db;
struct db_statement;

enum db_sync {
    DB_SYNC_FULL,   /* commits survive power loss */
    DB_SYNC_NORMAL, /* WAL: the last commits may be lost, nothing is torn */
    DB_SYNC_OFF     /* survives kill -9 only */
};

struct db_options {
    enum db_sync sync;
    bool create;    /* if it is missing, mode 0640 */
    bool read_only; /* opened without changing it */
    bool keep_wal;  /* SQLITE_FCNTL_PERSIST_WAL */
    bool is_alone;  /* hold an exclusive lock on "PATH.lock" as long as it is
                       open; ERR_RETRY if somebody else has it */
    /* schema and its upgrades: scripts[i] takes version i to i + 1, each in a
       transaction of its own, recorded in PRAGMA user_version; a database newer
       than script_count is refused (ERR_SETUP). */
    const char *const *scripts;
    int script_count;
};

/* WAL, busy timeout 10 s, foreign keys on, secure_delete on.
   Errors of all functions: ERR_RETRY for a lock held too long, else ERR_SETUP
   (a broken rule of the schema is one too: see db_is_conflict). */
int db_open(const char *path, const struct db_options *options,
            struct db **db_out, struct err *err);
void db_close(struct db **db);
/* Wait so long for a lock from now on, instead of 10 s. */
void db_set_busy_ms(struct db *db, int busy_ms);
/* The lock of is_alone by itself, for as long as *fd_out is open. */
int db_lock(const char *path, int *fd_out, struct err *err);
/* Make the tables of another file readable as NAME.table; not inside a
   transaction. */
int db_attach(struct db *db, const char *path, const char *name,
              struct err *err);
/* A consistent copy in one file without a WAL: path must not exist, or be
   empty. Others may go on writing meanwhile. Not yet brought to disk. */
int db_copy(struct db *db, const char *path, struct err *err);
/* Look at every page and index, and at the foreign keys: fn is called with a
   sentence for each fault, 100 at most. */
int db_examine(struct db *db, void (*fn)(void *ctx, const char *fault),
               void *ctx, struct err *err);

int db_begin(struct db *db, struct err *err); /* BEGIN IMMEDIATE */
int db_commit(struct db *db, struct err *err);
void db_rollback(struct db *db);
bool db_in_transaction(const struct db *db);

/* One statement from the cache of this db, reset and ready to bind; `sql` is a
   string literal (compared by address). NULL on error. */
struct db_statement *db_prepare(struct db *db, const char *sql,
                                struct err *err);
/* Parameters count from 1; texts and blobs are copied; NULL text is NULL. */
void db_bind_int(struct db_statement *s, int index, int64_t value);
void db_bind_text(struct db_statement *s, int index, const char *value);
void db_bind_blob(struct db_statement *s, int index, const void *bytes,
                  size_t length);
void db_bind_null(struct db_statement *s, int index);
/* 1: a row is there; 0: done (the statement is reset); -1: error. */
int db_step(struct db_statement *s, struct err *err);
/* Step a statement that gives no rows, and reset it. */
int db_run(struct db_statement *s, struct err *err);
/* End early a statement whose rows are not all wanted. */
void db_finish(struct db_statement *s);
/* Columns count from 0; text "" for NULL, valid until the next step. */
int64_t db_int(struct db_statement *s, int column);
const char *db_text(struct db_statement *s, int column);
const void *db_blob(struct db_statement *s, int column, size_t *length_out);
bool db_is_null(struct db_statement *s, int column);
int64_t db_last_row_id(struct db *db);
int db_changed_rows(struct db *db);
/* The last error of this db was a UNIQUE or PRIMARY KEY rule. */
bool db_is_conflict(const struct db *db);
/* Commits from now on are of this kind; what was committed before is not made
   better by it. Not in a transaction. */
int db_set_sync(struct db *db, enum db_sync sync, struct err *err);
/* For a file that is made anew and brought to disk as a whole: nothing is
   synced, and much is kept in memory. */
int db_set_scratch(struct db *db, struct err *err);
/* Bring what the log holds into the file, and empty the log: what was wiped is
   in neither then. 1 done; 0: somebody is reading, try again; -1 error. Not in
   a transaction. */
int db_checkpoint(struct db *db, struct err *err);
/* While its disk is full: what would write fails with ERR_RETRY, reading goes
   on. Not in a transaction. */
int db_set_read_only(struct db *db, bool is_read_only, struct err *err);

#endif
