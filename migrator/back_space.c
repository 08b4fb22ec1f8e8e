/*
 * Room for UIDs. Local gave out UIDs of its own under legacy's UIDVALIDITY, and
 * clients have seen them; what is appended to legacy must get higher ones.
 * There is no command for that: one small placeholder is appended, copied until
 * UIDNEXT is high enough (each COPY doubles them), and all are expunged again,
 * by their UIDs. All of it only where UIDPLUS tells and takes those UIDs.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/back_parts.h"
#include "migrator/uid_set.h"

#define MARGIN    200 /* what local may give out until the last pass */
#define SPACE_MAX 20000
#define SET_MAX   7000 /* bytes of a set of UIDs in one command */

static const char placeholder[] = "From: <>\r\n"
                                  "Subject: placeholder of mailhaul\r\n"
                                  "\r\n";
#define PLACEHOLDER_SIZE (sizeof placeholder - 1)

static int write_placeholder(struct back *b, struct err *err)
{
    if (ftruncate(b->file.fd, 0) == -1 ||
        pwrite(b->file.fd, placeholder, PLACEHOLDER_SIZE, 0) !=
            (ssize_t)PLACEHOLDER_SIZE)
        return err_set(err, ERR_RETRY, "placeholder: cannot be written");
    return 0;
}

/* The UIDs that COPY gave: the last word of "[COPYUID validity from to]". They
   are expunged by these numbers, so they must be as many as were copied, and
   above what the folder had before. */
static int take_copied(const char *answer, const struct buf *copied,
                       uint32_t first, struct buf *out, struct err *err)
{
    const char *code = answer == NULL ? NULL : strcasestr(answer, "[COPYUID ");
    const char *end = code == NULL ? NULL : strchr(code, ']');
    const char *at = end;

    while (at != NULL && at > code && at[-1] != ' ')
        at--;
    if (at == NULL || at == end)
        return err_set(err, ERR_ITEM, "COPY tells no UIDs");
    if (uid_set_count(at, (size_t)(end - at), first) !=
        uid_set_count(copied->bytes, copied->used, first))
        return err_set(err, ERR_ITEM, "COPY tells UIDs that cannot be");
    return buf_append(out, at, (size_t)(end - at)) == -1
               ? err_set(err, ERR_ITEM, "COPY tells too many UIDs")
               : 0;
}

/* Expunge these and nothing else. */
static int remove_set(struct back *b, const char *folder, const char *set,
                      struct err *err)
{
    size_t size = strlen(set) + 40;
    char *store = mem_alloc(size);
    int result;

    snprintf(store, size, "%s +FLAGS.SILENT (\\Deleted)", set);
    result =
        store_imap_command(b->store, folder, "UID STORE ", store, NULL, err);
    if (result == 0)
        result = store_imap_command(b->store, folder, "UID EXPUNGE ", set, NULL,
                                    err);
    free(store);
    return result;
}

static int uidnext_of(struct back *b, const char *folder, uint32_t *out,
                      struct err *err)
{
    return store_imap_folder(b->store, folder, false, out, err);
}

struct room {
    const char *folder;     /* borrowed */
    uint32_t first, target; /* UIDNEXT before, and as it shall be */
};

/* Double what `all` names until UIDNEXT is what is wanted. */
static int multiply(struct back *b, const struct room *room, struct buf *all,
                    struct err *err)
{
    const char *folder = room->folder;
    const char *answer;
    uint32_t uidnext;

    for (int round = 0; round < 16; round++) {
        struct buf more;
        char *rest;
        size_t size;
        int result;

        if (uidnext_of(b, folder, &uidnext, err) == -1)
            return -1;
        if (uidnext >= room->target || all->used > SET_MAX)
            return 0;
        size = all->used + strlen(folder) + 40;
        rest = mem_alloc(size);
        snprintf(rest, size, "%.*s \"%s\"", (int)all->used, all->bytes, folder);
        result = store_imap_command(b->store, folder, "UID COPY ", rest,
                                    &answer, err);
        free(rest);
        buf_init(&more, SET_MAX);
        if (result == 0)
            result = take_copied(answer, all, room->first, &more, err);
        if (result == 0 && (buf_append(all, ",", 1) == -1 ||
                            buf_append(all, more.bytes, more.used) == -1))
            result = err_set(err, ERR_ITEM, "too many ranges of UIDs");
        buf_release(&more);
        if (result == -1)
            return -1;
    }
    return 0;
}

static int note_space(struct back *b, int64_t folder, uint32_t first,
                      bool is_open, struct err *err)
{
    const struct ledger_back space = {.state = LEDGER_BACK_SPACE,
                                      .first = first};

    return is_open ? ledger_back_save(b->ledger, folder, &space, err)
                   : ledger_back_remove(b->ledger, folder, 0, 0, err);
}

