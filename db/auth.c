#include "db/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define DIRECTORY_MODE 02770
#define FILE_MODE      0660

/* By chance: never the same number again, also not in a file made anew. */
#define RENEW_VERSION                                                          \
    "INSERT INTO versions VALUES (NEW.username, abs(random() / 2) + 1)"        \
    " ON CONFLICT (username) DO UPDATE SET version = excluded.version;"

#define RENEW_VERSION_OF(row)                                                  \
    "UPDATE versions SET version = abs(random() / 2) + 1"                      \
    " WHERE username = " row ".username;"

static const char *const scripts[] = {
    "CREATE TABLE IF NOT EXISTS users ("
    " username TEXT PRIMARY KEY, password TEXT, home TEXT, mail TEXT,"
    " uid INTEGER, gid INTEGER, prefix TEXT, separator TEXT,"
    " active INTEGER, epoch INTEGER)",

    "CREATE TABLE versions ("
    " username TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO versions SELECT username, abs(random() / 2) + 1 FROM users;"
    "CREATE TRIGGER user_came AFTER INSERT ON users"
    " BEGIN " RENEW_VERSION " END;"
    "CREATE TRIGGER user_changed AFTER UPDATE OF password, active ON users"
    " WHEN OLD.password IS NOT NEW.password OR OLD.active IS NOT NEW.active"
    " BEGIN " RENEW_VERSION " END;"
    "CREATE TRIGGER user_went AFTER DELETE ON users"
    " BEGIN DELETE FROM versions WHERE username = OLD.username; END;",

    "ALTER TABLE users ADD COLUMN can_login INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE users ADD COLUMN can_submit INTEGER NOT NULL DEFAULT 1;"
    "DROP TRIGGER user_changed;"
    "CREATE TRIGGER user_changed"
    " AFTER UPDATE OF password, active, can_login, can_submit ON users"
    " WHEN OLD.password IS NOT NEW.password OR OLD.active IS NOT NEW.active"
    " OR OLD.can_login IS NOT NEW.can_login"
    " OR OLD.can_submit IS NOT NEW.can_submit"
    " BEGIN " RENEW_VERSION " END;"
    "CREATE TABLE passwords ("
    " username TEXT NOT NULL REFERENCES users (username) ON DELETE CASCADE,"
    " slot INTEGER NOT NULL, password TEXT NOT NULL,"
    " PRIMARY KEY (username, slot)) WITHOUT ROWID;"
    "CREATE TRIGGER password_came AFTER INSERT ON passwords"
    " BEGIN " RENEW_VERSION_OF(
        "NEW") " END;"
               "CREATE TRIGGER password_changed AFTER UPDATE ON passwords"
               " BEGIN " RENEW_VERSION_OF("NEW") " END;"
                                                 "CREATE TRIGGER password_went "
                                                 "AFTER DELETE ON passwords"
                                                 " BEGIN " RENEW_VERSION_OF(
                                                     "OLD") " END;",

    "ALTER TABLE users ADD COLUMN set_at INTEGER NOT NULL DEFAULT 0;",

    /* which file this is, and how often we have written to it: an old copy of
       it has the same id, and fewer changes */
    "CREATE TABLE changes (id INTEGER NOT NULL, count INTEGER NOT NULL);"
    "INSERT INTO changes VALUES (abs(random() / 2) + 1, 0);"};

/* Give what is behind fd away, if it is not right yet. The mode comes last:
   chown takes the set-group-id bit away. */
static int give(int fd, const char *path, uid_t owner, gid_t group, mode_t mode,
                struct err *err)
{
    struct stat is;

