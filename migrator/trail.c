/*
 * The trail pass: folders of legacy against the marks in the ledger, what is
 * new appended to local. Owns its two or three connections, the ledger's lock
 * and one temporary file; leaves the dialogue to source and store.
 */
#include "migrator/trail.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/ledger.h"
#include "migrator/back.h"
#include "migrator/folder_choice.h"
#include "migrator/folder_name.h"
#include "migrator/identity.h"
#include "migrator/master_check.h"
#include "migrator/set_aside.h"
#include "migrator/message_file.h"
#include "migrator/source.h"
#include "migrator/store_imap.h"
#include "migrator/store_maildir.h"
#include "migrator/trail_local.h"
#include "migrator/trail_match.h"

#define TRAIL_BATCH        64 /* messages whose metadata are held at once */
#define TRAIL_ATTEMPTS     20 /* before a message is set aside for good */
#define TRAIL_REFUSALS_MAX 20 /* for a while, before the pass gives up */
#define TRAIL_FLAGS_MAX    8192
#define TRAIL_SETTLE_MS    500

struct trail {
    const struct migration_job *job; /* borrowed */
    struct progress *progress;       /* borrowed */
    struct migration_report *report; /* borrowed */
    struct ledger *ledger;
    bool is_renewed; /* every folder was made anew, and is to be matched */
    bool is_durable; /* what is written to the ledger is on disk at once */
    struct source *source;
    struct source *local;     /* NULL until an open intent is looked up */
    struct store_imap *store; /* NULL until something is appended */
    struct ledger_folder *folders;
    size_t folder_count;
    struct message_file file; /* the message under way */
    int refusals;
    struct err refusal; /* the first that passes with time */
};

/* A folder under way. */
struct trail_folder {
    struct ledger_folder *row;
    bool is_subscribed;
    uint32_t uidnext; /* to be recorded when all is done */
    size_t wanted, pending;
};

/* A message to be appended. */
struct arrival {
    uint32_t uid;
    bool is_known; /* metadata came */
    char *flags;   /* owned: as APPEND wants them */
    uint8_t flag_bits;
    int64_t date;
    int zone_minutes;
    uint32_t size_bytes;
};

struct batch {
    struct arrival items[TRAIL_BATCH];
    size_t count;
};

/* ---- what legacy has ---- */

static int on_metadata(void *ctx, const struct source_message *m,
                       struct err *err)
{
    struct batch *batch = ctx;

    (void)err;
    for (size_t i = 0; i < batch->count; i++) {
        struct arrival *a = &batch->items[i];

        if (a->uid != m->uid || a->is_known || !m->has_flags)
            continue;
        a->is_known = true;
        a->flags = message_flags_text(m);
        a->flag_bits = m->flags;
        a->date = m->date;
        a->zone_minutes = m->zone_minutes;
        a->size_bytes = m->size;
    }
    return 0;
}

/* ---- one message ---- */

static struct ledger_message
row_of(const struct trail *t, const struct arrival *a, enum ledger_state state)
{
    struct ledger_message row = {.uid = a->uid,
                                 .state = state,
                                 .flags = a->flag_bits,
                                 .date = a->date,
                                 .size = (uint32_t)t->file.size_bytes,
                                 .vsize = (uint32_t)t->file.vsize};

    memcpy(row.digest, t->file.digest, sizeof row.digest);
    return row;
}

/* An intent must be on disk before its APPEND is on the wire, and the marks of
   a mailbox that has moved must survive: lost, they would double it. */
static int begin_writing(struct trail *t, struct err *err)
{
    if (!t->is_durable && ledger_make_durable(t->ledger, err) == -1)
        return -1;
    t->is_durable = true;
    return ledger_begin(t->ledger, err);
}

static int save_row(struct trail *t, int64_t folder,
                    const struct ledger_message *row, struct err *err)
{
    if (begin_writing(t, err) == -1)
        return -1;
    if (ledger_message_save(t->ledger, folder, row, err) == -1) {
        ledger_rollback(t->ledger);
        return -1;
    }
    return ledger_commit(t->ledger, err);
}

