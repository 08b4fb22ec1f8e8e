/*
 * One pass over one folder: what is gone, what has other flags, what is new,
 * then the lists that Dovecot reads.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/copy_parts.h"
#include "migrator/folder_name.h"
#include "migrator/uidl.h"

#define CHANGES_AT_ONCE 20000 /* known messages a command */
#define MODSEQ_MARGIN   1000000
#define MODSEQ_LEAST    500000

static int on_row(void *ctx, const struct ledger_message *m, struct err *err)
{
    struct copy_pass *p = ctx;
    struct copy_row row = {.uid = m->uid,
                           .size = m->size,
                           .vsize = m->vsize,
                           .flags = m->flags,
                           .is_stored = m->state == LEDGER_STORED,
                           .date = m->date,
                           .keywords = m->keywords};

    (void)err;
    copy_row_put(&p->rows, &row);
    return 0;
}

static void add_new(struct copy_pass *p, uint32_t uid)
{
    if (p->new_count == p->new_size) {
        p->new_size = p->new_size == 0 ? 256 : 2 * p->new_size;
        p->new_uids = mem_grow(p->new_uids, p->new_size * sizeof(*p->new_uids));
    }
    p->new_uids[p->new_count++] = uid;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void sort_new(struct copy_pass *p)
{
    size_t kept = 0;

    if (p->new_count == 0)
        return;
    qsort(p->new_uids, p->new_count, sizeof(*p->new_uids), by_number);
    for (size_t i = 0; i < p->new_count; i++)
        if (kept == 0 || p->new_uids[i] != p->new_uids[kept - 1])
            p->new_uids[kept++] = p->new_uids[i];
    p->new_count = kept;
}

/* ---- rows against files ---- */

static bool on_known(void *ctx, uint32_t uid, struct store_message *out)
{
    struct copy_pass *p = ctx;
    const struct copy_row *row = copy_row_find(&p->rows, uid);

    if (row == NULL || !row->is_stored)
        return false;
    *out = copy_store_message(row);
    return true;
}

static void on_found(void *ctx, uint32_t uid)
{
    struct copy_pass *p = ctx;
    struct copy_row *row = copy_row_find(&p->rows, uid);

    if (row != NULL)
        row->is_seen = true;
}

/* The last pass was cut off, or the machine was: believe names and sizes. */
static int repair(struct copy_pass *p, struct err *err)
{
    struct store_repair repair = {on_known, on_found, p};
    size_t kept = 0;

    if (copy_touch(p, err) == -1 || store_repair(p->store, &repair, err) == -1)
        return -1;
    for (size_t i = 0; i < p->rows.count; i++) {
        struct copy_row *row = &p->rows.items[i];

        if (row->is_stored && !row->is_seen) {
            if (ledger_message_remove(p->copy->ledger, p->folder->id, row->uid,
                                      err) == -1)
                return -1;
            p->copy->report->messages--;
            p->copy->report->bytes -= row->size;
            continue;
        }
        p->rows.items[kept++] = *row;
    }
    p->rows.count = kept;
    return 0;
}

/* ---- what legacy has changed ---- */

static int remove_row(struct copy_pass *p, struct copy_row *row,
                      struct err *err)
{
    struct store_message message = copy_store_message(row);

    if (copy_touch(p, err) == -1 ||
        ledger_message_remove(p->copy->ledger, p->folder->id, row->uid, err) ==
            -1)
        return -1;
    if (row->is_stored) {
        if (store_remove(p->store, &message, err) == -1)
            return -1;
        p->copy->report->messages--;
        p->copy->report->bytes -= row->size;
        p->copy->report->removed++;
    } else {
        p->copy->report->set_aside--;
    }
    row->is_stored = false;
    row->is_gone = true; /* until compact() */
    return copy_step(p, err);
}

static void compact(struct copy_pass *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->rows.count; i++)
        if (!p->rows.items[i].is_gone)
            p->rows.items[kept++] = p->rows.items[i];
    p->rows.count = kept;
}

