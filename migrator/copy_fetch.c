/*
 * Bodies into the store and rows into the ledger; what a server cannot give is
 * tried alone, then on a fresh connection, then set aside.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/copy_parts.h"
#include "migrator/folder_name.h"

#define ROWS_A_BATCH 512

/* ---- rows in memory ---- */

static int by_uid(const void *key, const void *row)
{
    uint32_t uid = *(const uint32_t *)key;
    uint32_t other = ((const struct copy_row *)row)->uid;

    return (uid > other) - (uid < other);
}

struct copy_row *copy_row_find(struct copy_rows *rows, uint32_t uid)
{
    if (rows->count == 0)
        return NULL;
    return bsearch(&uid, rows->items, rows->count, sizeof(*rows->items),
                   by_uid);
}

void copy_row_put(struct copy_rows *rows, const struct copy_row *row)
{
    struct copy_row *old = copy_row_find(rows, row->uid);
    size_t at = rows->count;

    if (old != NULL) {
        *old = *row;
        return;
    }
    if (rows->count == rows->size) {
        rows->size = rows->size == 0 ? 256 : 2 * rows->size;
        rows->items = mem_grow(rows->items, rows->size * sizeof(*rows->items));
    }
    while (at > 0 && rows->items[at - 1].uid > row->uid)
        at--;
    memmove(rows->items + at + 1, rows->items + at,
            (rows->count - at) * sizeof(*rows->items));
    rows->items[at] = *row;
    rows->count++;
}

struct store_message copy_store_message(const struct copy_row *row)
{
    return (struct store_message){.uid = row->uid,
                                  .flags = row->flags,
                                  .keywords = row->keywords,
                                  .date = row->date,
                                  .size = row->size,
                                  .vsize = row->vsize};
}

/* ---- the pass's frame ---- */

int copy_touch(struct copy_pass *p, struct err *err)
{
    struct copy *c = p->copy;

    if (p->is_marked)
        return 0;
    p->folder->is_complete = false;
    c->is_written = true;
    if (c->was_verified && c->touched == 0 &&
        ledger_put(c->ledger, "verified", "0", err) == -1)
        return -1;
    c->touched++;
    if (ledger_put(c->ledger, "unsynced", "1", err) == -1 ||
        ledger_folder_save(c->ledger, p->folder, err) == -1)
        return -1;
    if (store_folder_open(c->store, p->folder->directory,
                          folder_hash(p->folder->name), p->folder->uidvalidity,
                          &p->store, err) == -1)
        return -1;
    p->is_marked = p->is_changed = true;
    return ledger_begin(c->ledger, err);
}

int copy_step(struct copy_pass *p, struct err *err)
{
    if (progress_tell(p->copy->progress, p->copy->report) == -1)
        return err_set(err, ERR_RETRY, "told to end");
    if (++p->batch < ROWS_A_BATCH)
        return 0;
    p->batch = 0;
    if (ledger_commit(p->copy->ledger, err) == -1)
        return -1;
    return ledger_begin(p->copy->ledger, err);
}

static int keyword_position(struct copy_pass *p, const char *name,
                            int *position_out, struct err *err)
{
    for (unsigned i = 0; i < p->keyword_count; i++)
        if (strcasecmp(p->keywords[i], name) == 0) {
            *position_out = (int)i;
            return 0;
        }
    if (copy_touch(p, err) == -1 ||
        ledger_keyword(p->copy->ledger, p->folder->id, name, position_out,
                       err) == -1)
        return -1;
    free(p->keywords);
    p->keywords = NULL;
    return ledger_keywords(p->copy->ledger, p->folder->id, &p->keywords,
                           &p->keyword_count, err);
}

int copy_keywords(struct copy_pass *p, const struct source_message *message,
                  uint64_t *bits_out, struct err *err)
{
    *bits_out = 0;
    for (unsigned i = 0; i < message->keyword_count; i++) {
        int position;

        if (keyword_position(p, message->keywords[i], &position, err) == -1)
            return -1;
        if (position >= 0)
            *bits_out |= (uint64_t)1 << position;
    }
    return 0;
}