/* It cannot be had or given: count that, and go on with the others. */
static int set_aside(struct trail *t, struct trail_folder *f,
                     const struct arrival *a, const struct err *why,
                     struct err *err)
{
    struct ledger_message old, row = {.uid = a->uid, .date = a->date};
    int found = ledger_message_find(t->ledger, f->row->id, a->uid, &old, err);

    if (found == -1)
        return -1;
    row.state = LEDGER_SET_ASIDE;
    row.flags = a->flag_bits;
    row.attempts = found == 1 ? old.attempts + 1 : 1;
    row.error = why->text;
    if (row.attempts < TRAIL_ATTEMPTS)
        f->pending++;
    log_warn("trail folder=\"%s\" uid=%u attempt=%u set aside: %s",
             log_safe(f->row->name), a->uid, row.attempts, log_safe(why->text));
    return save_row(t, f->row->id, &row, err);
}

/* Local refuses for a while: the others may still fit. */
static int put_off(struct trail *t, struct trail_folder *f,
                   const struct arrival *a, const struct err *why,
                   struct err *err)
{
    if (ledger_message_remove(t->ledger, f->row->id, a->uid, err) == -1)
        return -1;
    f->pending++;
    if (t->refusals++ == 0)
        t->refusal = *why;
    if (t->refusals < TRAIL_REFUSALS_MAX)
        return 0;
    *err = *why;
    return -1;
}

static int look_up_intent(struct trail *t, const char *folder, uint32_t first,
                          uint32_t *uid_out, struct err *err)
{
    const struct timespec settle = {0, TRAIL_SETTLE_MS * 1000000L};

    if (t->local == NULL) {
        /* who was killed may have sent a whole message that local is still
           storing */
        nanosleep(&settle, NULL);
        if (trail_local_open(t->job, &t->local, err) == -1)
            return -1;
    }
    return trail_local_find(t->local, folder, first, t->file.digest, uid_out,
                            err);
}

static int note_appended(struct trail *t, struct trail_folder *f,
                         const struct arrival *a, uint32_t local_uid,
                         struct err *err)
{
    struct ledger_message row = row_of(t, a, LEDGER_APPENDED);

    row.local_uid = local_uid;
    if (save_row(t, f->row->id, &row, err) == -1)
        return -1;
    t->report->appended++;
    log_debug("trail folder=\"%s\" uid=%u local_uid=%u", log_safe(f->row->name),
              a->uid, local_uid);
    if (progress_tell(t->progress, t->report) == -1)
        return err_set(err, ERR_RETRY, "nobody waits for this job any more");
    return 0;
}

static int open_store(struct trail *t, struct err *err)
{
    if (t->store != NULL)
        return 0;
    return store_imap_open(t->job, &t->store, err);
}

/* first: lowest UIDNEXT that an earlier try has seen, 0 none. */
static int append_message(struct trail *t, struct trail_folder *f,
                          const struct arrival *a, uint32_t first,
                          struct err *err)
{
    const struct store_append append = {f->row->name, a->flags,
                                        a->date,      a->zone_minutes,
                                        t->file.fd,   t->file.size_bytes};
    struct ledger_message row = row_of(t, a, LEDGER_INTENT);
    uint32_t uidnext = 0, uid = 0;
    bool is_refused;
    struct err why;

    if (open_store(t, err) == -1)
        return -1;
    if (store_imap_folder(t->store, f->row->name, f->is_subscribed, &uidnext,
                          err) == -1) {
        why = *err;
        return why.kind == ERR_ITEM ? set_aside(t, f, a, &why, err) : -1;
    }
    row.local_uid = first != 0 && first < uidnext ? first : uidnext;
    if (save_row(t, f->row->id, &row, err) == -1)
        return -1;
    if (store_imap_append(t->store, &append, &uid, &is_refused, &why) == 0)
        return note_appended(t, f, a, uid, err);
    if (is_refused && why.kind == ERR_ITEM)
        return set_aside(t, f, a, &why, err);
    if (is_refused)
        return put_off(t, f, a, &why, err);
    *err = why; /* nobody knows: the intent stays */
    return -1;
}

