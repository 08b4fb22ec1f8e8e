/*
 * Messages of the way back: which ones are new on local, and how one of them
 * comes to legacy exactly once.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/back_parts.h"
#include "migrator/trail_local.h"

#define BATCH        64
#define SETTLE_MS    500
#define REFUSALS_MAX 20 /* for a while, before the pass gives up */

/* ---- what the ledger knows ---- */

struct reading {
    struct back_folder *folder;
    size_t size;
};

static int on_row(void *ctx, const struct ledger_message *m, struct err *err)
{
    struct reading *r = ctx;
    struct back_folder *f = r->folder;
    struct back_row *row;

    (void)err;
    if (m->state == LEDGER_SET_ASIDE)
        return 0;
    if (m->state == LEDGER_STORED && !f->is_same)
        return 0; /* made anew here: nothing of the copy is in it */
    if (f->row_count == r->size) {
        r->size = r->size * 2 + 256;
        f->rows = mem_grow(f->rows, r->size * sizeof *f->rows);
    }
    row = &f->rows[f->row_count++];
    *row = (struct back_row){
        .uid = m->uid,
        .local_uid = m->state == LEDGER_STORED ? m->uid : m->local_uid,
        .state = m->state,
        .flags = m->flags,
        .keywords = m->keywords,
        .date = m->date,
        .vsize = m->vsize};
    if (m->state == LEDGER_INTENT) /* there it is the lowest it may have got */
        row->local_uid = 0;
    memcpy(row->digest, m->digest, sizeof row->digest);
    return 0;
}

static int by_local_uid(const void *a, const void *b)
{
    const struct back_row *x = a, *y = b;

    return (x->local_uid > y->local_uid) - (x->local_uid < y->local_uid);
}

int back_rows_read(struct back_folder *f, struct err *err)
{
    struct reading r = {.folder = f};

    if (ledger_messages(f->back->ledger, f->row->id, on_row, &r, err) == -1)
        return -1;
    if (f->row_count > 0)
        qsort(f->rows, f->row_count, sizeof *f->rows, by_local_uid);
    return 0;
}

static struct back_row *row_of(const struct back_folder *f, uint32_t local_uid)
{
    struct back_row key = {.local_uid = local_uid};

    return f->row_count == 0 ? NULL
                             : bsearch(&key, f->rows, f->row_count,
                                       sizeof *f->rows, by_local_uid);
}

/* ---- one message ---- */

struct news {
    uint32_t uid;
    bool is_known; /* metadata came */
    char *flags;   /* owned */
    uint8_t flag_bits;
    uint64_t keywords;
    int64_t date;
    int zone_minutes;
    uint32_t size;
};

struct batch {
    struct back_folder *folder;
    struct news items[BATCH];
    size_t count;
};

static int on_metadata(void *ctx, const struct source_message *m,
                       struct err *err)
{
    struct batch *batch = ctx;
    struct back_folder *f = batch->folder;

    for (size_t i = 0; i < batch->count; i++) {
        struct news *n = &batch->items[i];

        if (n->uid != m->uid || n->is_known || !m->has_flags)
            continue;
        n->is_known = true;
        n->flags = message_flags_text(m);
        n->flag_bits = m->flags;
        n->date = m->date;
        n->zone_minutes = m->zone_minutes;
        n->size = m->size;
        for (unsigned k = 0; k < m->keyword_count; k++) {
            int position;

            if (ledger_keyword(f->back->ledger, f->row->id, m->keywords[k],
                               &position, err) == -1)
                return -1;
            if (position >= 0)
                n->keywords |= (uint64_t)1 << position;
        }
    }
    return 0;
}

static struct ledger_back back_of(const struct back_folder *f,
                                  const struct news *n)
{
    const struct message_file *file = &f->back->file;
    struct ledger_back back = {.uidvalidity = f->local.uidvalidity,
                               .uid = n->uid,
                               .flags = n->flag_bits,
                               .keywords = n->keywords,
                               .date = n->date,
                               .size = (uint32_t)file->size_bytes,
                               .vsize = (uint32_t)file->vsize};

    memcpy(back.digest, file->digest, sizeof back.digest);
    return back;
}

static int save_back(struct back *b, int64_t folder,
                     const struct ledger_back *back, struct err *err)
{
    if (ledger_begin(b->ledger, err) == -1)
        return -1;
    if (ledger_back_save(b->ledger, folder, back, err) == -1) {
        ledger_rollback(b->ledger);
        return -1;
    }
    return ledger_commit(b->ledger, err);
}

