#include "migrator/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/mailbox_id.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/body_digest.h"
#include "migrator/plan.h"

#define SAMPLE_MAX    100  /* messages of ours that are looked for */
#define CANDIDATE_MAX 2000 /* bodies fetched for that, in all */

/* A message that was copied, and is looked for on legacy. */
struct wanted {
    uint8_t digest[LEDGER_DIGEST_SIZE];
    uint32_t size, vsize;
    int64_t date;
    bool is_found;
};

struct search {
    const struct identity *identity;
    struct wanted items[SAMPLE_MAX];
    unsigned count, found;
    int64_t stride, position; /* every so many rows one is taken */
    uint32_t *uids;           /* candidates of the open folder; owned */
    size_t uid_count, fetched;
    struct digest *exact; /* owned; of the bytes as they come */
    struct body_digest body;
};

static bool is_inbox(const char *name)
{
    return strcasecmp(name, "INBOX") == 0;
}

static const struct ledger_folder *find_inbox(const struct identity *id)
{
    for (size_t i = 0; i < id->folder_count; i++)
        if (is_inbox(id->folders[i].name))
            return &id->folders[i];
    return NULL;
}

/* ---- is every folder another one? ---- */

enum likeness { LIKE_SAME, LIKE_OTHER, LIKE_UNKNOWN };

/* One that was made anew may have the same UIDVALIDITY (old servers have a
   fixed one), but it counts from 1 again. */
static int compare_folder(const struct identity *id,
                          const struct ledger_folder *f, enum likeness *out,
                          struct err *err)
{
    struct source_status status = {0};
    int rc = source_status(id->source, f->name, &status, err);

    *out = LIKE_UNKNOWN;
    if (rc == 0 && status.uidvalidity == 0)
        rc = source_examine(id->source, f->name, &status, err);
    if (rc == -1 && err->kind != ERR_ITEM)
        return -1;
    if (rc == -1)
        err_clear(err);
    else if (status.uidvalidity != 0)
        *out = status.uidvalidity == f->uidvalidity &&
                       (status.uidnext == 0 || status.uidnext >= f->uidnext)
                   ? LIKE_SAME
                   : LIKE_OTHER;
    return 0;
}

static bool is_listed(const struct source_folder_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].exists && list->items[i].is_selectable &&
            strcmp(list->items[i].name, name) == 0)
            return true;
    return false;
}

/* 1: none of the folders that held something is the one we know. */
static int compare_all(const struct identity *id,
                       const struct source_folder_list *list, struct err *err)
{
    struct plan_identity found = {0};

    for (size_t i = 0; i < id->folder_count; i++) {
        const struct ledger_folder *f = &id->folders[i];
        enum likeness likeness = LIKE_OTHER;
        int64_t messages;

        if (f->uidvalidity == 0)
            continue;
        if (is_listed(list, f->name) &&
            compare_folder(id, f, &likeness, err) == -1)
            return -1;
        if (likeness == LIKE_SAME)
            return 0;
        if (ledger_totals(id->ledger, f->id, &messages, NULL, NULL, err) == -1)
            return -1;
        if (messages == 0 || likeness == LIKE_UNKNOWN)
            continue;
        found.known++;
        found.changed++;
    }
    return plan_is_stranger(&found);
}

/* ---- looking for what was copied ---- */

static int take_sample(void *ctx, const struct ledger_message *m,
                       struct err *err)
{
    struct search *s = ctx;
    struct wanted *w;

    (void)err;
    if (m->state == LEDGER_SET_ASIDE || m->state == LEDGER_INTENT)
        return 0;
    if (s->position++ % s->stride != 0 || s->count == SAMPLE_MAX)
        return 0;
    w = &s->items[s->count++];
    *w = (struct wanted){.size = m->size, .vsize = m->vsize, .date = m->date};
    memcpy(w->digest, m->digest, sizeof(w->digest));
    return 0;
}

static int sample_all(struct search *s, struct err *err)
{
    const struct identity *id = s->identity;
    int64_t messages;

    if (ledger_totals(id->ledger, 0, &messages, NULL, NULL, err) == -1)
        return -1;
    s->stride = (messages + SAMPLE_MAX - 1) / SAMPLE_MAX;
    if (s->stride == 0)
        s->stride = 1;
    for (size_t i = 0; i < id->folder_count; i++)
        if (ledger_messages(id->ledger, id->folders[i].id, take_sample, s,
                            err) == -1)
            return -1;
    return 0;
}