/* The connection broke in the middle of a message: is it this one that legacy
   breaks over, or is legacy in trouble? 0: it answers again. */
static int reconnect(struct trail *t, const struct trail_folder *f,
                     struct err *err)
{
    struct source_status status;

    source_close(&t->source);
    if (source_open(t->job, &t->source, err) == -1 ||
        source_examine(t->source, f->row->name, &status, err) == -1)
        return -1;
    if (status.uidvalidity != 0 && status.uidvalidity != f->row->uidvalidity)
        return err_set(err, ERR_RETRY, "UIDVALIDITY changed under our hands");
    return 0;
}

static int trail_message(struct trail *t, struct trail_folder *f,
                         const struct arrival *a, struct err *err)
{
    struct ledger_message row;
    uint32_t uid = 0, first = 0;
    struct err why;
    int found;

    if (!a->is_known)
        return 0; /* gone from legacy since it was listed */
    if (message_file_fetch(&t->file, t->source, a->uid, a->size_bytes, &why) ==
        -1) {
        if (why.kind != ERR_ITEM &&
            (why.kind == ERR_SETUP || !source_is_broken(t->source))) {
            *err = why;
            return -1;
        }
        if (source_is_broken(t->source) && reconnect(t, f, err) == -1)
            return -1;
        return set_aside(t, f, a, &why, err);
    }
    found = ledger_message_find(t->ledger, f->row->id, a->uid, &row, err);
    if (found == -1)
        return -1;
    if (found == 1 && row.state == LEDGER_INTENT) {
        first = row.local_uid;
        if (look_up_intent(t, f->row->name, first, &uid, err) == -1)
            return -1;
        log_info("trail folder=\"%s\" uid=%u intent found_local_uid=%u",
                 log_safe(f->row->name), a->uid, uid);
        if (uid != 0)
            return note_appended(t, f, a, uid, err);
    }
    return append_message(t, f, a, first, err);
}

/* ---- one folder ---- */

static int trail_batch(struct trail *t, struct trail_folder *f,
                       const uint32_t *uids, size_t count, struct err *err)
{
    struct batch *batch = mem_alloc(sizeof *batch);
    int result;

    batch->count = count;
    for (size_t i = 0; i < count; i++)
        batch->items[i].uid = uids[i];
    result =
        source_metadata(t->source, uids, count, true, on_metadata, batch, err);
    for (size_t i = 0; i < count && result == 0; i++)
        result = trail_message(t, f, &batch->items[i], err);
    for (size_t i = 0; i < count; i++)
        free(batch->items[i].flags);
    free(batch);
    return result;
}

/* Keep of uids those that are still to be appended; 1 yes, 0 no, -1. */
static int is_wanted(struct trail *t, const struct trail_folder *f,
                     uint32_t uid, struct err *err)
{
    struct ledger_message row;
    int found = ledger_message_find(t->ledger, f->row->id, uid, &row, err);

    if (found != 1)
        return found == 0 ? 1 : -1;
    return row.state == LEDGER_INTENT ||
           (row.state == LEDGER_SET_ASIDE && row.attempts < TRAIL_ATTEMPTS);
}

static int trail_uids(struct trail *t, struct trail_folder *f, uint32_t *uids,
                      size_t count, struct err *err)
{
    uint32_t start = f->row->flip_uidnext;
    size_t wanted = 0;

    if (f->row->is_complete && f->row->uidnext > start)
        start = f->row->uidnext;
    for (size_t i = 0; i < count; i++) {
        int answer = uids[i] < start ? 0 : is_wanted(t, f, uids[i], err);

        if (answer == -1)
            return -1;
        if (answer == 1)
            uids[wanted++] = uids[i];
    }
    f->wanted = wanted;
    for (size_t i = 0; i < wanted; i += TRAIL_BATCH) {
        size_t part = wanted - i < TRAIL_BATCH ? wanted - i : TRAIL_BATCH;

        if (trail_batch(t, f, uids + i, part, err) == -1)
            return -1;
    }
    return 0;
}