/* p->status stays that of the pass's beginning. */
static int reconnect(struct copy_pass *p, struct err *err)
{
    struct copy *c = p->copy;
    struct source_status status;

    source_close(&c->source);
    if (source_open(c->job, &c->source, err) == -1 ||
        source_examine(c->source, p->folder->name, &status, err) == -1)
        return -1;
    if (status.uidvalidity != p->status.uidvalidity)
        return err_set(err, ERR_RETRY, "UIDVALIDITY changed under our hands");
    return 0;
}

/* ---- arrival ---- */

static bool is_wanted(const struct copy_pass *p, uint32_t uid)
{
    size_t low = 0, high = p->new_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (p->new_uids[middle] < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->new_count && p->new_uids[low] == uid;
}

static bool is_there(struct copy_pass *p, uint32_t uid)
{
    const struct copy_row *row = copy_row_find(&p->rows, uid);

    return row != NULL && row->is_stored;
}

static int on_piece(void *ctx, const char *bytes, size_t length,
                    struct err *err)
{
    struct copy_pass *p = ctx;

    p->has_failed = store_write(p->store, bytes, length, err) == -1;
    return p->has_failed ? -1 : 0;
}

static int save_row(struct copy_pass *p, const struct copy_row *row,
                    const uint8_t digest[LEDGER_DIGEST_SIZE], struct err *err)
{
    struct ledger_message message = {.uid = row->uid,
                                     .state = LEDGER_STORED,
                                     .flags = row->flags,
                                     .keywords = row->keywords,
                                     .date = row->date,
                                     .size = row->size,
                                     .vsize = row->vsize};

    memcpy(message.digest, digest, LEDGER_DIGEST_SIZE);
    if (ledger_message_save(p->copy->ledger, p->folder->id, &message, err) ==
        -1)
        return -1;
    copy_row_put(&p->rows, row);
    if (row->uid < p->folder->uidnext)
        p->has_lower = true;
    p->copy->report->copied++;
    p->copy->report->messages++;
    p->copy->report->bytes += row->size;
    return copy_step(p, err);
}

static int take_message(struct copy_pass *p,
                        const struct source_message *message, struct err *err)
{
    struct copy_row row = {.uid = message->uid,
                           .flags = message->flags,
                           .date = message->date,
                           .is_stored = true,
                           .is_seen = true};
    struct store_message stored;
    uint8_t digest[STORE_DIGEST_SIZE];

    store_measure(p->store, &row.size, &row.vsize, digest);
    /* nothing for a message that has a size is no message: tried again alone */
    if (!is_wanted(p, message->uid) || is_there(p, message->uid) ||
        (row.size == 0 && message->size > 0)) {
        store_drop(p->store);
        return 0;
    }
    if (copy_keywords(p, message, &row.keywords, err) == -1)
        return -1;
    stored = copy_store_message(&row);
    if (store_put(p->store, &stored, err) == -1)
        return -1;
    return save_row(p, &row, digest, err);
}

static int on_end(void *ctx, const struct source_message *message,
                  struct err *err)
{
    struct copy_pass *p = ctx;

    p->has_failed = take_message(p, message, err) == -1;
    return p->has_failed ? -1 : 0;
}

/* ---- what does not come ---- */

struct presence {
    bool is_there;
};

static int on_presence(void *ctx, const struct source_message *message,
                       struct err *err)
{
    struct presence *found = ctx;

    (void)message;
    (void)err;
    found->is_there = true;
    return 0;
}

static int set_aside(struct copy_pass *p, uint32_t uid, const char *why,
                     struct err *err)
{
    struct ledger_message message, old;
    struct copy_row row = {.uid = uid};
    int found =
        ledger_message_find(p->copy->ledger, p->folder->id, uid, &old, err);

    if (found == -1)
        return -1;
    message = (struct ledger_message){.uid = uid,
                                      .state = LEDGER_SET_ASIDE,
                                      .error = why,
                                      .attempts =
                                          (found == 1 ? old.attempts : 0) + 1};
    log_warn("%s set-aside folder=%s uid=%u reason=\"%s\"",
             p->copy->job->address, log_safe(p->folder->name), uid,
             log_safe(why));
    copy_row_put(&p->rows, &row);
    return ledger_message_save(p->copy->ledger, p->folder->id, &message, err);
}

/* One message by itself; *is_done_out: it is there, or gone from legacy. */
static int fetch_alone(struct copy_pass *p, uint32_t uid, bool *is_done_out,
                       struct err *err)
{
    static const struct source_sink sink = {on_piece, on_end};
    struct presence found = {false};

    *is_done_out = false;
    if (source_bodies(p->copy->source, &uid, 1, &sink, p, err) == -1) {
        store_drop(p->store);
        return -1;
    }
    if (is_there(p, uid)) {
        *is_done_out = true;
        return 0;
    }
    store_drop(p->store);
    if (source_metadata(p->copy->source, &uid, 1, false, on_presence, &found,
                        err) == -1)
        return -1;
    *is_done_out = !found.is_there;
    if (*is_done_out)
        return 0;
    return err_set(err, ERR_ITEM, "the server leaves its body out");
}

static bool is_hopeless(const struct copy_pass *p, const struct err *err)
{
    const struct copy *c = p->copy;

    /* a refusal that is meant for all of us is no fault of the message */
    return p->has_failed || err->kind == ERR_SETUP || err->kind == ERR_DENIED ||
           (err->kind == ERR_RETRY && !source_is_broken(c->source));
}

/* Alone, then alone on a fresh connection, then set aside. */
static int fetch_suspect(struct copy_pass *p, uint32_t uid, struct err *err)
{
    struct copy *c = p->copy;
    bool is_done;
    char why[sizeof(err->text)];

    for (int attempt = 0; attempt < 2; attempt++) {
        if ((attempt == 1 || source_is_broken(c->source)) &&
            reconnect(p, err) == -1)
            return -1;
        err_clear(err);
        if (fetch_alone(p, uid, &is_done, err) == 0 || is_done) {
            err_clear(err);
            return 0;
        }
        if (is_hopeless(p, err))
            return -1;
    }
    memcpy(why, err->text, sizeof(why));
    err_clear(err);
    if (source_is_broken(c->source) && reconnect(p, err) == -1)
        return -1;
    return set_aside(p, uid, why, err);
}

/* Those of new_uids that did not arrive, into `missing`. */
static size_t list_missing(struct copy_pass *p, const uint32_t *uids,
                           size_t count, uint32_t *missing)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        if (!is_there(p, uids[i]))
            missing[kept++] = uids[i];
    return kept;
}

