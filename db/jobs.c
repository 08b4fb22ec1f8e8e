#include "db/jobs.h"

#include <stdio.h>
#include <string.h>

#include "db/row.h"

#define COLUMNS                                                                \
    "id, account_id, kind, host, epoch, due_at, priority, attempts, "          \
    "lease_owner, lease_until"

static const char *const kind_name[] = {"hash",  "initial", "delta",   "final",
                                        "trail", "verify",  "rollback"};
_Static_assert(sizeof(kind_name) / sizeof(kind_name[0]) == JOB_KIND_COUNT,
               "a name for each kind");

const char *job_kind_name(enum job_kind kind)
{
    return (unsigned)kind < JOB_KIND_COUNT ? kind_name[kind] : "unknown";
}

int job_kind_named(const char *name)
{
    if (name == NULL)
        return -1;
    for (int i = 0; i < JOB_KIND_COUNT; i++) {
        if (strcmp(kind_name[i], name) == 0)
            return i;
    }
    return -1;
}

static int read_row(struct db_statement *s, void *row, struct err *err)
{
    struct job *out = row;
    int kind = job_kind_named(db_text(s, 2));

    memset(out, 0, sizeof(*out));
    out->id = db_int(s, 0);
    if (kind == -1)
        return err_set(err, ERR_SETUP, "job %lld: unknown kind",
                       (long long)out->id);
    out->kind = (enum job_kind)kind;
    out->account_id = db_int(s, 1);
    out->epoch = db_int(s, 4);
    out->due_at = db_int(s, 5);
    out->priority = (int)db_int(s, 6);
    out->attempts = (unsigned)db_int(s, 7);
    out->lease_until = db_int(s, 9);
    if (row_text(s, 3, out->host, sizeof(out->host), err) == -1 ||
        row_text(s, 8, out->lease_owner, sizeof(out->lease_owner), err) == -1)
        return -1;
    return 0;
}

int job_queue(struct db *db, struct job *j, struct err *err)
{
    struct db_statement *s = db_prepare(
        db,
        "INSERT INTO jobs (account_id, kind, host, epoch, due_at, priority, "
        "attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
        "ON CONFLICT (account_id, kind) DO UPDATE SET "
        "host = excluded.host, "
        "priority = max(priority, excluded.priority), "
        "epoch = CASE lease_owner WHEN '' THEN excluded.epoch ELSE epoch END, "
        "due_at = CASE lease_owner WHEN '' THEN min(due_at, excluded.due_at) "
        "         ELSE due_at END, "
        "again_at = CASE lease_owner WHEN '' THEN NULL "
        "           ELSE min(coalesce(again_at, excluded.due_at), "
        "                    excluded.due_at) END, "
        "again_epoch = CASE lease_owner WHEN '' THEN NULL "
        "              ELSE excluded.epoch END "
        "RETURNING id",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, j->account_id);
    db_bind_text(s, 2, job_kind_name(j->kind));
    db_bind_text(s, 3, j->host);
    db_bind_int(s, 4, j->epoch);
    db_bind_int(s, 5, j->due_at);
    db_bind_int(s, 6, j->priority);
    db_bind_int(s, 7, j->attempts);
    if (db_step(s, err) != 1)
        return -1;
    j->id = db_int(s, 0);
    /* to its end: the row is written for good only then */
    return db_run(s, err);
}

/* What may be leased now: waiting, due, its account not busy. Each of these
   finds its row at the end of an index range, since jobs may wait by the
   hundred thousand: those not due yet, and those of a host that is full, are
   never looked at. */
#define IS_URGENT "lease_owner = '' AND kind IN ('hash', 'final', 'rollback')"
#define IS_WAITING                                                             \
    "lease_owner = '' AND is_asleep = 0 "                                      \
    "AND kind NOT IN ('hash', 'final', 'rollback')"
#define IS_FREE                                                                \
    "NOT EXISTS (SELECT 1 FROM jobs busy WHERE busy.lease_owner <> '' "        \
    "AND busy.kind <> 'hash' AND busy.account_id = j.account_id)"