    if (fstat(fd, &is) == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    if (owner == is.st_uid)
        owner = (uid_t)-1;
    if (group == is.st_gid)
        group = (gid_t)-1;
    /* the directory may be written by others: what they put here is not what
       we give away */
    if (!S_ISDIR(is.st_mode) && (!S_ISREG(is.st_mode) || is.st_nlink != 1))
        return err_set(err, ERR_SETUP, "%s: is no file of ours", path);
    if ((owner != (uid_t)-1 || group != (gid_t)-1) &&
        fchown(fd, owner, group) == -1) {
        if (errno != EPERM)
            return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
        log_warn("auth not-given file=%s uid=%d gid=%d: only root may; the "
                 "local server may not be able to read it",
                 path, (int)owner, (int)group);
    }
    if ((is.st_mode & 07777) != mode && fchmod(fd, mode) == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    return 0;
}

static int give_path(const char *path, int flags, uid_t owner, gid_t group,
                     mode_t mode, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    int result;

    if (fd == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    result = give(fd, path, owner, group, mode, err);
    close(fd);
    return result;
}

/* -wal and -shm get owner and mode of the file from SQLite when it makes them
   (the owner only from root); those of before a change are set here. */
static int give_files(const char *path, uid_t owner, gid_t group,
                      struct err *err)
{
    static const char *const endings[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        char name[PATH_MAX + 8];

        snprintf(name, sizeof(name), "%s%s", path, endings[i]);
        if (access(name, F_OK) == 0 &&
            give_path(name, O_RDWR, owner, group, FILE_MODE, err) == -1)
            return -1;
    }
    return 0;
}

static int make_directory(const char *path, uid_t owner, gid_t group,
                          struct err *err)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path || strlen(path) >= sizeof(directory))
        return err_set(err, ERR_SETUP, "%s: must be in a directory of its own",
                       path);
    memcpy(directory, path, (size_t)(slash - path));
    directory[slash - path] = '\0';
    if (mkdir(directory, 0770) == -1 && errno != EEXIST)
        return err_set(err, ERR_SETUP, "%s: %s", directory, strerror(errno));
    return give_path(directory, O_RDONLY | O_DIRECTORY, owner, group,
                     DIRECTORY_MODE, err);
}

int auth_prepare(const char *path, uid_t owner, gid_t group, struct err *err)
{
    if (make_directory(path, owner, group, err) == -1)
        return -1;
    /* not through an open database: closing another descriptor of it would
       drop its locks, and so this is done before it is opened */
    if (access(path, F_OK) == -1 &&
        give_path(path, O_CREAT | O_EXCL | O_RDWR, owner, group, FILE_MODE,
                  err) == -1)
        return -1;
    return give_files(path, owner, group, err);
}

int auth_open(const char *path, gid_t group, struct db **db_out,
              struct err *err)
{
    const struct db_options options = {.sync = DB_SYNC_FULL,
                                       .keep_wal = true,
                                       .scripts = scripts,
                                       .script_count = sizeof(scripts) /
                                                       sizeof(scripts[0])};

    *db_out = NULL;
    if (auth_prepare(path, (uid_t)-1, group, err) == -1)
        return -1;
    return db_open(path, &options, db_out, err);
}

static void bind_user(struct db_statement *s, const struct auth_user *user)
{
    const char *password = user->password;

    if (password != NULL && password[0] == '\0')
        password = NULL;
    db_bind_text(s, 1, user->username);
    db_bind_text(s, 2, password);
    db_bind_text(s, 3, user->home);
    db_bind_text(s, 4, user->mail);
    db_bind_int(s, 5, user->uid);
    db_bind_int(s, 6, user->gid);
    db_bind_text(s, 7, user->prefix);
    db_bind_text(s, 8, user->separator);
    db_bind_int(s, 9, user->is_active);
    db_bind_int(s, 10, user->epoch);
    db_bind_int(s, 11, !user->is_login_locked);
    db_bind_int(s, 12, !user->is_submission_locked);
    db_bind_int(s, 13, user->set_at);
}

static int put_user(struct db *db, const struct auth_user *user,
                    struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO users (username, password, home, mail, uid, "
                   "gid, prefix, separator, active, epoch, can_login, "
                   "can_submit, set_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                   "?8, ?9, ?10, ?11, ?12, ?13) "
                   "ON CONFLICT (username) DO UPDATE SET "
                   "password = excluded.password, home = excluded.home, "
                   "mail = excluded.mail, uid = excluded.uid, "
                   "gid = excluded.gid, prefix = excluded.prefix, "
                   "separator = excluded.separator, active = excluded.active, "
                   "epoch = excluded.epoch, can_login = excluded.can_login, "
                   "can_submit = excluded.can_submit, "
                   "set_at = excluded.set_at "
                   "WHERE epoch <= excluded.epoch",
                   err);

