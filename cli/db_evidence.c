/*
 * From witnesses to rows: the journal in the store, auth.db and the mailboxes,
 * for `db rebuild` and `db check --repair`.
 */
#include "cli/db_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/command.h"
#include "account/provision.h"
#include "account/witness.h"
#include "base/mem.h"
#include "db/accounts.h"
#include "db/audit.h"
#include "db/counters.h"
#include "db/rebuild.h"
#include "db/refused.h"

#define MAILBOX_WITNESS "mailhaul-witness"
#define BARE_LOG_SIZE   40 /* dovecot.index.log as the copying leaves it */

struct taking {
    struct db *db;
    const struct evidence *e;
    int64_t base; /* generation that db knows by itself */
    struct generations seen;
    struct db_lines doubts;
    int64_t domains, walked;
    struct err *err;
};

void generations_add(struct generations *g, int64_t generation)
{
    size_t byte = (size_t)(generation >> 3);

    if (generation <= 0 || generation > (int64_t)1 << 40)
        return;
    if (byte >= g->size) {
        size_t size = byte * 2 + 4096;

        g->bits = mem_grow(g->bits, size);
        memset(g->bits + g->size, 0, size - g->size);
        g->size = size;
    }
    if (!(g->bits[byte] & 1 << (generation & 7)))
        g->count++;
    g->bits[byte] |= (uint8_t)(1 << (generation & 7));
    if (generation > g->latest)
        g->latest = generation;
}

bool generations_has(const struct generations *g, int64_t generation)
{
    size_t byte = (size_t)(generation >> 3);

    return generation > 0 && byte < g->size &&
           g->bits[byte] & 1 << (generation & 7);
}

void generations_release(struct generations *g)
{
    free(g->bits);
    memset(g, 0, sizeof(*g));
}

/* --- the journal */

static int take_account(void *ctx, const struct witness *w, struct err *err)
{
    struct taking *t = ctx;

    generations_add(&t->seen, w->generation);
    if (w->generation <= t->base)
        return 0;
    return refused_put(t->db, w, "journal", err);
}

/* The journal's settings are the newest there are. */
static int take_domain(void *ctx, const struct domain *d, bool is_gone,
                       struct err *err)
{
    struct taking *t = ctx;
    struct domain row, told = *d;
    struct err ignored;
    int found = domain_find(t->db, d->name, &row, err);

    if (found == -1)
        return -1;
    if (is_gone) {
        if (found == 1 && domain_delete(t->db, row.id, &ignored) == 0)
            t->domains--;
        return 0;
    }
    told.id = row.id;
    if (found == 1)
        return domain_update(t->db, &told, err);
    t->domains++;
    return domain_insert(t->db, &told, err);
}

static int read_journal(struct taking *t, struct err *err)
{
    struct witness_reader reader = {
        .account = take_account, .domain = take_domain, .ctx = t};
    int fd = db_open_journal(t->e->conf, err), rc;

    if (fd == -1)
        return err->kind == ERR_NONE ? 0 : -1;
    rc = witness_read(fd, &reader, err);
    close(fd);
    json_object_set_new(t->e->result, "records", json_integer(reader.records));
    json_object_set_new(t->e->result, "torn", json_integer(reader.torn));
    if (reader.top > t->seen.latest)
        t->seen.latest = reader.top;
    return rc;
}

/* --- the mailboxes */

/* Dovecot has served it: the flip was committed. */
static bool was_served(int maildir)
{
    struct stat st;

    return fstatat(maildir, "dovecot.index", &st, 0) == 0 ||
           (fstatat(maildir, "dovecot.index.log", &st, 0) == 0 &&
            st.st_size != BARE_LOG_SIZE);
}

static bool read_mailbox(int maildir, struct witness *out)
{
    char text[WITNESS_LINE_MAX], *line;
    int fd =
        openat(maildir, MAILBOX_WITNESS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t got = fd == -1 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd != -1)
        close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    line = strchr(text, '\n');
    return line != NULL && witness_parse(line + 1, out);
}

static int take_mailbox(struct taking *t, const char *path)
{
    const char *doubtful = t->e->doubtful, *source = "journal";
    struct witness w;
    struct account row;
    char expected[PATH_MAX];
    int64_t generation;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), known;
    bool is_read = fd != -1 && read_mailbox(fd, &w);
    bool is_served = is_read && was_served(fd);

    if (fd != -1)
        close(fd);
    if (!is_read ||
        provision_maildir(t->e->conf, w.address, expected, sizeof(expected),
                          NULL) == -1 ||
        strcmp(expected, path) != 0)
        return 0;
    t->walked++;
    known = refused_find(t->db, w.address, &generation, t->err);
    if (known != 0)
        return known == -1 ? -1 : 0;
    known = account_find(t->db, w.address, &row, t->err);
    if (known == -1 || (known == 1 && row.epoch >= w.epoch))
        return known == -1 ? -1 : 0;
    if (!is_served && doubtful != NULL && strcmp(doubtful, "legacy") == 0)
        return 0;
    if (!is_served && doubtful == NULL) {
        source = "maildir";
        db_lines_add(&t->doubts, w.address,
                     "was handed over; nothing proves its flip");
    }
    return refused_put(t->db, &w, source, t->err);
}

