/*
 * mailhaul db rebuild: a new control db from a backup and from what the store
 * and local say. Written beside, proven, then put in the place of the old one,
 * which stays under another name.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/channel.h"
#include "base/clock.h"
#include "cli/db_parts.h"
#include "db/control.h"

struct rebuild {
    const struct conf *conf;
    char path[PATH_MAX - 64], beside[PATH_MAX], aside[PATH_MAX];
    json_t *result; /* owned */
    int lock;       /* of path */
};

static void name_of(char *out, const char *path, const char *ending)
{
    snprintf(out, PATH_MAX, "%s%s", path, ending);
}

/* What an earlier try left. */
static void clear(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm", ".lock"};
    char name[PATH_MAX];

    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        if (snprintf(name, sizeof(name), "%s%s", path, endings[i]) <
            (int)sizeof(name))
            unlink(name);
    }
}

static int copy_backup(struct rebuild *r, const char *from, struct err *err)
{
    struct db *db;
    int fd, rc;

    if (control_open_reader(from, &db, err) == -1)
        return -1;
    fd = open(r->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd == -1) {
        rc = err_set(err, err_kind_of_errno(errno), "%s: %s", r->beside,
                     strerror(errno));
    } else {
        close(fd);
        rc = db_prove(db, from, err);
        if (rc == 0)
            rc = db_copy(db, r->beside, err);
    }
    db_close(&db);
    return rc;
}

static int fill(struct rebuild *r, const json_t *request, struct err *err)
{
    const char *from = wire_text(request, "from");
    struct evidence e = {.conf = r->conf,
                         .must_walk = wire_bool(request, "walk"),
                         .doubtful = wire_text(request, "doubtful"),
                         .event = "db rebuild",
                         .reason = wire_text(request, "reason"),
                         .now_ms = clock_unix_ms(),
                         .result = r->result};
    char database[PATH_MAX + 8];
    struct db *db;
    int rc;

    snprintf(database, sizeof(database), "sqlite:%s", r->beside);
    if (from && copy_backup(r, from, err) == -1)
        return -1;
    if (control_open(database, "/", true, &db, err) == -1)
        return -1;
    rc = db_set_scratch(db, err);
    if (rc == 0)
        rc = evidence_take(db, &e, err);
    if (rc == 0)
        rc = db_prove(db, r->beside, err);
    db_close(&db); /* with its WAL brought into the file */
    return rc;
}

/* The new file, and the lock if it is new, belong to who will open them. */
static int give(const struct rebuild *r, struct err *err)
{
    const struct passwd *user =
        r->conf->user && geteuid() == 0 ? getpwnam(r->conf->user) : NULL;

    if (user && fchown(r->lock, user->pw_uid, user->pw_gid) == -1)
        return err_set(err, ERR_SETUP, "%s.lock: %s", r->path, strerror(errno));
    if (chmod(r->beside, 0640) == -1 ||
        (user && chown(r->beside, user->pw_uid, user->pw_gid) == -1))
        return err_set(err, ERR_SETUP, "%s: %s", r->beside, strerror(errno));
    return db_sync_file(r->beside, err);
}

/* A WAL belongs to its file: it goes with the old one, and before the new one
   comes. A crash in between leaves no control db, and no start. */
static int swap(struct rebuild *r, struct err *err)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    char from[PATH_MAX], to[PATH_MAX];
    time_t now = time(NULL);
    struct tm tm;
    char stamp[32];

    strftime(stamp, sizeof(stamp), ".old-%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    name_of(r->aside, r->path, stamp);
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        name_of(from, r->path, endings[i]);
        if (snprintf(to, sizeof(to), "%s%s", r->aside, endings[i]) >=
            (int)sizeof(to))
            return err_set(err, ERR_SETUP, "%s: name is too long", r->path);
        if (rename(from, to) == -1 && errno != ENOENT)
            return err_set(err, ERR_SETUP, "%s: %s", from, strerror(errno));
    }
    return db_put_in_place(r->beside, r->path, err);
}

static int rebuild(struct rebuild *r, const json_t *request, struct err *err)
{
    bool had_one;
    int rc;

    clear(r->beside);
    rc = fill(r, request, err);
    if (rc == 0)
        rc = give(r, err);
    had_one = access(r->path, F_OK) == 0;
    if (rc == 0)
        rc = swap(r, err);
    if (rc == -1) {
        clear(r->beside);
        return -1;
    }
    json_object_set_new(r->result, "database", json_string(r->path));
    json_object_set_new(r->result, "kept",
                        had_one ? json_string(r->aside) : json_null());
    name_of(r->beside, r->path, ".rebuild.lock");
    unlink(r->beside);
    return 0;
}

static json_int_t number(const json_t *result, const char *name)
{
    return json_integer_value(json_object_get(result, name));
}

static void print_lines(const json_t *result, const char *name)
{
    const json_t *list = json_object_get(result, name), *line;
    size_t i;

    json_array_foreach(list, i, line)
        printf("  %s: %s\n", cli_text(line, "address"), cli_text(line, "what"));
}

static void print_rebuilt(const json_t *result)
{
    printf("%lld witnesses: %lld accounts changed, %lld added (%lld local, "
           "%lld legacy)\n",
           (long long)number(result, "records"),
           (long long)number(result, "changed"),
           (long long)number(result, "added"),
           (long long)number(result, "local"),
           (long long)number(result, "legacy"));
    print_lines(result, "contradictions");
    print_lines(result, "doubts");
    if (number(result, "without_password") > 0)
        printf("%lld of them have no password on local: set one, or nobody "
               "can log in\n",
               (long long)number(result, "without_password"));
    if (number(result, "without_seal") > 0)
        printf("%lld of them have no password for legacy: their trails rest\n",
               (long long)number(result, "without_seal"));
    if (*cli_text(result, "kept"))
        printf("the old one is %s\n", cli_text(result, "kept"));
}

int cli_db_rebuild(struct cli *cli, json_t *request)
{
    struct rebuild r = {.conf = cli->conf, .result = json_object(), .lock = -1};
    const char *doubtful = wire_text(request, "doubtful");
    struct err err;
    int rc;

    if (doubtful && strcmp(doubtful, "legacy") != 0 &&
        strcmp(doubtful, "local") != 0) {
        fprintf(stderr, "mailhaul: --doubtful is legacy or local\n");
        json_decref(r.result);
        return CLI_USAGE;
    }
    umask(027);
    rc = control_path(cli->conf->database, cli->conf->state_dir, r.path,
                      sizeof(r.path), &err);
    if (rc == 0)
        rc = db_lock(r.path, &r.lock, &err);
    if (rc == 0) {
        name_of(r.beside, r.path, ".rebuild");
        rc = rebuild(&r, request, &err);
    }
    if (r.lock != -1)
        close(r.lock);
    if (rc == -1)
        rc = cli_complain(cli, &err);
    else if (cli->is_json)
        cli_print_json(r.result);
    else
        print_rebuilt(r.result);
    json_decref(r.result);
    return rc;
}
