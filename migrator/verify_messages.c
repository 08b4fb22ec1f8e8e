/*
 * The messages of one folder on both sides: metadata by UID, bodies by digest,
 * and what arrived on legacy after the flip by digest alone.
 */
#include "migrator/verify_parts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define VERIFY_BATCH 500
#define READ_PIECE   65536

/* What is still to be asked of legacy for this batch. */
struct wanted {
    struct verify *v;
    const struct verify_folder *folder;
    uint32_t bodies[VERIFY_BATCH]; /* to be compared with their file */
    size_t body_count;
    uint32_t missing[VERIFY_BATCH]; /* to be looked for by digest */
    int64_t missing_dates[VERIFY_BATCH];
    size_t missing_count;
    /* the body that is arriving */
    struct digest *exact; /* owned */
    struct body_digest body;
    int64_t size;
    size_t ended;
};

/* The digest and size of a file; false: it cannot be read. is_exact: of its
   bytes, else that of body_digest.h. */
static bool digest_file(int fd, bool is_exact, uint8_t out[DIGEST_SIZE],
                        int64_t *size_out)
{
    struct digest *exact = digest_new();
    struct body_digest body;
    char *piece = mem_alloc(READ_PIECE);
    ssize_t got;

    body_digest_init(&body);
    *size_out = 0;
    while ((got = read(fd, piece, READ_PIECE)) > 0) {
        *size_out += got;
        if (is_exact)
            digest_add(exact, piece, (size_t)got);
        else
            body_digest_add(&body, piece, (size_t)got);
    }
    memset(out, 0, DIGEST_SIZE);
    if (is_exact)
        digest_take(exact, out);
    else
        body_digest_take(&body, out);
    body_digest_release(&body);
    digest_free(&exact);
    free(piece);
    return got == 0;
}

/* ---- bodies ---- */

static int on_piece(void *ctx, const char *bytes, size_t length,
                    struct err *err)
{
    struct wanted *w = ctx;

    (void)err;
    w->size += (int64_t)length;
    digest_add(w->exact, bytes, length);
    body_digest_add(&w->body, bytes, length);
    return 0;
}

static int tell(const struct verify *v, struct err *err)
{
    if (progress_tell(v->progress, v->report) == -1)
        return err_set(err, ERR_RETRY, "nobody waits for this job any more");
    return 0;
}

static int on_body(void *ctx, const struct source_message *message,
                   struct err *err)
{
    struct wanted *w = ctx;
    uint32_t uid = message->uid;
    const struct verify_folder *f = w->folder;
    const struct maildir_message *m = maildir_find(&f->local, uid);
    uint8_t legacy[DIGEST_SIZE], local[DIGEST_SIZE];
    uint8_t ignored[LEDGER_DIGEST_SIZE];
    int64_t legacy_size = w->size, local_size;
    int fd;

    digest_take(w->exact, legacy);
    body_digest_take(&w->body, ignored);
    w->size = 0;
    w->ended++;
    fd = m != NULL ? maildir_open_message(&f->local, m) : -1;
    if (fd == -1) {
        if (!w->v->is_flipped)
            verify_differs(w->v, "%s/uid %u: missing locally", f->name, uid);
        return 0;
    }
    if (!digest_file(fd, true, local, &local_size))
        verify_differs(w->v, "%s/uid %u: cannot be read locally", f->name, uid);
    else if (legacy_size != local_size)
        verify_differs(w->v, "%s/uid %u: %lld bytes on legacy, %lld locally",
                       f->name, uid, (long long)legacy_size,
                       (long long)local_size);
    else if (memcmp(legacy, local, sizeof legacy) != 0)
        verify_differs(w->v, "%s/uid %u: bytes differ", f->name, uid);
    close(fd);
    w->v->report->bytes += local_size;
    return tell(w->v, err);
}

static bool file_has(const char *path, const uint8_t *digest)
{
    uint8_t value[DIGEST_SIZE];
    int64_t size;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_same;

    if (fd == -1)
        return false;
    is_same = digest_file(fd, false, value, &size) &&
              memcmp(value, digest, LEDGER_DIGEST_SIZE) == 0;
    close(fd);
    return is_same;
}

