/*
 * What `db check`, `db backup` and `db rebuild` share.
 */
#ifndef CLI_DB_PARTS_H
#define CLI_DB_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "db/db.h"

#define LINES_MAX 100 /* told one by one; the others are counted */

/* A list of {"address", "what"}, and how many there are in all. */
struct db_lines {
    json_t *list; /* owned */
    int64_t count;
};
void db_lines_init(struct db_lines *lines);
void db_lines_add(void *ctx, const char *address, const char *what);

/* Attach auth.db as "auth"; 0: there is none, 1: done. */
int db_attach_auth(struct db *db, const struct conf *conf, struct err *err);
/* Every page, index and reference; ERR_SETUP with the first fault. */
int db_prove(struct db *db, const char *path, struct err *err);
/* The witness journal for reading; -1 with ERR_NONE: there is none. */
int db_open_journal(const struct conf *conf, struct err *err);
/* Rename within one directory, and bring the directory to disk. */
int db_put_in_place(const char *from, const char *to, struct err *err);
int db_sync_file(const char *path, struct err *err);

/* Which generations the journal has. */
struct generations {
    uint8_t *bits; /* owned */
    size_t size;
    int64_t latest, count;
};
void generations_add(struct generations *g, int64_t generation);
bool generations_has(const struct generations *g, int64_t generation);
void generations_release(struct generations *g);

/* Take the journal's records that are newer than db (its generation), auth.db
   and, where the journal has gaps, the mailboxes into the rows of db; in one
   transaction. doubtful: what a mailbox is taken for that was handed over, and
   whose flip nothing proves: "legacy", "local", or NULL, refused. result is
   filled. */
struct evidence {
    const struct conf *conf;
    bool must_walk;
    const char *doubtful;
    const char *event;  /* of the command, for the audit */
    const char *reason; /* or NULL */
    int64_t now_ms;
    json_t *result; /* borrowed */
};
int evidence_take(struct db *db, const struct evidence *e, struct err *err);

#endif