/* It is on legacy: the row of its UID there takes the intent's place. */
static int note_returned(struct back *b, int64_t folder,
                         const struct ledger_back *back, uint32_t legacy_uid,
                         struct err *err)
{
    struct ledger_message row = {.uid = legacy_uid,
                                 .state = LEDGER_RETURNED,
                                 .flags = back->flags,
                                 .keywords = back->keywords,
                                 .date = back->date,
                                 .size = back->size,
                                 .vsize = back->vsize,
                                 .local_uid = back->uid};

    memcpy(row.digest, back->digest, sizeof row.digest);
    if (ledger_begin(b->ledger, err) == -1)
        return -1;
    if (ledger_message_save(b->ledger, folder, &row, err) == -1 ||
        ledger_back_remove(b->ledger, folder, back->uidvalidity, back->uid,
                           err) == -1) {
        ledger_rollback(b->ledger);
        return -1;
    }
    return ledger_commit(b->ledger, err);
}

static int refuse(struct back_folder *f, const struct news *n,
                  const struct err *why, struct err *err)
{
    struct ledger_back back = back_of(f, n);

    back.state = LEDGER_BACK_REFUSED;
    back.error = why->text;
    f->back->refused++;
    back_tell(f->back, "%s/uid %u: %s", f->local_name, n->uid, why->text);
    return save_back(f->back, f->row->id, &back, err);
}

/* The digest of a row says which message of local it is, where its UID is not
   known: one that the trail appended, and was killed before it heard the UID.
 */
static int claim_row(struct back_folder *f, const struct news *n,
                     bool *is_claimed_out, struct err *err)
{
    struct back *b = f->back;

    *is_claimed_out = false;
    for (size_t i = 0; i < f->row_count && f->rows[i].local_uid == 0; i++) {
        struct back_row *row = &f->rows[i];
        struct ledger_message stored;

        if (row->is_found ||
            memcmp(row->digest, b->file.digest, sizeof row->digest) != 0)
            continue;
        if (ledger_message_find(b->ledger, f->row->id, row->uid, &stored,
                                err) != 1)
            return -1;
        stored.state = LEDGER_APPENDED;
        stored.local_uid = n->uid;
        row->is_found = *is_claimed_out = true;
        return ledger_message_save(b->ledger, f->row->id, &stored, err);
    }
    return 0;
}

/* Where legacy has no UIDPLUS, its newest messages are looked through. */
static int find_appended(struct back *b, const char *folder, uint32_t first,
                         const uint8_t *digest, uint32_t *uid_out,
                         struct err *err)
{
    if (*uid_out != 0)
        return 0;
    return trail_local_find(b->legacy, folder, first, digest, uid_out, err);
}

static int append(struct back_folder *f, const struct news *n, struct err *err)
{
    struct back *b = f->back;
    const struct store_append append = {f->row->name, n->flags,
                                        n->date,      n->zone_minutes,
                                        b->file.fd,   b->file.size_bytes};
    struct ledger_back back = back_of(f, n);
    bool is_refused;
    struct err why;
    uint32_t uid = 0;

    if (store_imap_folder(b->store, f->row->name, f->is_subscribed, &back.first,
                          err) == -1)
        return -1;
    if (save_back(b, f->row->id, &back, err) == -1)
        return -1;
    if (store_imap_append(b->store, &append, &uid, &is_refused, &why) == -1) {
        if (is_refused && why.kind == ERR_ITEM)
            return refuse(f, n, &why, err);
        if (is_refused &&
            ledger_back_remove(b->ledger, f->row->id, back.uidvalidity,
                               back.uid, err) == -1)
            return -1;
        *err = why;
        return -1;
    }
    if (find_appended(b, f->row->name, back.first, back.digest, &uid, err) ==
        -1)
        return -1;
    if (uid == 0)
        return err_set(err, ERR_RETRY,
                       "%s: legacy took a message and does not "
                       "show it",
                       log_safe(f->row->name));
    b->report->appended++;
    return note_returned(b, f->row->id, &back, uid, err);
}

static int take_back(struct back_folder *f, const struct news *n,
                     struct err *err)
{
    struct back_row *row = row_of(f, n->uid);
    struct back *b = f->back;
    bool is_claimed;
    struct err why;