static bool found_by_digest(const struct verify *v, int64_t vsize,
                            const uint8_t *digest)
{
    size_t low = 0, high = v->file_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (v->files[middle].vsize < vsize)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i < v->file_count && v->files[i].vsize == vsize; i++)
        if (file_has(v->files[i].path, digest))
            return true;
    /* names without a size stand first */
    for (size_t i = 0; i < v->file_count && v->files[i].vsize == -1; i++)
        if (file_has(v->files[i].path, digest))
            return true;
    return false;
}

static int on_missing(void *ctx, const struct source_message *message,
                      struct err *err)
{
    struct wanted *w = ctx;
    uint32_t uid = message->uid;
    const struct verify_folder *f = w->folder;
    int64_t vsize = (int64_t)body_digest_vsize(&w->body), date = 0;
    uint8_t digest[LEDGER_DIGEST_SIZE], ignored[DIGEST_SIZE];

    body_digest_take(&w->body, digest);
    digest_take(w->exact, ignored);
    w->size = 0;
    w->ended++;
    for (size_t i = 0; i < w->missing_count; i++)
        if (w->missing[i] == uid)
            date = w->missing_dates[i];
    if (found_by_digest(w->v, vsize, digest))
        return tell(w->v, err);
    /* what was there at the flip was copied and checked then: that it is gone
       is the user's doing */
    if (uid <= f->last_copied ||
        (uid < f->first_late && date < w->v->flipped_at - 3600))
        verify_note(w->v, "%s/uid %u: not here any more", f->name, uid);
    else
        verify_differs(w->v, "%s/uid %u: arrived after the flip, not found",
                       f->name, uid);
    return tell(w->v, err);
}

static int fetch(struct wanted *w, const uint32_t *uids, size_t count,
                 const struct source_sink *sink, struct err *err)
{
    int result;

    if (count == 0)
        return 0;
    w->size = 0;
    w->ended = 0;
    w->exact = digest_new();
    body_digest_init(&w->body);
    result = source_bodies(w->v->source, uids, count, sink, w, err);
    body_digest_release(&w->body);
    digest_free(&w->exact);
    if (result == -1 && err->kind != ERR_ITEM)
        return -1;
    if (w->ended < count)
        verify_differs(w->v, "%s: legacy did not send %zu messages",
                       w->folder->name, count - w->ended);
    return 0;
}

/* ---- metadata ---- */

static bool has_keyword(const struct verify_folder *f,
                        const struct maildir_message *m, const char *word)
{
    for (unsigned i = 0; i < MAILDIR_KEYWORDS; i++)
        if ((m->letters & 1u << i) && f->local.keywords[i] != NULL &&
            strcasecmp(f->local.keywords[i], word) == 0)
            return true;
    return false;
}

static bool same_keywords(const struct verify_folder *f,
                          const struct maildir_message *m,
                          const struct source_message *legacy)
{
    if ((unsigned)__builtin_popcount(m->letters) != legacy->keyword_count)
        return false;
    for (unsigned i = 0; i < legacy->keyword_count; i++)
        if (!has_keyword(f, m, legacy->keywords[i]))
            return false;
    return true;
}

static void compare_flags(struct wanted *w, const struct maildir_message *m,
                          const struct source_message *legacy)
{
    const struct verify_folder *f = w->folder;

    if (m->flags == legacy->flags && same_keywords(f, m, legacy))
        return;
    if (w->v->is_flipped) /* the user works there */
        verify_note(w->v, "%s/uid %u: other flags", f->name, legacy->uid);
    else if (m->flags != legacy->flags)
        verify_differs(w->v, "%s/uid %u: flags differ", f->name, legacy->uid);
    else
        verify_differs(w->v, "%s/uid %u: keywords differ", f->name,
                       legacy->uid);
}