static int save_folder(struct trail *t, struct ledger_folder *row,
                       struct err *err)
{
    if (begin_writing(t, err) == -1)
        return -1;
    if (ledger_folder_save(t->ledger, row, err) == -1) {
        ledger_rollback(t->ledger);
        return -1;
    }
    return ledger_commit(t->ledger, err);
}

static int trail_news(struct trail *t, struct trail_folder *f, struct err *err)
{
    struct source_status status = {0};
    uint32_t *uids = NULL;
    size_t count = 0;
    int result;

    if (source_examine(t->source, f->row->name, &status, err) == -1 ||
        source_uids(t->source, &uids, &count, err) == -1)
        return -1;
    f->uidnext = status.uidnext;
    if (f->uidnext == 0 && count > 0)
        f->uidnext = uids[count - 1] + 1;
    result = trail_uids(t, f, uids, count, err);
    free(uids);
    if (f->wanted > 0)
        t->report->is_quiet = false;
    if (result == -1)
        return -1;
    f->row->is_complete = f->pending == 0;
    if (f->row->is_complete)
        f->row->uidnext = f->uidnext;
    return save_folder(t, f->row, err);
}

static bool same_folder(const char *a, const char *b)
{
    if (strcasecmp(a, "INBOX") == 0)
        return strcasecmp(b, "INBOX") == 0;
    return strcmp(a, b) == 0;
}

/* What it holds now cannot be told from what was copied. The other folders go
   on; a new INBOX may be somebody else's. */
static int leave_out(struct trail *t, const struct ledger_folder *row,
                     const struct source_status *status, struct err *err)
{
    err_set(err, ERR_SETUP,
            "%s: UIDVALIDITY on legacy changed from %u to %u since the flip: "
            "is it still the same mailbox?",
            log_safe(row->name), row->uidvalidity, status->uidvalidity);
    if (same_folder(row->name, "INBOX"))
        return -1;
    log_warn("trail folder left out: %s", err->text);
    t->report->is_quiet = false;
    if (t->refusals++ == 0)
        t->refusal = *err;
    return 0;
}

static bool was_made_anew(const struct ledger_folder *row,
                          const struct source_status *status)
{
    return row->uidvalidity != 0 && status->uidvalidity != 0 &&
           row->uidvalidity != status->uidvalidity;
}

static int begin_matched(void *ctx, struct err *err)
{
    return begin_writing(ctx, err);
}

/* The mailbox is the one we know, under new UIDs: what local has already is
   found by its digest. 1: there is nothing to be matched in this folder. */
static int match_anew(struct trail *t, struct ledger_folder *row,
                      const struct source_status *status, struct err *err)
{
    const struct trail_match match = {.ledger = t->ledger,
                                      .source = t->source,
                                      .file = &t->file,
                                      .progress = t->progress,
                                      .report = t->report};

    if (!was_made_anew(row, status) &&
        (status->uidnext == 0 || status->uidnext >= row->uidnext))
        return 1;
    return trail_match_folder(&match, row, begin_matched, t, err);
}

static int trail_folder(struct trail *t, struct trail_folder *f,
                        struct err *err)
{
    struct source_status status = {0};
    struct ledger_folder *row = f->row;

