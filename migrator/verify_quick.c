#include "migrator/verify_quick.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/log.h"
#include "migrator/store_maildir.h"

struct quick {
    struct verify *v;
    const struct verify_quick *q;
    struct verify_folder folder;
    uint32_t suspects[VERIFY_QUICK_BODIES]; /* of other size, says legacy */
    size_t suspect_count, suspect_max;
};

/* ---- which messages there are ---- */

static int compare_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static bool is_aside(const struct verify_quick *q, uint32_t uid)
{
    return q->aside_count > 0 &&
           bsearch(&uid, q->aside, q->aside_count, sizeof *q->aside,
                   compare_number) != NULL;
}

static void judge_missing(struct quick *k, uint32_t uid)
{
    if ((k->q->uidnext != 0 && uid >= k->q->uidnext) || is_aside(k->q, uid))
        return;
    verify_differs(k->v, "%s/uid %u: missing locally", log_safe(k->q->name),
                   uid);
}

/* What the local server would have to give a UID of its own. A file that is
   none of ours is somebody's mail, and no difference. */
static void judge_unlisted(struct quick *k, const struct maildir_message *m)
{
    if (strstr(m->name, ".mailhaul,") != NULL)
        verify_differs(k->v, "%s: file %s is not in dovecot-uidlist",
                       log_safe(k->q->name), log_safe(m->name));
}

static void compare_uids(struct quick *k, const uint32_t *uids, size_t count)
{
    const struct maildir_folder *local = &k->folder.local;
    size_t at = 0;

    for (size_t i = 0; i < local->count; i++) {
        const struct maildir_message *m = &local->messages[i];

        if (m->uid == 0) {
            judge_unlisted(k, m);
            continue;
        }
        while (at < count && uids[at] < m->uid)
            judge_missing(k, uids[at++]);
        if (at < count && uids[at] == m->uid)
            at++;
        else
            verify_differs(k->v, "%s/uid %u: only local has it",
                           log_safe(k->q->name), m->uid);
    }
    while (at < count)
        judge_missing(k, uids[at++]);
}

/* A file that was cut would be served so. */
static void compare_file_sizes(struct quick *k)
{
    const struct maildir_folder *local = &k->folder.local;

    for (size_t i = 0; i < local->count; i++) {
        const struct maildir_message *m = &local->messages[i];
        char path[PATH_MAX];
        struct stat st;

        if (m->uid == 0 || m->size < 0)
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", local->path,
                 m->is_new ? "new" : "cur", m->name);
        if (stat(path, &st) == -1)
            verify_differs(k->v, "%s/uid %u: %s", log_safe(k->q->name), m->uid,
                           strerror(errno));
        else if (st.st_size != m->size)
            verify_differs(k->v,
                           "%s/uid %u: file has %lld bytes, its name says %lld",
                           log_safe(k->q->name), m->uid, (long long)st.st_size,
                           (long long)m->size);
    }
}

/* ---- flags, keywords, sizes ---- */

static int letter_of(const struct maildir_folder *local, const char *keyword)
{
    for (int i = 0; i < MAILDIR_KEYWORDS; i++)
        if (local->keywords[i] != NULL &&
            strcasecmp(local->keywords[i], keyword) == 0)
            return i;
    return -1;
}

/* Those that have no letter are given to local after the flip, by IMAP. */
static bool same_keywords(const struct maildir_folder *local,
                          const struct maildir_message *m,
                          const struct source_message *legacy)
{
    bool is_full = local->keywords[MAILDIR_KEYWORDS - 1] != NULL;
    uint32_t letters = 0;

    for (unsigned i = 0; i < legacy->keyword_count; i++) {
        int letter = letter_of(local, legacy->keywords[i]);

        if (letter == -1 && !is_full)
            return false;
        if (letter != -1)
            letters |= 1u << letter;
    }
    return letters == m->letters;
}

static int on_message(void *ctx, const struct source_message *legacy,
                      struct err *err)
{
    struct quick *k = ctx;
    const struct maildir_message *m =
        maildir_find(&k->folder.local, legacy->uid);

    (void)err;
    if (m == NULL || !legacy->has_flags)
        return 0;
    if (m->flags != legacy->flags)
        verify_differs(k->v, "%s/uid %u: flags differ", log_safe(k->q->name),
                       legacy->uid);
    else if (!same_keywords(&k->folder.local, m, legacy))
        verify_differs(k->v, "%s/uid %u: keywords differ", log_safe(k->q->name),
                       legacy->uid);
    /* old servers tell sizes that are not those of what they send: the bodies
       of some decide */
    if (legacy->size != m->vsize && legacy->size != m->size &&
        k->suspect_count < k->suspect_max)
        k->suspects[k->suspect_count++] = legacy->uid;
    return 0;
}

static int compare_metadata(struct quick *k, const uint32_t *uids, size_t count,
                            unsigned *bodies, struct err *err)
{
    k->suspect_max =
        *bodies < VERIFY_QUICK_BODIES ? VERIFY_QUICK_BODIES - *bodies : 0;
    if (source_metadata(k->v->source, uids, count, true, on_message, k, err) ==
        -1)
        return -1;
    *bodies += (unsigned)k->suspect_count;
    return verify_bodies(k->v, &k->folder, k->suspects, k->suspect_count, err);
}

/* ---- one folder ---- */

static void compare_header(struct quick *k, const struct source_status *status)
{
    const struct maildir_folder *local = &k->folder.local;

    if (local->uidvalidity != status->uidvalidity)
        verify_differs(k->v, "%s: UIDVALIDITY is %u on legacy, %u locally",
                       log_safe(k->q->name), status->uidvalidity,
                       local->uidvalidity);
    if (local->uidnext < k->q->uidnext)
        verify_differs(k->v, "%s: UIDNEXT is %u on legacy, %u locally",
                       log_safe(k->q->name), k->q->uidnext, local->uidnext);
}

static int compare_sides(struct quick *k, unsigned *bodies, struct err *err)
{
    struct source_status status;
    uint32_t *uids = NULL;
    size_t count = 0;
    int result = 0;

    if (source_examine(k->v->source, k->q->name, &status, err) == -1 ||
        source_uids(k->v->source, &uids, &count, err) == -1) {
        if (err->kind != ERR_ITEM || source_is_broken(k->v->source))
            return -1;
        verify_differs(k->v, "%s: %s", log_safe(k->q->name), err->text);
        err_clear(err);
        return 0;
    }
    compare_header(k, &status);
    compare_uids(k, uids, count);
    compare_file_sizes(k);
    if (k->q->with_metadata && count > 0)
        result = compare_metadata(k, uids, count, bodies, err);
    free(uids);
    return result;
}

int verify_quick_folder(struct verify *v, const struct verify_quick *q,
                        unsigned *bodies, struct err *err)
{
    struct quick k = {.v = v, .q = q, .folder = {.name = q->name}};
    int result;

    if (maildir_read(v->job->maildir, q->directory, &k.folder.local, err) ==
        -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        err_clear(err);
        verify_differs(v, "%s: folder is missing locally", log_safe(q->name));
        return 0;
    }
    result = compare_sides(&k, bodies, err);
    maildir_folder_release(&k.folder.local);
    return result;
}