/* The directories below path that fit what is left of the template. */
static int walk(struct taking *t, const char *path, const char *rest)
{
    size_t length = strcspn(rest, "/");
    const char *next = rest + length + (rest[length] == '/');
    char below[PATH_MAX];
    struct dirent *entry;
    DIR *list;
    int rc = 0;

    if (*rest == '\0')
        return take_mailbox(t, path);
    if (memchr(rest, '{', length) == NULL) {
        snprintf(below, sizeof(below), "%s/%.*s", path, (int)length, rest);
        return walk(t, below, next);
    }
    list = opendir(path);
    while (list != NULL && rc == 0 && (entry = readdir(list)) != NULL) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_REG)
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) <
            (int)sizeof(below))
            rc = walk(t, below, next);
    }
    if (list != NULL)
        closedir(list);
    return rc;
}

static int walk_all(struct taking *t, struct err *err)
{
    char base[PATH_MAX];

    if (witness_base(t->e->conf, base, sizeof(base), err) == -1)
        return -1;
    return walk(t, base, t->e->conf->store.path + strlen(base) + 1);
}

/* --- all of it */

static int64_t gaps(const struct taking *t)
{
    int64_t missing = 0;

    for (int64_t g = t->base + 1; g <= t->seen.latest; g++)
        missing += !generations_has(&t->seen, g);
    return missing;
}

static int collect(struct taking *t, struct err *err)
{
    int64_t missing;

    if (read_journal(t, err) == -1)
        return -1;
    missing = gaps(t);
    json_object_set_new(t->e->result, "missing_records", json_integer(missing));
    if ((missing > 0 || t->seen.latest == 0 || t->e->must_walk) &&
        t->e->conf->store.path != NULL && walk_all(t, err) == -1)
        return -1;
    json_object_set_new(t->e->result, "mailboxes_read",
                        json_integer(t->walked));
    json_object_set_new(t->e->result, "domains_added",
                        json_integer(t->domains));
    return 0;
}

static int need_domains(struct taking *t, struct err *err)
{
    struct db_lines missing;
    const char *first;
    int rc = 0;

    db_lines_init(&missing);
    if (rebuild_missing_domains(t->db, db_lines_add, &missing, err) == -1)
        rc = -1;
    else if (missing.count > 0) {
        first = json_string_value(
            json_object_get(json_array_get(missing.list, 0), "address"));
        rc = err_set(err, ERR_SETUP,
                     "%lld domains of the witnesses are not known (%s, ...): "
                     "add them to a new control db, and rebuild --from it",
                     (long long)missing.count, first);
    }
    json_decref(missing.list);
    return rc;
}

static void put_counts(json_t *result, const struct rebuild_counts *c)
{
    json_object_update_new(
        result, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "changed",
                          (json_int_t)c->changed, "added", (json_int_t)c->added,
                          "local", (json_int_t)c->local, "legacy",
                          (json_int_t)c->legacy, "without_password",
                          (json_int_t)c->without_hash, "without_seal",
                          (json_int_t)c->without_seal, "doubtful",
                          (json_int_t)c->doubtful));
}

static int merge(struct taking *t, bool has_auth, struct err *err)
{
    struct db_lines contradictions;
    struct rebuild_counts counts;
    int64_t generation;
    int rc = 0;

    db_lines_init(&contradictions);
    if (has_auth)
        rc = rebuild_take_auth(t->db, db_lines_add, &contradictions, err);
    if (rc == 0)
        rc = need_domains(t, err);
    if (rc == 0)
        rc = rebuild_merge(t->db, has_auth, t->e->now_ms, &counts, err);
    if (rc == 0)
        rc = counter_get(t->db, COUNTER_GENERATION, &generation, err);
    if (rc == 0 && t->seen.latest > generation)
        rc = counter_set(t->db, COUNTER_GENERATION, t->seen.latest, err);
    if (rc == 0)
        put_counts(t->e->result, &counts);
    json_object_set_new(t->e->result, "contradictions", contradictions.list);
    return rc;
}

/* Who has asked for it, behind what it has changed. */
static int note(struct taking *t, struct err *err)
{
    char actor[COMMAND_ACTOR_MAX], detail[128];
    const struct audit_entry entry = {.at = t->e->now_ms,
                                      .actor = actor,
                                      .event = t->e->event,
                                      .detail = detail,
                                      .reason = t->e->reason};

    command_actor(getuid(), actor);
    snprintf(
        detail, sizeof(detail), "changed=%" PRId64 " added=%" PRId64,
        (int64_t)json_integer_value(json_object_get(t->e->result, "changed")),
        (int64_t)json_integer_value(json_object_get(t->e->result, "added")));
    return audit_append(t->db, &entry, err);
}

int evidence_take(struct db *db, const struct evidence *e, struct err *err)
{
    struct taking t = {.db = db, .e = e, .err = err};
    int has_auth = db_attach_auth(db, e->conf, err), rc = -1;

    db_lines_init(&t.doubts);
    if (has_auth != -1 &&
        counter_get(db, COUNTER_GENERATION, &t.base, err) == 0 &&
        db_begin(db, err) == 0) {
        rc = collect(&t, err);
        if (rc == 0)
            rc = merge(&t, has_auth == 1, err);
        if (rc == 0)
            rc = note(&t, err);
        if (rc == 0)
            rc = db_commit(db, err);
        if (rc == -1)
            db_rollback(db);
    }
    json_object_set_new(e->result, "doubts", t.doubts.list);
    generations_release(&t.seen);
    return rc;
}