/* By its size, or (a size may be wrong, or a date new) by its date. */
static int pick(void *ctx, const struct source_message *m, struct err *err)
{
    struct search *s = ctx;

    (void)err;
    if (s->fetched + s->uid_count == CANDIDATE_MAX)
        return 0;
    for (unsigned i = 0; i < s->count; i++) {
        const struct wanted *w = &s->items[i];

        if (!w->is_found &&
            (w->vsize == m->size || w->size == m->size || w->date == m->date)) {
            s->uids[s->uid_count++] = m->uid;
            return 0;
        }
    }
    return 0;
}

static int on_piece(void *ctx, const char *bytes, size_t length,
                    struct err *err)
{
    struct search *s = ctx;

    (void)err;
    digest_add(s->exact, bytes, length);
    body_digest_add(&s->body, bytes, length);
    return 0;
}

/* Rows of the copying hold the digest of the bytes, those of the trail the one
   of body_digest.h. */
static int on_end(void *ctx, const struct source_message *message,
                  struct err *err)
{
    struct search *s = ctx;
    uint8_t exact[DIGEST_SIZE], body[LEDGER_DIGEST_SIZE];

    (void)message;
    (void)err;
    digest_take(s->exact, exact);
    body_digest_take(&s->body, body);
    for (unsigned i = 0; i < s->count; i++) {
        struct wanted *w = &s->items[i];

        if (w->is_found || (memcmp(w->digest, exact, sizeof(body)) != 0 &&
                            memcmp(w->digest, body, sizeof(body)) != 0))
            continue;
        w->is_found = true;
        s->found++;
        return 0;
    }
    return 0;
}

static const struct source_sink sink = {on_piece, on_end};

