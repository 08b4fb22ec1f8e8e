/*
 * Local as a source: what is there, by digest. Only reads.
 */
#include "migrator/trail_local.h"

#include <stdlib.h>
#include <string.h>

#include "migrator/body_digest.h"

struct search {
    struct body_digest body;
    const uint8_t *digest; /* borrowed */
    uint32_t found;
};

int trail_local_open(const struct migration_job *job, struct source **out,
                     struct err *err)
{
    struct migration_job local = *job; /* what it owns stays job's */

    if (job->local_imap.host[0] == '\0')
        return err_set(err, ERR_SETUP, "local.imap is not set");
    local.legacy_imap = job->local_imap;
    memcpy(local.legacy_user, job->address, sizeof local.legacy_user);
    local.master_login[0] = '\0';
    memcpy(local.master_user, job->local_master, sizeof local.master_user);
    if (migration_job_local_password(job, err) == NULL)
        return -1;
    local.password = *migration_job_local_password(job, err);
    if (source_open(&local, out, err) == -1)
        return err_prefix(err, "local");
    return 0;
}

static int on_piece(void *ctx, const char *bytes, size_t length,
                    struct err *err)
{
    struct search *s = ctx;

    (void)err;
    body_digest_add(&s->body, bytes, length);
    return 0;
}

static int on_end(void *ctx, const struct source_message *message,
                  struct err *err)
{
    struct search *s = ctx;
    uint8_t digest[LEDGER_DIGEST_SIZE];

    (void)err;
    body_digest_take(&s->body, digest);
    if (s->found == 0 && memcmp(digest, s->digest, sizeof digest) == 0)
        s->found = message->uid;
    return 0;
}

static int search_bodies(struct source *local, const uint32_t *uids,
                         size_t count, struct search *s, struct err *err)
{
    static const struct source_sink sink = {on_piece, on_end};
    int result;

    body_digest_init(&s->body);
    result = source_bodies(local, uids, count, &sink, s, err);
    body_digest_release(&s->body);
    return result;
}

int trail_local_find(struct source *local, const char *folder, uint32_t first,
                     const uint8_t digest[LEDGER_DIGEST_SIZE],
                     uint32_t *uid_out, struct err *err)
{
    struct source_status status;
    struct search s = {.digest = digest};
    uint32_t *uids = NULL;
    size_t count = 0, skip = 0;
    int result = 0;

    *uid_out = 0;
    if (source_examine(local, folder, &status, err) == -1)
        return err->kind == ERR_ITEM ? 0 : -1;
    if (source_uids(local, &uids, &count, err) == -1)
        return -1;
    /* a folder made anew counts from 1 again */
    if (status.uidnext != 0 && status.uidnext < first)
        first = 1;
    while (skip < count && uids[skip] < first)
        skip++;
    if (skip < count)
        result = search_bodies(local, uids + skip, count - skip, &s, err);
    free(uids);
    *uid_out = s.found;
    return result;
}