struct choice {
    struct db *db;
    int64_t now;
    unsigned per_host;
    struct job *best; /* of what was looked at so far */
    bool has_best;
};

static bool is_better(const struct job *a, const struct job *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->due_at != b->due_at ? a->due_at < b->due_at : a->id < b->id;
}

/* Take the row of a statement as the best, if it is. 1: there was one. */
static int consider(struct choice *c, struct db_statement *s, struct err *err)
{
    struct job j;
    int result = row_one(s, read_row, &j, err);

    if (result == 1 && (!c->has_best || is_better(&j, c->best))) {
        *c->best = j;
        c->has_best = true;
    }
    return result;
}

/* The first host after one that has waiting jobs. 1 found, 0 none. */
static int next_host(struct db *db, const char *after, char *out, size_t size,
                     struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT host FROM jobs INDEXED BY jobs_waiting "
                   "WHERE " IS_WAITING " AND host > ?1 "
                   "ORDER BY host LIMIT 1",
                   err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, after);
    result = db_step(s, err);
    if (result == 1 && row_text(s, 0, out, size, err) == -1)
        result = -1;
    db_finish(s);
    return result;
}

static int is_full(const struct choice *c, const char *host, struct err *err)
{
    struct db_statement *s =
        db_prepare(c->db,
                   "SELECT count(*) >= ?2 FROM jobs "
                   "WHERE lease_owner <> '' AND kind <> 'hash' AND host = ?1",
                   err);
    int result;

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, host);
    db_bind_int(s, 2, c->per_host);
    result = db_step(s, err);
    if (result == 1)
        result = db_int(s, 0) != 0;
    db_finish(s);
    return result;
}

/* The highest priority below `*priority` that a waiting job has; host NULL:
   among the urgent ones. 1 found, 0 none. */
static int next_priority(struct db *db, const char *host, int64_t *priority,
                         struct err *err)
{
    struct db_statement *s;
    int result;

    if (host == NULL) {
        s = db_prepare(db,
                       "SELECT priority FROM jobs INDEXED BY jobs_urgent "
                       "WHERE " IS_URGENT " AND priority < ?1 "
                       "ORDER BY priority DESC LIMIT 1",
                       err);
    } else {
        s = db_prepare(db,
                       "SELECT priority FROM jobs INDEXED BY jobs_waiting "
                       "WHERE " IS_WAITING " AND priority < ?1 AND host = ?2 "
                       "ORDER BY priority DESC LIMIT 1",
                       err);
    }
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, *priority);
    if (host != NULL)
        db_bind_text(s, 2, host);
    result = db_step(s, err);
    if (result == 1)
        *priority = db_int(s, 0);
    db_finish(s);
    return result;
}

static int consider_priority(struct choice *c, const char *host,
                             int64_t priority, struct err *err)
{
    struct db_statement *s;

    if (host == NULL) {
        s = db_prepare(c->db,
                       "SELECT " COLUMNS " FROM jobs j INDEXED BY jobs_urgent "
                       "WHERE " IS_URGENT " AND priority = ?1 AND due_at <= ?2 "
                       "AND (kind = 'hash' OR " IS_FREE ") "
                       "ORDER BY due_at, id LIMIT 1",
                       err);
    } else {
        s = db_prepare(c->db,
                       "SELECT " COLUMNS " FROM jobs j INDEXED BY jobs_waiting "
                       "WHERE " IS_WAITING " AND priority = ?1 "
                       "AND due_at <= ?2 AND host = ?3 AND " IS_FREE " "
                       "ORDER BY due_at, id LIMIT 1",
                       err);
    }
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, priority);
    db_bind_int(s, 2, c->now);
    if (host != NULL)
        db_bind_text(s, 3, host);
    return consider(c, s, err);
}

/* The best of one host, or of the urgent ones. */
static int consider_host(struct choice *c, const char *host, struct err *err)
{
    int64_t priority = INT64_MAX;
    int result;

    while ((result = next_priority(c->db, host, &priority, err)) == 1) {
        result = consider_priority(c, host, priority, err);
        if (result != 0)
            break;
    }
    return result == -1 ? -1 : 0;
}

