/*
 * mailhaul db check and db backup: a second opener that only reads, so that the
 * state process goes on meanwhile.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "account/wire.h"
#include "account/witness.h"
#include "base/clock.h"
#include "cli/db_parts.h"
#include "db/accounts.h"
#include "db/control.h"
#include "db/counters.h"
#include "db/rebuild.h"

#define AGAIN_S 2 /* what was on its way is settled then */

/* --- shared */

void db_lines_init(struct db_lines *lines)
{
    lines->list = json_array();
    lines->count = 0;
}

void db_lines_add(void *ctx, const char *address, const char *what)
{
    struct db_lines *lines = ctx;

    if (lines->count++ < LINES_MAX)
        json_array_append_new(lines->list, json_pack("{s:s,s:s}", "address",
                                                     address, "what", what));
}

int db_attach_auth(struct db *db, const struct conf *conf, struct err *err)
{
    char *path;
    int rc = 0;

    if (!conf->provision.dovecot)
        return 0;
    path = conf_state_path(conf, conf->provision.dovecot);
    if (access(path, F_OK) == 0)
        rc = db_attach(db, path, "auth", err) == -1 ? -1 : 1;
    free(path);
    return rc;
}

static void take_first(void *ctx, const char *fault)
{
    char *first = ctx;

    if (!*first)
        snprintf(first, 200, "%s", fault);
}

int db_prove(struct db *db, const char *path, struct err *err)
{
    char first[200] = "";

    if (db_examine(db, take_first, first, err) == -1)
        return -1;
    return *first ? err_set(err, ERR_SETUP, "%s is damaged: %s", path, first)
                  : 0;
}

int db_open_journal(const struct conf *conf, struct err *err)
{
    char path[PATH_MAX];
    int fd;

    err_clear(err);
    if (!conf->store.path)
        return -1;
    if (witness_path(conf, path, sizeof(path), err) == -1)
        return -1;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1 && errno != ENOENT)
        err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    return fd;
}

int db_sync_file(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd == -1 ? -1 : fsync(fd);

    if (rc == -1)
        err_set(err, err_kind_of_errno(errno), "%s: %s", path, strerror(errno));
    if (fd != -1)
        close(fd);
    return rc;
}

int db_put_in_place(const char *from, const char *to, struct err *err)
{
    char folder[PATH_MAX];
    char *slash;

    if (rename(from, to) == -1)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", to,
                       strerror(errno));
    snprintf(folder, sizeof(folder), "%s", to);
    slash = strrchr(folder, '/');
    if (!slash)
        return db_sync_file(".", err);
    slash[slash == folder] = '\0';
    return db_sync_file(folder, err);
}

/* --- check */

struct check {
    const struct conf *conf;
    struct db *db;
    struct db_lines faults, differences;
    struct generations seen;
    int64_t generation, accounts;
    json_t *result;
};

static void add_fault(void *ctx, const char *fault)
{
    db_lines_add(ctx, "", fault);
}

static int look_at_record(void *ctx, const struct witness *w, struct err *err)
{
    struct check *c = ctx;
    struct account row;
    char what[160];
    int found = account_find(c->db, w->address, &row, err);

    generations_add(&c->seen, w->generation);
    if (found == -1)
        return -1;
    /* a removed account leaves its way back */
    if (found == 1 ? row.generation >= w->generation
                   : w->route == ROUTE_LEGACY && w->generation <= c->generation)
        return 0;
    snprintf(what, sizeof(what),
             "witness: %s in generation %lld, epoch %lld; the row: %s in "
             "generation %lld",
             account_route_name(w->route), (long long)w->generation,
             (long long)w->epoch,
             found ? account_route_name(row.route) : "none",
             (long long)(found ? row.generation : 0));
    db_lines_add(&c->differences, w->address, what);
    return 0;
}

static int look_at_account(void *ctx, const struct account *a)
{
    struct check *c = ctx;

    if (!generations_has(&c->seen, a->generation))
        db_lines_add(&c->differences, a->address,
                     "the witness journal does not tell of its move");
    return 0;
}

static int check_journal(struct check *c, struct err *err)
{
    struct witness_reader reader = {.account = look_at_record, .ctx = c};
    int fd = db_open_journal(c->conf, err), rc;

    if (fd == -1)
        return err->kind == ERR_NONE ? 0 : -1;
    rc = witness_read(fd, &reader, err);
    close(fd);
    json_object_set_new(c->result, "witnesses",
                        json_pack("{s:I,s:I,s:I}", "records",
                                  (json_int_t)reader.records, "torn",
                                  (json_int_t)reader.torn, "generation",
                                  (json_int_t)reader.top));
    return rc == -1 ? -1
                    : account_each_since(c->db, 0, look_at_account, c, err);
}