    if (s == NULL)
        return -1;
    bind_user(s, user);
    if (db_run(s, err) == -1)
        return -1;
    if (db_changed_rows(db) != 1)
        return err_set(err, ERR_SETUP,
                       "%s: local has been told a later epoch than %lld",
                       user->username, (long long)user->epoch);
    return 0;
}

/* What stays the same is not written: each change makes logins forget. */
static int put_slot(struct db *db, const struct auth_user *user, size_t slot,
                    struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "INSERT INTO passwords VALUES (?1, ?2, ?3) "
                   "ON CONFLICT (username, slot) DO UPDATE SET "
                   "password = excluded.password "
                   "WHERE password <> excluded.password",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, user->username);
    db_bind_int(s, 2, (int64_t)slot);
    db_bind_text(s, 3, user->further[slot - 1]);
    return db_run(s, err);
}

static int put_passwords(struct db *db, const struct auth_user *user,
                         struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "DELETE FROM passwords WHERE username = ?1 AND slot > ?2", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, user->username);
    db_bind_int(s, 2, (int64_t)user->further_count);
    if (db_run(s, err) == -1)
        return -1;
    for (size_t i = 0; i < user->further_count && i < AUTH_SLOTS; i++)
        if (put_slot(db, user, i + 1, err) == -1)
            return -1;
    return 0;
}

static int count_change(struct db *db, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "UPDATE changes SET count = count + 1", err);

    return s == NULL ? -1 : db_run(s, err);
}

int auth_changes(struct db *db, struct auth_changes *out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT id, count FROM changes", err);
    int rc;

    memset(out, 0, sizeof(*out));
    if (s == NULL)
        return -1;
    rc = db_step(s, err);
    if (rc == 1) {
        out->id = db_int(s, 0);
        out->count = db_int(s, 1);
    }
    db_finish(s);
    return rc == -1 ? -1 : 0;
}

int auth_put(struct db *db, const struct auth_user *user, struct err *err)
{
    bool is_alone = !db_in_transaction(db);
    int rc;

    if (is_alone && db_begin(db, err) == -1)
        return -1;
    rc = put_user(db, user, err);
    if (rc == 0)
        rc = put_passwords(db, user, err);
    if (rc == 0)
        rc = count_change(db, err);
    if (rc == 0 && is_alone)
        rc = db_commit(db, err);
    if (rc == -1 && is_alone)
        db_rollback(db);
    return rc;
}

int auth_remove(struct db *db, const char *username, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "DELETE FROM users WHERE username = ?1", err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, username);
    return db_run(s, err);
}

int auth_version(struct db *db, const char *username, int64_t *version_out,
                 struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT version FROM versions WHERE username = ?1", err);
    int rc;

    *version_out = 0;
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, username);
    rc = db_step(s, err);
    if (rc == 1)
        *version_out = db_int(s, 0);
    db_finish(s);
    return rc == -1 ? -1 : 0;
}

int auth_count_active(struct db *db, int64_t *count_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db, "SELECT count(*) FROM users WHERE active = 1", err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *count_out = db_int(s, 0);
    db_finish(s);
    return 0;
}

int auth_active_epoch(struct db *db, const char *username, int64_t *epoch_out,
                      struct err *err)
{
    struct db_statement *s = db_prepare(db,
                                        "SELECT coalesce(epoch, 0) FROM users "
                                        "WHERE username = ?1 AND active = 1",
                                        err);
    int rc;

    *epoch_out = 0;
    if (s == NULL)
        return -1;
    db_bind_text(s, 1, username);
    rc = db_step(s, err);
    if (rc == 1)
        *epoch_out = db_int(s, 0);
    db_finish(s);
    return rc == -1 ? -1 : 0;
}