static int consider_hosts(struct choice *c, struct err *err)
{
    char host[sizeof(c->best->host)];
    const char *after = "";
    int result;

    if (consider_host(c, "", err) == -1) /* jobs without a host have no limit */
        return -1;
    while ((result = next_host(c->db, after, host, sizeof(host), err)) == 1) {
        int full = is_full(c, host, err);

        if (full == -1 || (full == 0 && consider_host(c, host, err) == -1))
            return -1;
        after = host;
    }
    return result;
}

static int take_lease(struct db *db, struct job *j, const char *owner,
                      int64_t until, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE jobs SET lease_owner = ?2, lease_until = ?3 "
                   "WHERE id = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, j->id);
    db_bind_text(s, 2, owner);
    db_bind_int(s, 3, until);
    if (db_run(s, err) == -1)
        return -1;
    snprintf(j->lease_owner, sizeof(j->lease_owner), "%s", owner);
    j->lease_until = until;
    return 1;
}

int job_lease(struct db *db, const char *owner, int64_t now, int64_t until,
              unsigned per_host, struct job *out, struct err *err)
{
    struct choice c = {.db = db, .now = now, .per_host = per_host, .best = out};

    if (consider_host(&c, NULL, err) == -1 || consider_hosts(&c, err) == -1)
        return -1;
    return c.has_best ? take_lease(db, out, owner, until, err) : 0;
}

int job_heartbeat(struct db *db, int64_t id, int64_t until, struct err *err)
{
    struct db_statement *s = db_prepare(db,
                                        "UPDATE jobs SET lease_until = ?2 "
                                        "WHERE id = ?1 AND lease_owner <> ''",
                                        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    db_bind_int(s, 2, until);
    if (db_run(s, err) == -1)
        return -1;
    if (db_changed_rows(db) != 1)
        return err_set(err, ERR_ITEM, "job %lld is not leased", (long long)id);
    return 0;
}

/* A statement whose only parameter is an id. */
static int run_for(struct db_statement *s, int64_t id, struct err *err)
{
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, id);
    return db_run(s, err);
}

int job_end(struct db *db, int64_t id, struct err *err)
{
    if (run_for(db_prepare(db,
                           "DELETE FROM jobs "
                           "WHERE id = ?1 AND again_at IS NULL",
                           err),
                id, err) == -1)
        return -1;
    return run_for(db_prepare(db,
                              "UPDATE jobs SET lease_owner = '', "
                              "lease_until = 0, attempts = 0, "
                              "due_at = again_at, again_at = NULL, "
                              "epoch = coalesce(again_epoch, epoch), "
                              "again_epoch = NULL WHERE id = ?1",
                              err),
                   id, err);
}

int job_retry(struct db *db, int64_t id, int64_t due_at, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE jobs SET lease_owner = '', lease_until = 0, "
                   "attempts = attempts + 1, "
                   "due_at = min(?2, coalesce(again_at, ?2)), again_at = NULL, "
                   "epoch = coalesce(again_epoch, epoch), again_epoch = NULL "
                   "WHERE id = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 2, due_at);
    return run_for(s, id, err);
}

int job_give_back(struct db *db, int64_t id, bool is_asleep, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "UPDATE jobs SET is_asleep = ?2, lease_owner = '', "
                   "lease_until = 0, "
                   "due_at = min(due_at, coalesce(again_at, due_at)), "
                   "again_at = NULL, epoch = coalesce(again_epoch, epoch), "
                   "again_epoch = NULL WHERE id = ?1",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 2, is_asleep);
    return run_for(s, id, err);
}

/* The id of the `limit`-th account after that one, or of the last; 0 if there
   is none. */