static int check_all(struct check *c, struct err *err)
{
    struct account_totals totals;
    int has_auth;

    if (db_examine(c->db, add_fault, &c->faults, err) == -1 ||
        counter_get(c->db, COUNTER_GENERATION, &c->generation, err) == -1 ||
        account_totals(c->db, 0, &totals, err) == -1 ||
        rebuild_look_at_rows(c->db, db_lines_add, &c->differences, err) == -1)
        return -1;
    c->accounts = totals.accounts;
    has_auth = db_attach_auth(c->db, c->conf, err);
    if (has_auth == -1 ||
        (has_auth == 1 &&
         rebuild_look_at_auth(c->db, db_lines_add, &c->differences, err) == -1))
        return -1;
    return check_journal(c, err);
}

/* A fresh opening: what was on its way at the first is told no more. */
static int check_once(struct check *c, const char *path, struct err *err)
{
    int rc;

    json_object_clear(c->result);
    json_decref(c->faults.list);
    json_decref(c->differences.list);
    generations_release(&c->seen);
    db_lines_init(&c->faults);
    db_lines_init(&c->differences);
    if (control_open_reader(path, &c->db, err) == -1)
        return -1;
    rc = check_all(c, err);
    db_close(&c->db);
    return rc;
}

static int repair(struct check *c, const json_t *request, struct err *err)
{
    struct evidence e = {.conf = c->conf,
                         .must_walk = wire_bool(request, "walk"),
                         .event = "db check --repair",
                         .reason = wire_text(request, "reason"),
                         .now_ms = clock_unix_ms(),
                         .result = json_object()};
    struct db *db;
    int rc =
        control_open(c->conf->database, c->conf->state_dir, false, &db, err);

    if (rc == 0) {
        rc = evidence_take(db, &e, err);
        db_close(&db);
    }
    json_object_set_new(c->result, "repaired", e.result);
    return rc;
}

static void print_check(const json_t *result)
{
    static const char *const lists[] = {"faults", "differences"};
    const json_t *line;
    size_t i;

    for (size_t n = 0; n < 2; n++)
        json_array_foreach(json_object_get(result, lists[n]), i, line) printf(
            "%s%s%s\n", cli_text(line, "address"),
            *cli_text(line, "address") ? ": " : "", cli_text(line, "what"));
    printf(
        "%lld accounts, generation %lld: %lld faults, %lld differences\n",
        (long long)json_integer_value(json_object_get(result, "accounts")),
        (long long)json_integer_value(json_object_get(result, "generation")),
        (long long)json_integer_value(json_object_get(result, "fault_count")),
        (long long)json_integer_value(
            json_object_get(result, "difference_count")));
}

static void finish_check(struct check *c)
{
    json_object_update_new(
        c->result,
        json_pack("{s:O,s:O,s:I,s:I,s:I,s:I}", "faults", c->faults.list,
                  "differences", c->differences.list, "fault_count",
                  (json_int_t)c->faults.count, "difference_count",
                  (json_int_t)c->differences.count, "accounts",
                  (json_int_t)c->accounts, "generation",
                  (json_int_t)c->generation));
}

int cli_db_check(struct cli *cli, json_t *request)
{
    struct check c = {.conf = cli->conf, .result = json_object()};
    json_t *repaired = NULL;
    char path[PATH_MAX];
    struct err err;
    int rc = control_path(cli->conf->database, cli->conf->state_dir, path,
                          sizeof(path), &err);

    if (rc == 0 && wire_bool(request, "repair")) {
        rc = repair(&c, request, &err);
        repaired = json_incref(json_object_get(c.result, "repaired"));
    }
    if (rc == 0)
        rc = check_once(&c, path, &err);
    if (rc == 0 && c.differences.count > 0) {
        sleep(AGAIN_S);
        rc = check_once(&c, path, &err);
    }
    if (repaired)
        json_object_set_new(c.result, "repaired", repaired);
    if (rc == -1) {
        rc = cli_complain(cli, &err);
    } else {
        finish_check(&c);
        if (cli->is_json)
            cli_print_json(c.result);
        else
            print_check(c.result);
        rc = c.faults.count + c.differences.count > 0 ? CLI_BAD : CLI_GOOD;
    }
    json_decref(c.result);
    json_decref(c.faults.list);
    json_decref(c.differences.list);
    generations_release(&c.seen);
    return rc;
}

