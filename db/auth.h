/*
 * auth.db: what Dovecot reads (dovecot-sqlite passdb and userdb). Two tables:
 *
 *   users(username TEXT PRIMARY KEY, password TEXT, home TEXT, mail TEXT,
 *         uid INTEGER, gid INTEGER, prefix TEXT, separator TEXT,
 *         active INTEGER, epoch INTEGER, can_login INTEGER,
 *         can_submit INTEGER, set_at INTEGER)
 *   passwords(username TEXT, slot INTEGER, password TEXT)
 *
 * prefix and separator are NULL where Dovecot's own shall hold; active is 1
 * from the flip on (login and LMTP ask for active=1, doveadm does not).
 * can_login and can_submit are 0 for who is locked; LMTP does not ask for them.
 * set_at is for us: when an operator has set a password here, Unix ms, or 0. So
 * `db rebuild` knows which passwords count that the control db has forgotten.
 * passwords has those beside users.password, slots 1 to AUTH_SLOTS.
 *
 * Beside it, for us: versions(username, version), a random number that triggers
 * change with everything that decides whether a login is good. It stands in the
 * same database, so whoever reads a version has the passwords that belong to
 * it.
 */
#ifndef DB_AUTH_H
#define DB_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "db/db.h"

#define AUTH_SLOTS 4

struct auth_user {
    const char *username; /* canonical address */
    const char *password; /* "{SCHEME}hash"; "" or NULL: none */
    const char *further[AUTH_SLOTS];
    size_t further_count;
    const char *home;
    const char *mail; /* "maildir:/path" */
    int64_t uid, gid;
    const char *prefix;    /* NULL: Dovecot's own */
    const char *separator; /* NULL: Dovecot's own */
    bool is_active;
    bool is_login_locked, is_submission_locked;
    int64_t set_at; /* Unix ms, 0: never */
    int64_t epoch;
};

/* Make the directory (mode 2770), the file and what SQLite keeps beside it
   (mode 0660, WAL kept), so that `group` may write them, whatever the umask: a
   reader of a WAL database writes its -shm. owner (uid_t)-1, group (gid_t)-1:
   stay what they are. Without the right to give them away they stay too, and
   the log says so. */
int auth_prepare(const char *path, uid_t owner, gid_t group, struct err *err);
/* auth_prepare for our own uid, and open. */
int auth_open(const char *path, gid_t group, struct db **db_out,
              struct err *err);
/* Insert or replace with all passwords, in a transaction of its own unless one
   is open; an epoch older than the stored one is refused (ERR_SETUP). An empty
   password is stored as NULL, with which nobody logs in: the first login of
   such a user is asked of legacy.
 */
int auth_put(struct db *db, const struct auth_user *user, struct err *err);
/* Which file it is (a number of chance), and how often auth_put() has changed
   it. */
struct auth_changes {
    int64_t id, count;
};
int auth_changes(struct db *db, struct auth_changes *out, struct err *err);
int auth_remove(struct db *db, const char *username, struct err *err);
/* The epoch of an active user; 0: there is none. */
int auth_active_epoch(struct db *db, const char *username, int64_t *epoch_out,
                      struct err *err);
/* The version of the user's passwords; 0: there is no such user. */
int auth_version(struct db *db, const char *username, int64_t *version_out,
                 struct err *err);
int auth_count_active(struct db *db, int64_t *count_out, struct err *err);

#endif