    if (!n->is_known)
        return 0; /* gone since it was listed */
    if (row != NULL && row->date == n->date && row->vsize == n->size) {
        row->is_found = true;
        return 0;
    }
    if (message_file_fetch(&b->file, b->local, n->uid, n->size, &why) == -1) {
        if (why.kind != ERR_ITEM || source_is_broken(b->local)) {
            *err = why;
            return -1;
        }
        return refuse(f, n, &why, err);
    }
    if (claim_row(f, n, &is_claimed, err) == -1)
        return -1;
    if (!is_claimed && append(f, n, err) == -1)
        return -1;
    return back_progress(b, err);
}

/* ---- all of a folder ---- */

static int take_batch(struct back_folder *f, const uint32_t *uids, size_t count,
                      struct err *err)
{
    struct batch *batch = mem_alloc(sizeof *batch);
    int result;

    batch->folder = f;
    batch->count = count;
    for (size_t i = 0; i < count; i++)
        batch->items[i].uid = uids[i];
    result = source_metadata(f->back->local, uids, count, true, on_metadata,
                             batch, err);
    for (size_t i = 0; i < count && result == 0; i++)
        result = take_back(f, &batch->items[i], err);
    for (size_t i = 0; i < count; i++)
        free(batch->items[i].flags);
    free(batch);
    return result;
}

int back_append_new(struct back_folder *f, struct err *err)
{
    uint32_t *news = mem_alloc((f->local_count + 1) * sizeof *news);
    size_t count = 0;
    int result = 0;

    for (size_t i = 0; i < f->local_count; i++) {
        struct back_row *row = row_of(f, f->local_uids[i]);

        /* of a folder that was made anew UIDs alone say nothing */
        if (row != NULL && f->is_same)
            row->is_found = true;
        else
            news[count++] = f->local_uids[i];
    }
    for (size_t i = 0; i < count && result == 0; i += BATCH)
        result =
            take_batch(f, news + i, count - i < BATCH ? count - i : BATCH, err);
    free(news);
    return result;
}

/* ---- after a crash ---- */

struct open_intents {
    struct ledger_back *items; /* owned */
    int64_t *folders;          /* owned */
    size_t count;
};

static int collect_open(void *ctx, int64_t folder,
                        const struct ledger_back *back, struct err *err)
{
    struct open_intents *all = ctx;

    (void)err;
    if (back->state == LEDGER_BACK_REFUSED)
        return 0;
    all->items = mem_grow(all->items, (all->count + 1) * sizeof *all->items);
    all->folders =
        mem_grow(all->folders, (all->count + 1) * sizeof *all->folders);
    all->items[all->count] = *back;
    all->items[all->count].error = NULL;
    all->folders[all->count++] = folder;
    return 0;
}

static const char *name_of(const struct back *b, int64_t folder)
{
    for (size_t i = 0; i < b->folder_count; i++)
        if (b->folders[i].id == folder)
            return b->folders[i].name;
    return NULL;
}

static int settle_one(struct back *b, int64_t folder,
                      const struct ledger_back *back, struct err *err)
{
    const char *name = name_of(b, folder);
    uint32_t uid = 0;

    if (name == NULL)
        return ledger_back_remove(b->ledger, folder, back->uidvalidity,
                                  back->uid, err);
    if (back->state == LEDGER_BACK_SPACE)
        return back_settle_space(b, folder, back->first, err);
    if (trail_local_find(b->legacy, name, back->first, back->digest, &uid,
                         err) == -1)
        return -1;
    log_info("back folder=\"%s\" local_uid=%u intent found_uid=%u",
             log_safe(name), back->uid, uid);
    if (uid != 0)
        return note_returned(b, folder, back, uid, err);
    return ledger_back_remove(b->ledger, folder, back->uidvalidity, back->uid,
                              err);
}

int back_settle_intents(struct back *b, struct err *err)
{
    const struct timespec settle = {0, SETTLE_MS * 1000000L};
    struct open_intents all = {0};
    int result = ledger_backs(b->ledger, 0, collect_open, &all, err);

    if (result == 0 && all.count > 0) {
        /* who was killed may have sent a whole message that legacy is still
           storing */
        nanosleep(&settle, NULL);
        result = ledger_make_durable(b->ledger, err);
        if (result == 0)
            result = back_open_legacy(b, err);
    }
    for (size_t i = 0; i < all.count && result == 0; i++)
        result = settle_one(b, all.folders[i], &all.items[i], err);
    free(all.items);
    free(all.folders);
    return result;
}