/* One placeholder, its copies, and their end. */
static int fill_space(struct back_folder *f, uint32_t uidnext, uint32_t target,
                      struct err *err)
{
    struct back *b = f->back;
    const char *name = f->row->name;
    const struct room room = {name, uidnext, target};
    const struct store_append append = {
        name, "\\Seen \\Deleted", time(NULL), 0, b->file.fd, PLACEHOLDER_SIZE};
    bool is_refused;
    struct buf all;
    uint32_t uid = 0;
    int result;

    if (write_placeholder(b, err) == -1 ||
        note_space(b, f->row->id, uidnext, true, err) == -1 ||
        store_imap_append(b->store, &append, &uid, &is_refused, err) == -1)
        return -1;
    if (uid < uidnext) /* of another message, or 0 */
        return err_set(err, ERR_ITEM, "APPEND tells no UID");
    buf_init(&all, 2 * SET_MAX);
    buf_printf(&all, "%u", uid);
    result = multiply(b, &room, &all, err);
    if (result == 0) {
        char *set = mem_dup(all.bytes, all.used + 1);

        set[all.used] = '\0';
        result = remove_set(b, name, set, err);
        free(set);
    }
    buf_release(&all);
    return result == -1 ? -1 : note_space(b, f->row->id, uidnext, false, err);
}

int back_make_space(struct back_folder *f, struct err *err)
{
    struct back *b = f->back;
    uint32_t target = f->local.uidnext, uidnext;

    if (uidnext_of(b, f->row->name, &uidnext, err) == -1)
        return -1;
    if (!f->is_same || uidnext == 0 || uidnext >= target)
        return 0;
    if (!b->job->is_last)
        target += MARGIN;
    if (!store_imap_has(b->store, "UIDPLUS") || target - uidnext > SPACE_MAX) {
        back_tell(b,
                  "%s: clients may overlook its new mail: its UIDs are lower "
                  "than those the new server gave out",
                  f->local_name);
        return 0;
    }
    log_info("back folder=\"%s\" uidnext=%u wanted=%u", log_safe(f->row->name),
             uidnext, target);
    if (fill_space(f, uidnext, target, err) == 0)
        return 0;
    if (err->kind != ERR_ITEM)
        return -1;
    back_tell(b, "%s: clients may overlook its new mail: %s", f->local_name,
              err->text);
    return back_settle_space(b, f->row->id, uidnext, err);
}

/* ---- after a crash ---- */

struct search {
    uint32_t *uids; /* owned */
    size_t count;
};

static int on_candidate(void *ctx, const struct source_message *m,
                        struct err *err)
{
    struct search *s = ctx;

    (void)err;
    if (m->size == PLACEHOLDER_SIZE) {
        s->uids = mem_grow(s->uids, (s->count + 1) * sizeof *s->uids);
        s->uids[s->count++] = m->uid;
    }
    return 0;
}

static int compare_uid(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Of these all that are placeholders, by their bytes. */
static int remove_placeholders(struct back *b, const char *name,
                               const struct search *s, struct err *err)
{
    struct body_digest digest;
    uint8_t wanted[LEDGER_DIGEST_SIZE];
    char set[16];

    body_digest_init(&digest);
    body_digest_add(&digest, placeholder, PLACEHOLDER_SIZE);
    body_digest_take(&digest, wanted);
    body_digest_release(&digest);
    for (size_t i = 0; i < s->count; i++) {
        if (message_file_fetch(&b->file, b->legacy, s->uids[i],
                               PLACEHOLDER_SIZE, err) == -1) {
            if (err->kind != ERR_ITEM)
                return -1;
            continue;
        }
        if (memcmp(b->file.digest, wanted, sizeof wanted) != 0)
            continue;
        snprintf(set, sizeof set, "%u", s->uids[i]);
        if (remove_set(b, name, set, err) == -1)
            return -1;
    }
    return 0;
}

int back_settle_space(struct back *b, int64_t folder, uint32_t first,
                      struct err *err)
{
    struct source_status status;
    struct search s = {0};
    const char *name = NULL;
    uint32_t *uids = NULL;
    size_t count = 0, skip = 0;
    int result;

    for (size_t i = 0; i < b->folder_count; i++)
        if (b->folders[i].id == folder)
            name = b->folders[i].name;
    if (name == NULL || source_examine(b->legacy, name, &status, err) == -1 ||
        source_uids(b->legacy, &uids, &count, err) == -1)
        return -1;
    while (skip < count && uids[skip] < first)
        skip++;
    result = source_metadata(b->legacy, uids + skip, count - skip, true,
                             on_candidate, &s, err);
    free(uids);
    if (result == 0 && s.count > 0) {
        qsort(s.uids, s.count, sizeof *s.uids, compare_uid);
        result = remove_placeholders(b, name, &s, err);
    }
    free(s.uids);
    if (result == -1)
        return -1;
    return ledger_back_remove(b->ledger, folder, 0, 0, err);
}