/* A range broke off: its first missing message is the suspect, the others may
   be well and come as a range again. */
static int fetch_rest(struct copy_pass *p, uint32_t *left, size_t count,
                      struct err *err)
{
    static const struct source_sink sink = {on_piece, on_end};

    while (count > 0) {
        bool was_whole;

        if (fetch_suspect(p, left[0], err) == -1)
            return -1;
        left++;
        count--;
        if (count == 0)
            return 0;
        was_whole =
            source_bodies(p->copy->source, left, count, &sink, p, err) == 0;
        store_drop(p->store);
        if (!was_whole && is_hopeless(p, err))
            return -1;
        err_clear(err);
        count = list_missing(p, left, count, left);
        while (was_whole && count > 0) { /* left out without a word */
            if (fetch_suspect(p, left[0], err) == -1)
                return -1;
            left++;
            count--;
        }
    }
    return 0;
}

int copy_fetch(struct copy_pass *p, struct err *err)
{
    static const struct source_sink sink = {on_piece, on_end};
    uint32_t *left;
    size_t count;
    int rc;

    if (p->new_count == 0)
        return 0;
    if (copy_touch(p, err) == -1)
        return -1;
    rc = source_bodies(p->copy->source, p->new_uids, p->new_count, &sink, p,
                       err);
    store_drop(p->store);
    if (rc == -1 && is_hopeless(p, err))
        return -1;
    left = mem_alloc(p->new_count * sizeof(*left));
    count = list_missing(p, p->new_uids, p->new_count, left);
    if (count == 0 && rc == -1) { /* it broke after the last one */
        free(left);
        return reconnect(p, err);
    }
    err_clear(err);
    rc = fetch_rest(p, left, count, err);
    free(left);
    return rc;
}