/* The date, and whether legacy's size (a hint) is that of the file. */
static void compare_file(struct wanted *w, const struct maildir_message *m,
                         const struct source_message *legacy)
{
    const struct verify_folder *f = w->folder;
    int fd = maildir_open_message(&f->local, m);
    struct stat st;
    bool is_size_good;

    if (fd == -1 || fstat(fd, &st) == -1) {
        verify_differs(w->v, "%s/uid %u: missing locally", f->name,
                       legacy->uid);
        if (fd != -1)
            close(fd);
        return;
    }
    close(fd);
    if (st.st_mtime != legacy->date)
        verify_differs(w->v, "%s/uid %u: date is %lld on legacy, %lld locally",
                       f->name, legacy->uid, (long long)legacy->date,
                       (long long)st.st_mtime);
    is_size_good = st.st_size == legacy->size ||
                   (m->vsize == legacy->size && m->size == st.st_size);
    if (w->v->job->is_full || !is_size_good)
        w->bodies[w->body_count++] = legacy->uid;
}

static int on_message(void *ctx, const struct source_message *legacy,
                      struct err *err)
{
    struct wanted *w = ctx;
    const struct verify_folder *f = w->folder;
    const struct maildir_message *m = maildir_find(&f->local, legacy->uid);

    (void)err;
    if (!legacy->has_flags || w->body_count == VERIFY_BATCH ||
        w->missing_count == VERIFY_BATCH)
        return 0;
    /* after the flip local gives out UIDs of its own */
    if (m != NULL && (!w->v->is_flipped || m->is_copied)) {
        w->v->report->messages++;
        compare_flags(w, m, legacy);
        compare_file(w, m, legacy);
    } else if (!w->v->is_flipped) {
        verify_differs(w->v, "%s/uid %u: missing locally", f->name,
                       legacy->uid);
    } else {
        w->missing_dates[w->missing_count] = legacy->date;
        w->missing[w->missing_count++] = legacy->uid;
    }
    return 0;
}

static int compare_batch(struct wanted *w, const uint32_t *uids, size_t count,
                         struct err *err)
{
    static const struct source_sink same = {on_piece, on_body};
    static const struct source_sink search = {on_piece, on_missing};

    w->body_count = w->missing_count = 0;
    if (source_metadata(w->v->source, uids, count, true, on_message, w, err) ==
        -1)
        return -1;
    if (fetch(w, w->bodies, w->body_count, &same, err) == -1 ||
        fetch(w, w->missing, w->missing_count, &search, err) == -1)
        return -1;
    return tell(w->v, err);
}

/* What only local has. Both lists ascend. */
static void compare_surplus(struct verify *v, const struct verify_folder *f,
                            const uint32_t *uids, size_t count)
{
    size_t at = 0;

    for (size_t i = 0; i < f->local.count; i++) {
        const struct maildir_message *m = &f->local.messages[i];

        if (m->uid == 0) {
            if (!v->is_flipped)
                verify_differs(v, "%s: file %s is not in dovecot-uidlist",
                               f->name, log_safe(m->name));
            continue;
        }
        while (at < count && uids[at] < m->uid)
            at++;
        if ((at < count && uids[at] == m->uid) ||
            (v->is_flipped && !m->is_copied))
            continue;
        if (v->is_flipped)
            verify_note(v, "%s/uid %u: no longer on legacy", f->name, m->uid);
        else
            verify_differs(v, "%s/uid %u: only local has it", f->name, m->uid);
    }
}

int verify_messages(struct verify *v, const struct verify_folder *f,
                    const uint32_t *uids, size_t count, struct err *err)
{
    struct wanted *w = mem_alloc(sizeof *w);
    int result = 0;

    w->v = v;
    w->folder = f;
    for (size_t i = 0; i < count && result == 0; i += VERIFY_BATCH) {
        size_t part = count - i < VERIFY_BATCH ? count - i : VERIFY_BATCH;

        result = compare_batch(w, uids + i, part, err);
    }
    if (result == 0)
        compare_surplus(v, f, uids, count);
    free(w);
    return result;
}

int verify_bodies(struct verify *v, const struct verify_folder *f,
                  const uint32_t *uids, size_t count, struct err *err)
{
    static const struct source_sink same = {on_piece, on_body};
    struct wanted *w = mem_alloc(sizeof *w);
    int result;

    w->v = v;
    w->folder = f;
    result = fetch(w, uids, count, &same, err);
    free(w);
    return result;
}