    if (source_status(t->source, row->name, &status, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        log_warn("trail folder=\"%s\" left out: %s", log_safe(row->name),
                 log_safe(err->text));
        return 0;
    }
    if (t->is_renewed && match_anew(t, row, &status, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        t->report->is_quiet = false;
        if (t->refusals++ == 0)
            t->refusal = *err;
        return 0;
    }
    if (was_made_anew(row, &status))
        return leave_out(t, row, &status, err);
    if (row->is_complete && status.uidnext != 0 &&
        status.uidnext == row->uidnext)
        return 0;
    if (row->uidvalidity == 0)
        row->uidvalidity = status.uidvalidity;
    if (trail_news(t, f, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        log_warn("trail folder=\"%s\" put off: %s", log_safe(row->name),
                 log_safe(err->text));
        t->report->is_quiet = false;
    }
    return 0;
}

/* ---- the pass ---- */

static struct ledger_folder *find_row(const struct trail *t, const char *name)
{
    for (size_t i = 0; i < t->folder_count; i++)
        if (same_folder(t->folders[i].name, name))
            return &t->folders[i];
    return NULL;
}

/* The directory that the store would have given it; nothing is written there.
 */
static char *directory_of(const struct trail *t,
                          const struct source_folder *folder)
{
    char directory[FOLDER_DIRECTORY_SIZE], separator;
    const char *prefix;
    struct err ignored;

    if (!source_namespace(t->source, &prefix, &separator))
        prefix = t->job->has_prefix ? t->job->prefix : "";
    if (folder_directory(folder->name, folder->separator, prefix, directory,
                         &ignored) == -1)
        return mem_dup_text(".");
    return mem_dup_text(directory);
}

static int trail_listed(struct trail *t, const struct source_folder *listed,
                        struct err *err)
{
    struct trail_folder f = {.is_subscribed = listed->is_subscribed};
    struct ledger_folder fresh = {0};
    int result = -1;

    f.row = find_row(t, listed->name);
    if (f.row == NULL) {
        fresh.name = mem_dup_text(listed->name);
        fresh.directory = directory_of(t, listed);
        fresh.separator = listed->separator;
        fresh.is_selectable = true;
        fresh.is_subscribed = listed->is_subscribed;
        f.row = &fresh;
        if (save_folder(t, &fresh, err) == 0)
            result = trail_folder(t, &f, err);
        free(fresh.name);
        free(fresh.directory);
        return result;
    }
    return trail_folder(t, &f, err);
}

static int trail_all(struct trail *t, struct err *err)
{
    struct source_folder_list list = {0};
    int result;

    if (t->job->inbox_only && !t->is_renewed) {
        char name[] = "INBOX";
        const struct source_folder inbox = {
            .name = name, .is_selectable = true, .is_subscribed = true};

        return trail_listed(t, &inbox, err);
    }
    result = folder_choice_list(t->job, t->source, &list, err);
    for (size_t i = 0; i < list.count && result == 0; i++)
        if (list.items[i].exists && list.items[i].is_selectable)
            result = trail_listed(t, &list.items[i], err);
    source_folder_list_release(&list);
    return result;
}

/* ---- keywords that the store has no letter for ---- */

struct more_keywords {
    struct trail *trail;
    const char *folder;
    char **names; /* by position */
    unsigned count;
};

static int on_more_keywords(void *ctx, const struct ledger_message *m,
                            struct err *err)
{
    const struct more_keywords *more = ctx;
    struct buf text;
    char *flags;
    int result;

    if (m->state != LEDGER_STORED || m->keywords >> STORE_KEYWORDS_MAX == 0)
        return 0;
    buf_init(&text, TRAIL_FLAGS_MAX);
    for (unsigned i = STORE_KEYWORDS_MAX; i < more->count; i++)
        if (m->keywords >> i & 1 && message_keyword_can_be_sent(more->names[i]))
            buf_printf(&text, "%s%s", text.used > 0 ? " " : "", more->names[i]);
    if (text.used == 0)
        return 0;
    flags = buf_steal(&text);
    result = store_imap_add_flags(more->trail->store, more->folder, m->uid,
                                  flags, err);
    free(flags);
    if (result == -1 && err->kind == ERR_ITEM) {
        log_warn("trail folder=\"%s\" uid=%u keywords lost: %s",
                 log_safe(more->folder), m->uid, log_safe(err->text));
        result = 0;
    }
    return result;
}

static int send_folder_keywords(struct trail *t, const struct ledger_folder *f,
                                struct err *err)
{
    struct more_keywords more = {.trail = t, .folder = f->name};
    int result = 0;

    if (ledger_keywords(t->ledger, f->id, &more.names, &more.count, err) == -1)
        return -1;
    if (more.count > STORE_KEYWORDS_MAX) {
        result = open_store(t, err);
        if (result == 0)
            result =
                ledger_messages(t->ledger, f->id, on_more_keywords, &more, err);
    }
    free(more.names);
    return result;
}

/* A Maildir has 26 letters; the others are given to local by its own door, once
   after each flip. */
static int send_keywords(struct trail *t, struct err *err)
{
    char epoch[32], *sent;
    bool is_done;
    int result = 0;

    snprintf(epoch, sizeof epoch, "%lld", (long long)t->job->epoch);
    if (ledger_get(t->ledger, "keywords_sent", &sent, err) == -1)
        return -1;
    is_done = sent != NULL && strcmp(sent, epoch) == 0;
    free(sent);
    if (is_done)
        return 0;
    for (size_t i = 0; i < t->folder_count && result == 0; i++)
        result = send_folder_keywords(t, &t->folders[i], err);
    return result == -1 ? -1
                        : ledger_put(t->ledger, "keywords_sent", epoch, err);
}

/* The last delta leaves a row of every folder. Without them all that legacy
   has would look new, and be appended to what was copied. */
static int check_ledger(const struct trail *t, struct err *err)
{
    for (size_t i = 0; i < t->folder_count; i++)
        if (t->folders[i].uidvalidity != 0)
            return 0;
    return err_set(err, ERR_SETUP,
                   "%s: the ledger of this mailbox is lost; what was copied "
                   "is not known",
                   t->job->ledger_dir);
}

/* A job of an older control db knows nothing of what became of this one. */
static int check_witness(const struct trail *t, struct err *err)
{
    int64_t epoch;

    if (!store_peek_witness(t->job->maildir, &epoch) || epoch <= t->job->epoch)
        return 0;
    return err_set(err, ERR_SETUP,
                   "%s: handed over in epoch %lld, this job is of %lld: the "
                   "control db is older than the mailbox",
                   t->job->address, (long long)epoch, (long long)t->job->epoch);
}

static struct identity identity_of(const struct trail *t)
{
    return (struct identity){.job = t->job,
                             .ledger = t->ledger,
                             .source = t->source,
                             .folders = t->folders,
                             .folder_count = t->folder_count,
                             .report = t->report};
}

/* Another's mail must not come in. */
static int check_identity(struct trail *t, struct err *err)
{
    struct identity identity = identity_of(t);
    int rc = identity_check(&identity, err);

    t->is_renewed = rc == 1;
    return rc == -1 ? -1 : 0;
}

static int end_renewal(struct trail *t, struct err *err)
{
    struct identity identity = identity_of(t);

    return t->is_renewed ? identity_end(&identity, err) : 0;
}

static int trail_pass(struct trail *t, struct err *err)
{
    if (check_witness(t, err) == -1 ||
        ledger_open(t->job->ledger_dir, &t->ledger, err) == -1 ||
        ledger_folders(t->ledger, &t->folders, &t->folder_count, err) == -1 ||
        check_ledger(t, err) == -1 ||
        message_file_open(&t->file, t->job->ledger_dir, err) == -1 ||
        send_keywords(t, err) == -1 ||
        source_open(t->job, &t->source, err) == -1 ||
        master_check(t->job, t->source, t->report, err) == -1)
        return -1;
    /* what a killed way back has put on legacy is no late mail */
    if (check_identity(t, err) == -1 ||
        back_settle(t->job, t->ledger, err) == -1)
        return -1;
    t->report->is_quiet = true;
    if (trail_all(t, err) == -1)
        return -1;
    if (t->refusals > 0) {
        *err = t->refusal;
        return -1;
    }
    return end_renewal(t, err);
}

int trail_run(const struct migration_job *job, struct progress *progress,
              struct migration_report *report, struct err *err)
{
    struct trail t = {
        .job = job, .progress = progress, .report = report, .file = {.fd = -1}};
    struct err ignored;
    int result;

    result = trail_pass(&t, err);
    if (t.ledger != NULL) {
        report->folders = (int64_t)t.folder_count;
        ledger_totals(t.ledger, 0, &report->messages, &report->bytes,
                      &report->set_aside, &ignored);
        if (report->set_aside > 0)
            set_aside_name_all(report, t.ledger, &ignored);
    }
    if (result == -1)
        report->is_quiet = false;
    store_imap_close(&t.store);
    source_close(&t.local);
    source_close(&t.source);
    ledger_folders_free(&t.folders, t.folder_count);
    ledger_close(&t.ledger);
    message_file_release(&t.file);
    return result;
}