/* --- backup */

static void name_backup(char *out, size_t size, const char *target)
{
    time_t now = time(NULL);
    struct tm tm;
    struct stat st;
    char stamp[48];

    strftime(stamp, sizeof(stamp), "control-%Y%m%d-%H%M%S.db",
             gmtime_r(&now, &tm));
    if (stat(target, &st) == 0 && S_ISDIR(st.st_mode))
        snprintf(out, size, "%s/%s", target, stamp);
    else
        snprintf(out, size, "%s", target);
}

static int make_part(const char *part, struct err *err)
{
    int fd;

    unlink(part);
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd == -1)
        return err_set(err, err_kind_of_errno(errno), "%s: %s", part,
                       strerror(errno));
    fchmod(fd, 0600);
    close(fd);
    return 0;
}

/* Read what was written as whoever puts it back would. */
static int verify_part(const char *part, json_t *result, struct err *err)
{
    struct account_totals totals;
    struct stat st;
    struct db *db;
    int64_t generation;
    int rc;

    if (db_sync_file(part, err) == -1 ||
        control_open_reader(part, &db, err) == -1)
        return -1;
    rc = db_prove(db, part, err);
    if (rc == 0)
        rc = account_totals(db, 0, &totals, err);
    if (rc == 0)
        rc = counter_get(db, COUNTER_GENERATION, &generation, err);
    db_close(&db);
    if (rc == -1 || stat(part, &st) == -1)
        return -1;
    json_object_update_new(result,
                           json_pack("{s:I,s:I,s:I}", "accounts",
                                     (json_int_t)totals.accounts, "generation",
                                     (json_int_t)generation, "bytes",
                                     (json_int_t)st.st_size));
    return 0;
}

static int back_up(const struct conf *conf, const char *file, json_t *result,
                   struct err *err)
{
    char path[PATH_MAX], part[PATH_MAX + 8];
    struct db *db;
    int rc;

    snprintf(part, sizeof(part), "%s.part", file);
    if (access(file, F_OK) == 0)
        return err_set(err, ERR_SETUP, "%s: is there already", file);
    if (control_path(conf->database, conf->state_dir, path, sizeof(path),
                     err) == -1 ||
        control_open_reader(path, &db, err) == -1)
        return -1;
    rc = make_part(part, err);
    if (rc == 0)
        rc = db_copy(db, part, err);
    db_close(&db);
    if (rc == 0)
        rc = verify_part(part, result, err);
    if (rc == 0)
        rc = db_put_in_place(part, file, err);
    if (rc == -1)
        unlink(part);
    return rc;
}

static void print_backup(const json_t *result)
{
    printf(
        "%s: %lld accounts, %s, generation %lld\n", cli_text(result, "file"),
        (long long)json_integer_value(json_object_get(result, "accounts")),
        cli_bytes(json_integer_value(json_object_get(result, "bytes"))),
        (long long)json_integer_value(json_object_get(result, "generation")));
    printf("the key that opens its passwords is not in it: keep %s apart\n",
           cli_text(result, "key"));
}

/* When it was, for the metrics: the time of a file beside the database, which
   this second opener only reads. */
static void note_backup(const struct conf *conf)
{
    char *path = conf_state_path(conf, "last-backup");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd == -1 || futimens(fd, NULL) == -1)
        fprintf(stderr, "mailhaul: %s: %s\n", path, strerror(errno));
    if (fd != -1)
        close(fd);
    free(path);
}

int cli_db_backup(struct cli *cli, json_t *request)
{
    char *key = conf_key_path(cli->conf);
    char file[PATH_MAX];
    json_t *result;
    struct err err;
    int rc;

    umask(077);
    name_backup(file, sizeof(file), cli_text(request, "file"));
    result = json_pack("{s:s,s:s}", "file", file, "key", key);
    free(key);
    rc = back_up(cli->conf, file, result, &err);
    if (rc != -1)
        note_backup(cli->conf);
    if (rc == -1)
        rc = cli_complain(cli, &err);
    else if (cli->is_json)
        cli_print_json(result);
    else
        print_backup(result);
    json_decref(result);
    return rc;
}