static int last_of_some(struct db *db, int64_t after, int limit,
                        int64_t *last_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT coalesce(max(id), 0) FROM (SELECT id FROM accounts "
                   "WHERE id > ?1 ORDER BY id LIMIT ?2)",
                   err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, after);
    db_bind_int(s, 2, limit);
    if (db_step(s, err) != 1)
        return -1;
    *last_out = db_int(s, 0);
    db_finish(s);
    return 0;
}

#define IS_FROZEN                                                              \
    "(SELECT d.is_frozen FROM accounts a JOIN domains d "                      \
    "ON d.id = a.domain_id WHERE a.id = jobs.account_id)"

int job_follow_freezes(struct db *db, int64_t after_account, int limit,
                       int64_t *last_out, struct err *err)
{
    struct db_statement *s;

    if (last_of_some(db, after_account, limit, last_out, err) == -1)
        return -1;
    s = db_prepare(db,
                   "UPDATE jobs SET is_asleep = " IS_FROZEN " "
                   "WHERE account_id > ?1 AND account_id <= ?2 "
                   "AND kind IN ('initial', 'delta') AND lease_owner = '' "
                   "AND is_asleep <> " IS_FROZEN,
                   err);
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, after_account);
    db_bind_int(s, 2, *last_out);
    return db_run(s, err);
}

int job_next_due(struct db *db, int64_t *due_at_out, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT min(due_at) FROM jobs "
                   "WHERE lease_owner = '' AND is_asleep = 0",
                   err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *due_at_out = db_is_null(s, 0) ? INT64_MAX : db_int(s, 0);
    db_finish(s);
    return 0;
}

#define SET_FREE                                                               \
    "UPDATE jobs SET lease_owner = '', lease_until = 0, "                      \
    "due_at = min(due_at, coalesce(again_at, due_at)), again_at = NULL, "      \
    "epoch = coalesce(again_epoch, epoch), again_epoch = NULL "

int job_free_leases(struct db *db, const char *owner, struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   SET_FREE "WHERE lease_owner <> '' AND "
                            "(?1 = '' OR lease_owner = ?1)",
                   err);

    if (s == NULL)
        return -1;
    db_bind_text(s, 1, owner);
    return db_run(s, err);
}

int job_find(struct db *db, int64_t account_id, enum job_kind kind,
             struct job *out, struct err *err)
{
    struct db_statement *s = db_prepare(
        db, "SELECT " COLUMNS " FROM jobs WHERE account_id = ?1 AND kind = ?2",
        err);

    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_text(s, 2, job_kind_name(kind));
    return row_one(s, read_row, out, err);
}

/* kind NULL: every kind. */
static int run_for_kind(struct db_statement *s, int64_t account_id,
                        const char *kind, struct err *err)
{
    if (s == NULL)
        return -1;
    db_bind_int(s, 1, account_id);
    db_bind_text(s, 2, kind);
    return db_run(s, err);
}

int job_cancel(struct db *db, int64_t account_id, int kind, struct err *err)
{
    const char *name = kind == -1 ? NULL : job_kind_name((enum job_kind)kind);

    if (run_for_kind(db_prepare(db,
                                "DELETE FROM jobs WHERE account_id = ?1 AND "
                                "lease_owner = '' AND "
                                "(?2 IS NULL OR kind = ?2)",
                                err),
                     account_id, name, err) == -1)
        return -1;
    return run_for_kind(db_prepare(db,
                                   "UPDATE jobs SET again_at = NULL, "
                                   "again_epoch = NULL WHERE account_id = ?1 "
                                   "AND (?2 IS NULL OR kind = ?2)",
                                   err),
                        account_id, name, err);
}

int job_count(struct db *db, int64_t *queued_out, int64_t *leased_out,
              struct err *err)
{
    struct db_statement *s =
        db_prepare(db,
                   "SELECT (SELECT count(*) FROM jobs WHERE lease_owner = ''), "
                   "(SELECT count(*) FROM jobs WHERE lease_owner <> '')",
                   err);

    if (s == NULL || db_step(s, err) != 1)
        return -1;
    *queued_out = db_int(s, 0);
    *leased_out = db_int(s, 1);
    db_finish(s);
    return 0;
}