static int by_uid(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int search_open_folder(struct search *s, struct err *err)
{
    struct source *source = s->identity->source;
    uint32_t *uids;
    size_t count;
    int rc;

    if (source_uids(source, &uids, &count, err) == -1)
        return -1;
    s->uid_count = 0;
    rc = count == 0 ? 0
                    : source_metadata(source, uids, count, true, pick, s, err);
    free(uids);
    if (rc == -1 || s->uid_count == 0)
        return rc;
    qsort(s->uids, s->uid_count, sizeof(*s->uids), by_uid);
    s->fetched += s->uid_count;
    return source_bodies(source, s->uids, s->uid_count, &sink, s, err);
}

static int search_folder(struct search *s, const char *name, struct err *err)
{
    struct source_status status;

    if (source_examine(s->identity->source, name, &status, err) == 0 &&
        search_open_folder(s, err) == 0)
        return 0;
    if (err->kind != ERR_ITEM || source_is_broken(s->identity->source))
        return -1;
    log_info("%s identity folder=%s left out: %s", s->identity->job->address,
             log_safe(name), log_safe(err->text));
    err_clear(err);
    /* half a body may have come */
    digest_free(&s->exact);
    s->exact = digest_new();
    body_digest_reset(&s->body);
    return 0;
}

static int search_all(struct search *s, const struct source_folder_list *list,
                      struct err *err)
{
    int rc = sample_all(s, err);

    s->uids = mem_alloc(CANDIDATE_MAX * sizeof(*s->uids));
    s->exact = digest_new();
    body_digest_init(&s->body);
    for (size_t i = 0; i < list->count && rc == 0 && s->found < s->count; i++)
        if (list->items[i].exists && list->items[i].is_selectable)
            rc = search_folder(s, list->items[i].name, err);
    body_digest_release(&s->body);
    digest_free(&s->exact);
    free(s->uids);
    return rc;
}

/* ---- which mailbox is it? ---- */

struct oldest {
    struct digest *exact; /* owned */
    uint8_t digest[DIGEST_SIZE];
    bool is_known;
};

static int oldest_piece(void *ctx, const char *bytes, size_t length,
                        struct err *err)
{
    struct oldest *o = ctx;

    (void)err;
    digest_add(o->exact, bytes, length);
    return 0;
}

static int oldest_end(void *ctx, const struct source_message *message,
                      struct err *err)
{
    struct oldest *o = ctx;

    (void)message;
    (void)err;
    digest_take(o->exact, o->digest);
    o->is_known = true;
    return 0;
}

static int name_mailbox(const struct identity *id, char out[MAILBOX_ID_SIZE],
                        struct err *err)
{
    static const struct source_sink first = {oldest_piece, oldest_end};
    struct oldest o = {.exact = digest_new()};
    struct source_status status = {0};
    uint32_t *uids = NULL;
    size_t count = 0;
    int rc = source_examine(id->source, "INBOX", &status, err);

    if (rc == 0)
        rc = source_uids(id->source, &uids, &count, err);
    if (rc == 0 && count > 0)
        rc = source_bodies(id->source, uids, 1, &first, &o, err);
    free(uids);
    digest_free(&o.exact);
    if (rc == -1 && (err->kind != ERR_ITEM || source_is_broken(id->source)))
        return -1;
    err_clear(err);
    mailbox_id_format(status.uidvalidity, o.is_known ? o.digest : NULL, out);
    return 0;
}

static int judge(const struct identity *id, const struct search *s,
                 struct err *err)
{
    struct migration_report *r = id->report;
    bool is_ours = plan_is_same_mail(s->found, s->count);

    if (name_mailbox(id, r->mailbox_id, err) == -1)
        return -1;
    if (is_ours || mailbox_id_is_accepted(id->job->mailbox_id, r->mailbox_id)) {
        snprintf(r->renewal, sizeof(r->renewal),
                 "every folder was made anew on legacy: %u of %u messages "
                 "found again%s",
                 s->found, s->count, is_ours ? "" : ", accepted");
        log_info("%s %s", id->job->address, r->renewal);
        return 1;
    }
    snprintf(r->question, sizeof(r->question), "%s", MAILBOX_QUESTION);
    return err_set(err, ERR_SETUP,
                   "every folder was made anew on legacy, and of %u messages "
                   "that were copied %u are found again: is this still the "
                   "same person's mailbox?",
                   s->count, s->found);
}

static int check_now(const struct identity *id, struct err *err)
{
    const struct ledger_folder *inbox = find_inbox(id);
    struct source_folder_list list = {0};
    enum likeness likeness = LIKE_UNKNOWN;
    struct search *s;
    int rc;

    if (inbox != NULL && inbox->uidvalidity != 0 &&
        compare_folder(id, inbox, &likeness, err) == -1)
        return -1;
    if (id->folder_count == 0 || likeness == LIKE_SAME)
        return 0;
    if (source_list(id->source, &list, err) == -1)
        return -1;
    rc = compare_all(id, &list, err);
    if (rc == 1 && id->job->kind == JOB_FINAL) {
        /* users wait: an ordinary pass looks closer */
        rc = err_set(err, ERR_RETRY, "every folder was made anew on legacy");
    } else if (rc == 1) {
        s = mem_alloc(sizeof(*s));
        s->identity = id;
        rc = search_all(s, &list, err);
        if (rc == 0)
            rc = judge(id, s, err);
        free(s);
    }
    source_folder_list_release(&list);
    return rc;
}

static int is_pending(const struct identity *id, bool *out, struct err *err)
{
    char *renewal;

    if (ledger_get(id->ledger, "renewal", &renewal, err) == -1)
        return -1;
    *out = renewal != NULL && strcmp(renewal, "1") == 0;
    free(renewal);
    return 0;
}

int identity_check(const struct identity *id, struct err *err)
{
    bool was_pending;
    int rc = check_now(id, err);

    if (rc == -1 || is_pending(id, &was_pending, err) == -1)
        return -1;
    if (rc == 1 && !was_pending &&
        ledger_put(id->ledger, "renewal", "1", err) == -1)
        return -1;
    return rc == 1 || was_pending;
}

struct first_row {
    uint8_t digest[LEDGER_DIGEST_SIZE];
    bool is_known;
};

static int take_first(void *ctx, const struct ledger_message *m,
                      struct err *err)
{
    struct first_row *first = ctx;

    if (m->state == LEDGER_SET_ASIDE || m->state == LEDGER_INTENT)
        return 0;
    memcpy(first->digest, m->digest, sizeof(first->digest));
    first->is_known = true;
    return err_set(err, ERR_NONE, "found"); /* -1: no more rows */
}

static int tell(const struct identity *id, struct err *err)
{
    const struct ledger_folder *inbox = find_inbox(id);
    struct first_row first = {.is_known = false};

    if (inbox == NULL || inbox->uidvalidity == 0 ||
        inbox->uidvalidity == mailbox_id_uidvalidity(id->job->mailbox_id))
        return 0;
    if (ledger_messages(id->ledger, inbox->id, take_first, &first, err) == -1 &&
        !first.is_known)
        return -1;
    err_clear(err);
    mailbox_id_format(inbox->uidvalidity, first.is_known ? first.digest : NULL,
                      id->report->mailbox_id);
    return 0;
}

int identity_end(const struct identity *id, struct err *err)
{
    bool was_pending;

    if (tell(id, err) == -1 || is_pending(id, &was_pending, err) == -1)
        return -1;
    return was_pending ? ledger_put(id->ledger, "renewal", "0", err) : 0;
}
