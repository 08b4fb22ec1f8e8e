#include "migrator/trail_match.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"

struct known {
    uint8_t digest[LEDGER_DIGEST_SIZE];
    uint32_t local_uid;
    bool is_intent; /* an APPEND was begun: it is still to be looked for */
    bool is_taken;  /* by a message of legacy; one that is there twice is two */
};

struct match {
    const struct trail_match *m;
    struct known *known; /* owned; by digest */
    size_t known_count, known_size;
    struct ledger_message *rows; /* owned: what is written at the end */
    size_t row_count;
};

static int on_row(void *ctx, const struct ledger_message *m, struct err *err)
{
    struct match *match = ctx;
    struct known *k;

    (void)err;
    if (m->state == LEDGER_SET_ASIDE)
        return 0;
    if (match->known_count == match->known_size) {
        match->known_size =
            match->known_size == 0 ? 256 : 2 * match->known_size;
        match->known =
            mem_grow(match->known, match->known_size * sizeof(*match->known));
    }
    k = &match->known[match->known_count++];
    *k = (struct known){.local_uid =
                            m->state == LEDGER_STORED ? m->uid : m->local_uid,
                        .is_intent = m->state == LEDGER_INTENT};
    memcpy(k->digest, m->digest, sizeof(k->digest));
    return 0;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct known *)a)->digest,
                  ((const struct known *)b)->digest, LEDGER_DIGEST_SIZE);
}

static struct known *take(struct match *match, const uint8_t *digest)
{
    struct known key = {.local_uid = 0};
    struct known *k;

    if (match->known_count == 0)
        return NULL;
    memcpy(key.digest, digest, sizeof(key.digest));
    k = bsearch(&key, match->known, match->known_count, sizeof(key), by_digest);
    if (k == NULL)
        return NULL;
    while (k > match->known && by_digest(k - 1, &key) == 0)
        k--;
    for (; k < match->known + match->known_count && by_digest(k, &key) == 0;
         k++)
        if (!k->is_taken)
            return k;
    return NULL;
}

/* Of the bytes as they came: what the copying has put into its rows. */
static int exact_digest(const struct message_file *file,
                        uint8_t out[DIGEST_SIZE], struct err *err)
{
    struct digest *digest = digest_new();
    char piece[16384];
    off_t at = 0;
    ssize_t got;

    while ((got = pread(file->fd, piece, sizeof(piece), at)) > 0) {
        digest_add(digest, piece, (size_t)got);
        at += got;
    }
    digest_take(digest, out);
    digest_free(&digest);
    return got == -1 ? err_set(err, ERR_RETRY, "message.body: not readable")
                     : 0;
}

static int match_message(struct match *match, uint32_t uid, struct err *err)
{
    const struct trail_match *m = match->m;
    uint8_t exact[DIGEST_SIZE];
    struct ledger_message *row;
    struct known *k;

    if (message_file_fetch(m->file, m->source, uid, 0, err) == -1) {
        if (err->kind != ERR_ITEM || source_is_broken(m->source))
            return -1;
        err_clear(err); /* the pass itself tries it again, and counts */
        return 0;
    }
    if (exact_digest(m->file, exact, err) == -1)
        return -1;
    k = take(match, exact);
    if (k == NULL)
        k = take(match, m->file->digest);
    if (k == NULL)
        return 0;
    k->is_taken = true;
    row = &match->rows[match->row_count++];
    *row = (struct ledger_message){.uid = uid,
                                   .state = k->is_intent ? LEDGER_INTENT
                                                         : LEDGER_APPENDED,
                                   .size = (uint32_t)m->file->size_bytes,
                                   .vsize = (uint32_t)m->file->vsize,
                                   .local_uid = k->local_uid};
    memcpy(row->digest, m->file->digest, sizeof(row->digest));
    return 0;
}

static int match_all(struct match *match, const uint32_t *uids, size_t count,
                     struct err *err)
{
    match->rows = mem_alloc((count + 1) * sizeof(*match->rows));
    for (size_t i = 0; i < count; i++) {
        if (match_message(match, uids[i], err) == -1)
            return -1;
        if (progress_tell(match->m->progress, match->m->report) == -1)
            return err_set(err, ERR_RETRY,
                           "nobody waits for this job any more");
    }
    return 0;
}

static int write_all(const struct match *match, struct ledger_folder *f,
                     uint32_t uidvalidity, struct err *err)
{
    struct ledger *ledger = match->m->ledger;
    struct ledger_folder next = *f;

    next.uidvalidity = uidvalidity;
    next.uidnext = 0;
    next.is_complete = false;
    next.flip_uidnext = 1; /* what has no row is new, whatever its UID */
    if (ledger_folder_empty(ledger, f->id, err) == -1)
        return -1;
    for (size_t i = 0; i < match->row_count; i++)
        if (ledger_message_save(ledger, f->id, &match->rows[i], err) == -1)
            return -1;
    if (ledger_folder_save(ledger, &next, err) == -1)
        return -1;
    *f = next;
    return 0;
}

static int prepare(struct match *match, const struct ledger_folder *f,
                   struct source_status *status, struct err *err)
{
    uint32_t *uids = NULL;
    size_t count = 0;
    int rc;

    if (ledger_messages(match->m->ledger, f->id, on_row, match, err) == -1)
        return -1;
    if (match->known_count > 0)
        qsort(match->known, match->known_count, sizeof(*match->known),
              by_digest);
    if (source_examine(match->m->source, f->name, status, err) == -1 ||
        source_uids(match->m->source, &uids, &count, err) == -1)
        return -1;
    rc = match_all(match, uids, count, err);
    free(uids);
    return rc;
}

int trail_match_folder(const struct trail_match *m,
                       struct ledger_folder *folder,
                       int (*begin)(void *ctx, struct err *err), void *ctx,
                       struct err *err)
{
    struct match match = {.m = m};
    struct source_status status = {0};
    int rc = prepare(&match, folder, &status, err);

    if (rc == 0)
        rc = begin(ctx, err);
    if (rc == 0) {
        rc = write_all(&match, folder, status.uidvalidity, err);
        if (rc == 0)
            rc = ledger_commit(m->ledger, err);
        else
            ledger_rollback(m->ledger);
    }
    if (rc == 0)
        log_info("trail folder=\"%s\" made anew uidvalidity=%u known=%zu",
                 log_safe(folder->name), status.uidvalidity, match.row_count);
    free(match.known);
    free(match.rows);
    return rc;
}