static size_t first_at_least(const struct copy_rows *rows, uint32_t uid)
{
    size_t low = 0, high = rows->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (rows->items[middle].uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int on_vanished(void *ctx, uint32_t first, uint32_t last,
                       struct err *err)
{
    struct copy_pass *p = ctx;

    for (size_t at = first_at_least(&p->rows, first);
         at < p->rows.count && p->rows.items[at].uid <= last; at++)
        if (!p->rows.items[at].is_gone &&
            remove_row(p, &p->rows.items[at], err) == -1)
            return -1;
    return 0;
}

static int reflag(struct copy_pass *p, struct copy_row *row,
                  const struct source_message *message, struct err *err)
{
    struct store_message from = copy_store_message(row), to = from;

    if (copy_keywords(p, message, &to.keywords, err) == -1)
        return -1;
    to.flags = message->flags;
    if (to.flags == from.flags && to.keywords == from.keywords)
        return 0;
    if (copy_touch(p, err) == -1)
        return -1;
    if (store_rename(p->store, &from, &to, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        err_clear(err); /* the file is lost: fetch it again */
        row->is_stored = false;
        add_new(p, row->uid);
        return 0;
    }
    row->flags = to.flags;
    row->keywords = to.keywords;
    p->copy->report->reflagged++;
    if (ledger_message_set_flags(p->copy->ledger, p->folder->id, row->uid,
                                 to.flags, to.keywords, err) == -1)
        return -1;
    return copy_step(p, err);
}

static int on_flags(void *ctx, const struct source_message *message,
                    struct err *err)
{
    struct copy_pass *p = ctx;
    struct copy_row *row = copy_row_find(&p->rows, message->uid);

    if (row == NULL || !row->is_stored || !message->has_flags)
        return 0;
    return reflag(p, row, message, err);
}

static int on_change(void *ctx, const struct source_message *message,
                     struct err *err)
{
    struct copy_pass *p = ctx;

    if (copy_row_find(&p->rows, message->uid) != NULL)
        return on_flags(p, message, err);
    if (message->uid < p->status.uidnext)
        add_new(p, message->uid);
    return 0;
}

/* In windows, since the library keeps the answers of a command in memory. */
static int ask_changes(struct copy_pass *p, source_message_fn *fn,
                       source_vanished_fn *vanished, struct err *err)
{
    struct source_changed changed = {.first = 1,
                                     .since = p->folder->modseq,
                                     .message = fn,
                                     .vanished = vanished,
                                     .ctx = p};
    uint32_t last = p->status.uidnext - 1;

    while (changed.first <= last) {
        size_t in_window = 0;

        changed.last = last;
        for (size_t i = 0; i < p->rows.count; i++)
            if (p->rows.items[i].uid >= changed.first &&
                ++in_window > CHANGES_AT_ONCE) {
                changed.last = p->rows.items[i].uid - 1;
                break;
            }
        if (source_changes(p->copy->source, &changed, err) == -1)
            return -1;
        if (changed.last == UINT32_MAX)
            break;
        changed.first = changed.last + 1;
    }
    return 0;
}

static uint32_t *row_uids(const struct copy_pass *p, bool with_set_aside,
                          size_t *count_out)
{
    uint32_t *uids = mem_alloc(p->rows.count * sizeof(*uids));
    size_t count = 0;

    for (size_t i = 0; i < p->rows.count; i++)
        if (with_set_aside || p->rows.items[i].is_stored)
            uids[count++] = p->rows.items[i].uid;
    *count_out = count;
    return uids;
}

/* Flags of everything we have: what changed since, or all of them. */
static int ask_flags(struct copy_pass *p, struct err *err)
{
    uint32_t *uids;
    size_t count;
    int rc;

    if (p->rows.count == 0)
        return 0;
    if (source_has_condstore(p->copy->source) && p->folder->modseq != 0 &&
        p->status.modseq >= p->folder->modseq && p->status.uidnext > 1)
        return p->status.modseq == p->folder->modseq
                   ? 0
                   : ask_changes(p, on_flags, NULL, err);
    uids = row_uids(p, false, &count);
    rc = source_metadata(p->copy->source, uids, count, false, on_flags, p, err);
    free(uids);
    return rc;
}

static int drop_gone(struct copy_pass *p, const struct plan_difference *d,
                     struct err *err)
{
    for (size_t i = 0; i < d->gone_count; i++) {
        struct copy_row *row = copy_row_find(&p->rows, d->gone_uids[i]);

        if (row != NULL && remove_row(p, row, err) == -1)
            return -1;
    }
    compact(p);
    return 0;
}

/* All UIDs of both sides. */
static int compare_all(struct copy_pass *p, struct err *err)
{
    struct plan_difference d = {0};
    uint32_t *there, *here;
    size_t there_count, here_count;
    int rc;

    if (source_uids(p->copy->source, &there, &there_count, err) == -1)
        return -1;
    /* what came since EXAMINE is for the next pass */
    while (there_count > 0 && p->status.uidnext != 0 &&
           there[there_count - 1] >= p->status.uidnext)
        there_count--;
    here = row_uids(p, true, &here_count);
    d.new_uids = mem_alloc(there_count * sizeof(*d.new_uids));
    d.gone_uids = mem_alloc(here_count * sizeof(*d.gone_uids));
    plan_compare(there, there_count, here, here_count, &d);
    p->status.messages = (uint32_t)there_count;
    p->status.has_messages = true;
    rc = drop_gone(p, &d, err);
    for (size_t i = 0; i < d.new_count; i++)
        add_new(p, d.new_uids[i]);
    for (size_t i = 0; i < p->rows.count; i++)
        if (!p->rows.items[i].is_stored) /* set aside: try again */
            add_new(p, p->rows.items[i].uid);
    free(there);
    free(here);
    free(d.new_uids);
    free(d.gone_uids);
    return rc == -1 ? -1 : ask_flags(p, err);
}

static size_t expected_count(const struct copy_pass *p)
{
    size_t count = p->new_count;

    for (size_t i = 0; i < p->rows.count; i++)
        count += p->rows.items[i].is_stored;
    return count;
}

static int find_changes(struct copy_pass *p, enum plan_way way, struct err *err)
{
    if (way == PLAN_CHANGES) {
        if (p->status.uidnext > 1 &&
            ask_changes(p, on_change, on_vanished, err) == -1)
            return -1;
        compact(p);
        sort_new(p);
        if (p->status.has_messages && expected_count(p) == p->status.messages)
            return 0;
        log_info("%s changes-incomplete folder=%s", p->copy->job->address,
                 log_safe(p->folder->name));
        p->new_count = 0; /* it told not all: compare */
    }
    if (compare_all(p, err) == -1)
        return -1;
    sort_new(p);
    return 0;
}

/* ---- the lists ---- */

static int on_listed(void *ctx, const struct ledger_message *m, struct err *err)
{
    struct copy_pass *p = ctx;
    struct store_message message = {
        .uid = m->uid, .date = m->date, .size = m->size, .vsize = m->vsize};

    if (m->state != LEDGER_STORED)
        return 0;
    return store_list_add(p->store, &message, m->uidl, m->pop3_order, err);
}

static uint32_t next_uid(const struct copy_pass *p)
{
    uint32_t next = p->folder->uidnext;

    if (p->rows.count > 0 && p->rows.items[p->rows.count - 1].uid >= next)
        next = p->rows.items[p->rows.count - 1].uid + 1;
    if (next == 0)
        next = 1;
    /* in every pass: then the last one, inside the hold, has nothing to write
       for a folder that did not change */
    next += STORE_UIDNEXT_GAP;
    return next > p->folder->least_uidnext ? next : p->folder->least_uidnext;
}

/* Far above legacy's, which goes on rising until the flip. */
static int lift_modseq(struct copy_pass *p, struct err *err)
{
    struct ledger_folder *f = p->folder;

    if (f->modseq == 0)
        return store_forget_index(p->store, err);
    if (f->lifted_modseq >= f->modseq + MODSEQ_LEAST)
        return 0;
    f->lifted_modseq = f->modseq + MODSEQ_MARGIN;
    if (f->lifted_modseq < f->least_modseq)
        f->lifted_modseq = f->least_modseq;
    return store_lift_modseq(p->store, f->lifted_modseq, err);
}

static int write_lists(struct copy_pass *p, struct err *err)
{
    struct copy *c = p->copy;

    if (store_list_begin(p->store, next_uid(p), c->job->address,
                         p->folder->name, err) == -1 ||
        ledger_messages(c->ledger, p->folder->id, on_listed, p, err) == -1 ||
        store_list_end(p->store, err) == -1)
        return -1;
    if (store_write_keywords(p->store, p->keywords, p->keyword_count, err) ==
        -1)
        return -1;
    return lift_modseq(p, err);
}

static void tell_difference(struct copy_pass *p, int64_t count,
                            const char *what)
{
    struct migration_report *report = p->copy->report;
    char text[512];

    snprintf(text, sizeof(text), "%s: %s", log_safe(p->folder->name), what);
    report->differences += count;
    if (report->details == NULL)
        report->details = json_array();
    if (json_array_size(report->details) < 100)
        json_array_append_new(report->details, json_string(text));
}

/* Does the ledger have as many as legacy? (What vanished while we fetched is
   told by the next pass.) */
static void check_count(struct copy_pass *p)
{
    int64_t have = (int64_t)p->rows.count;
    int64_t want = p->status.has_messages ? (int64_t)p->status.messages : have;

    if (have < want)
        tell_difference(p, want - have, "messages missing");
    else if (have > want)
        tell_difference(p, have - want, "messages too many");
    if (p->keyword_count == LEDGER_KEYWORDS_MAX) {
        log_warn("%s folder=%s has very many keywords: of those beyond %d "
                 "none is kept",
                 p->copy->job->address, log_safe(p->folder->name),
                 LEDGER_KEYWORDS_MAX);
        tell_difference(p, 0, "very many keywords: those beyond 63 not kept");
    }
}

/* A POP3 session takes \Recent from the messages that legacy's IMAP clients
   have not seen yet: while there are such, the UIDLs wait for a pass that finds
   none, at the latest for the last one, after which nobody reads legacy. */
static bool wants_uidls(const struct copy_pass *p)
{
    const struct migration_job *job = p->copy->job;

    return job->legacy_pop3.host[0] != '\0' &&
           strcmp(p->folder->name, "INBOX") == 0 &&
           (job->kind == JOB_FINAL || (p->is_changed && p->status.recent == 0));
}

/* How the next pass knows that nobody else has written into the store. */
static void note_mark(struct copy_pass *p)
{
    struct store_mark mark = {0};

    if (p->store == NULL)
        return;
    store_mark(p->copy->store, p->folder->directory, &mark);
    p->folder->cur_inode = mark.inode;
    p->folder->cur_mtime_ns = mark.mtime_ns;
}

static int finish_pass(struct copy_pass *p, struct err *err)
{
    struct copy *c = p->copy;
    bool asks_uidls = wants_uidls(p);

    if (p->has_lower) /* Dovecot gives a new UID to what comes below UIDNEXT */
        p->folder->lifted_modseq = 0;
    p->folder->uidnext = p->status.uidnext;
    p->folder->modseq = p->status.modseq;
    p->folder->messages = p->status.messages;
    /* they go into the lists, though no message changed */
    if (asks_uidls && copy_touch(p, err) == -1)
        return -1;
    if (p->is_marked && ledger_commit(c->ledger, err) == -1)
        return -1;
    if (copy_supersede(p, err) == -1)
        return -1;
    if (asks_uidls && uidl_learn(c->job, c->ledger, p->folder->id, err) == -1)
        return -1;
    if (p->is_changed && write_lists(p, err) == -1)
        return -1;
    note_mark(p);
    p->folder->is_complete = true;
    return ledger_folder_save(c->ledger, p->folder, err);
}

/* ---- the pass ---- */

/* UIDVALIDITY is another: nothing of what we have can be used. */
static int renew(struct copy_pass *p, struct err *err)
{
    struct ledger_folder *f = p->folder;
    struct copy *c = p->copy;
    int64_t messages = 0, bytes = 0;

    if (ledger_totals(c->ledger, f->id, &messages, &bytes, NULL, err) == -1 ||
        store_remove_folder(c->store, f->directory, err) == -1 ||
        ledger_folder_empty(c->ledger, f->id, err) == -1)
        return -1;
    c->report->messages -= messages;
    c->report->bytes -= bytes;
    c->report->removed += messages;
    f->uidvalidity = f->uidnext = f->messages = 0;
    f->modseq = f->lifted_modseq = 0;
    f->is_complete = false;
    return 0;
}

/* Made anew it may have the same UIDVALIDITY (some servers have a fixed one):
   its UIDs mean other messages all the same. */
static bool was_made_anew(const struct copy_pass *p)
{
    if (p->folder->uidvalidity == 0)
        return false;
    return p->folder->uidvalidity != p->status.uidvalidity ||
           (p->copy->is_renewed && p->status.uidnext != 0 &&
            p->status.uidnext < p->folder->uidnext);
}

static int begin_pass(struct copy_pass *p, struct err *err)
{
    struct copy *c = p->copy;
    struct source_status status;

    if (source_examine(c->source, p->folder->name, &p->status, err) == -1)
        return -1;
    if (p->status.uidnext == 0) { /* Courier tells it only by STATUS */
        if (source_status(c->source, p->folder->name, &status, err) == -1)
            return -1;
        p->status.uidnext = status.uidnext;
    }
    if (p->status.uidvalidity == 0)
        return err_set(err, ERR_ITEM, "no UIDVALIDITY");
    if (was_made_anew(p) && renew(p, err) == -1)
        return -1;
    p->folder->uidvalidity = p->status.uidvalidity;
    if (ledger_keywords(c->ledger, p->folder->id, &p->keywords,
                        &p->keyword_count, err) == -1)
        return -1;
    return ledger_messages(c->ledger, p->folder->id, on_row, p, err);
}

/* What the lists say of UIDNEXT and HIGHESTMODSEQ, though no message changed.
 */
static bool lists_are_stale(const struct copy_pass *p)
{
    return p->status.uidnext != p->folder->uidnext ||
           (p->status.modseq != 0 &&
            p->folder->lifted_modseq < p->status.modseq + MODSEQ_LEAST);
}

static int run_pass(struct copy_pass *p, enum plan_way way, struct err *err)
{
    bool is_first = p->folder->uidvalidity == 0;
    bool is_doubtful = !p->folder->is_complete || p->copy->must_check;

    if (begin_pass(p, err) == -1)
        return -1;
    if ((is_first || lists_are_stale(p)) && copy_touch(p, err) == -1)
        return -1; /* an empty folder is a folder, too */
    /* of a folder that the ledger does not know, too: files of a ledger that
       was lost would stand beside those that come now */
    if (is_doubtful && way == PLAN_COMPARE && repair(p, err) == -1)
        return -1;
    if (find_changes(p, way, err) == -1 || copy_fetch(p, err) == -1)
        return -1;
    check_count(p);
    return finish_pass(p, err);
}

static void release_pass(struct copy_pass *p)
{
    store_folder_close(&p->store, NULL);
    free(p->rows.items);
    free(p->new_uids);
    free(p->keywords);
}

int copy_folder(struct copy *copy, struct ledger_folder *folder,
                enum plan_way way, struct err *err)
{
    struct copy_pass p = {.copy = copy, .folder = folder};
    int rc = run_pass(&p, way, err);

    ledger_rollback(copy->ledger);
    if (rc == 0 && p.store != NULL)
        rc = store_folder_close(&p.store, err);
    release_pass(&p);
    return rc;
}

int copy_folder_lists(struct copy *copy, struct ledger_folder *folder,
                      struct err *err)
{
    struct copy_pass p = {.copy = copy,
                          .folder = folder,
                          .status = {.uidnext = folder->uidnext,
                                     .modseq = folder->modseq,
                                     .messages = folder->messages,
                                     .uidvalidity = folder->uidvalidity}};
    int rc = -1;

    if (ledger_keywords(copy->ledger, folder->id, &p.keywords, &p.keyword_count,
                        err) == 0 &&
        copy_touch(&p, err) == 0)
        rc = finish_pass(&p, err);
    ledger_rollback(copy->ledger);
    if (rc == 0)
        rc = store_folder_close(&p.store, err);
    release_pass(&p);
    return rc;
}
