#include "migrator/copy.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/witness.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/copy_parts.h"
#include "migrator/folder_choice.h"
#include "migrator/folder_name.h"
#include "migrator/identity.h"
#include "migrator/master_check.h"
#include "migrator/set_aside.h"

static void add_detail(struct copy *c, const char *folder, const char *what)
{
    char text[512];

    snprintf(text, sizeof(text), "%s: %s", log_safe(folder), what);
    if (c->report->details == NULL)
        c->report->details = json_array();
    if (json_array_size(c->report->details) < 100)
        json_array_append_new(c->report->details, json_string(text));
}

/* ---- beginning ---- */

static void read_boot_id(char out[64])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd == -1 ? -1 : read(fd, out, 63);

    out[got > 0 ? got : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (fd != -1)
        close(fd);
}

/* Rows committed unsynced before a power cut may name files that are not there.
   Kept as "boot" once everything was checked and is on disk. */
static int check_boot(struct copy *c, struct err *err)
{
    char boot[64], *known;

    read_boot_id(boot);
    if (ledger_get(c->ledger, "boot", &known, err) == -1)
        return -1;
    c->must_check = known != NULL && strcmp(known, boot) != 0;
    if (c->must_check)
        log_info("%s check-all reason=\"rows of another boot\"",
                 c->job->address);
    free(known);
    return 0;
}

static int count_totals(struct copy *c, struct err *err)
{
    return ledger_totals(c->ledger, 0, &c->report->messages, &c->report->bytes,
                         &c->report->set_aside, err);
}

/* As the last pass left them: counting takes longer than the rest of a pass
   that finds nothing new. */
static int read_totals(struct copy *c, struct err *err)
{
    long long messages, bytes, set_aside;
    char *unsynced, *verified, *totals;
    bool is_known;

    if (ledger_get(c->ledger, "unsynced", &unsynced, err) == -1)
        return -1;
    c->was_unsynced = unsynced != NULL && strcmp(unsynced, "1") == 0;
    free(unsynced);
    if (ledger_get(c->ledger, "verified", &verified, err) == -1)
        return -1;
    c->was_verified = verified != NULL && strcmp(verified, "1") == 0;
    free(verified);
    if (ledger_get(c->ledger, "totals", &totals, err) == -1)
        return -1;
    is_known =
        !c->was_unsynced && totals != NULL &&
        sscanf(totals, "%lld %lld %lld", &messages, &bytes, &set_aside) == 3;
    free(totals);
    if (!is_known)
        return count_totals(c, err);
    c->report->messages = messages;
    c->report->bytes = bytes;
    c->report->set_aside = set_aside;
    return 0;
}

static int write_totals(struct copy *c, struct err *err)
{
    char text[96];

    if (count_totals(c, err) == -1)
        return -1;
    snprintf(text, sizeof(text), "%lld %lld %lld",
             (long long)c->report->messages, (long long)c->report->bytes,
             (long long)c->report->set_aside);
    return ledger_put(c->ledger, "totals", text, err);
}

/* A server without NAMESPACE: everything is below INBOX, or nothing is. */
static const char *guess_prefix(const struct copy *c, char separator)
{
    static char prefix[] = "INBOX.";

    prefix[5] = separator;
    if (separator == '\0')
        return "";
    for (size_t i = 0; i < c->listed.count; i++)
        if (strcmp(c->listed.items[i].name, "INBOX") != 0 &&
            strncmp(c->listed.items[i].name, prefix, 6) != 0)
            return "";
    return c->listed.count > 1 ? prefix : "";
}

static void learn_namespace(struct copy *c)
{
    struct migration_report *r = c->report;
    const char *prefix;
    char separator;

    if (!source_namespace(c->source, &prefix, &separator)) {
        separator = '\0';
        for (size_t i = 0; i < c->listed.count && separator == '\0'; i++)
            separator = c->listed.items[i].separator;
        prefix =
            c->job->has_prefix ? c->job->prefix : guess_prefix(c, separator);
    }
    r->has_prefix = true;
    snprintf(r->prefix, sizeof(r->prefix), "%s", prefix);
    r->separator[0] = separator;
    r->separator[1] = '\0';
}

/* A store.path that was changed under way would leave half of the mailbox
   behind: the ledger speaks of the store that it was made for. */
static int check_maildir(struct copy *c, struct err *err)
{
    char *known;
    int rc = 0;

    if (ledger_get(c->ledger, "maildir", &known, err) == -1)
        return -1;
    if (known != NULL && c->folder_count > 0 &&
        strcmp(known, c->job->maildir) != 0)
        rc = err_set(err, ERR_SETUP,
                     "store.path was %s when copying began, and is %s now",
                     known, c->job->maildir);
    else if (known == NULL || strcmp(known, c->job->maildir) != 0)
        rc = ledger_put(c->ledger, "maildir", c->job->maildir, err);
    free(known);
    return rc;
}

static struct identity identity_of(const struct copy *c)
{
    return (struct identity){.job = c->job,
                             .ledger = c->ledger,
                             .source = c->source,
                             .folders = c->folders,
                             .folder_count = c->folder_count,
                             .report = c->report};
}

static int check_identity(struct copy *c, struct err *err)
{
    struct identity identity = identity_of(c);

    int rc = identity_check(&identity, err);

    c->is_renewed = rc == 1;
    return rc == -1 ? -1 : 0;
}

static int begin(struct copy *c, struct err *err)
{
    bool is_final = c->job->kind == JOB_FINAL;

    if (ledger_open(c->job->ledger_dir, &c->ledger, err) == -1 ||
        ledger_folders(c->ledger, &c->folders, &c->folder_count, err) == -1 ||
        check_maildir(c, err) == -1 ||
        store_open(c->job->maildir, is_final, &c->store, err) == -1 ||
        source_open(c->job, &c->source, err) == -1 ||
        master_check(c->job, c->source, c->report, err) == -1 ||
        check_identity(c, err) == -1 || read_totals(c, err) == -1)
        return -1;
    /* what came within the last minutes is little, and users wait for it */
    if (!is_final)
        store_keep_free(c->store, c->job->reserve_bytes,
                        c->job->reserve_inodes);
    if (check_boot(c, err) == -1 || copy_undo_flip(c, err) == -1 ||
        folder_choice_list(c->job, c->source, &c->listed, err) == -1)
        return -1;
    learn_namespace(c);
    return 0;
}

/* ---- folders ---- */

static struct ledger_folder *find_known(struct copy *c, const char *name)
{
    for (size_t i = 0; i < c->folder_count; i++)
        if (strcmp(c->folders[i].name, name) == 0)
            return &c->folders[i];
    return NULL;
}

static bool is_listed(const struct copy *c, const char *name)
{
    for (size_t i = 0; i < c->listed.count; i++)
        if (c->listed.items[i].exists &&
            strcmp(c->listed.items[i].name, name) == 0)
            return true;
    return false;
}

/* A server with a sick disk leaves out what it cannot read. INBOX is always
   there; another folder is believed to be gone when an ordinary pass, and not
   only the last one, has missed it. */
static int may_drop(const struct copy *c, const struct ledger_folder *f,
                    struct err *err)
{
    if (strcmp(f->name, "INBOX") == 0 ||
        (c->job->kind == JOB_FINAL && f->messages > 0))
        return err_set(err, ERR_RETRY, "%s: legacy lists it no more",
                       log_safe(f->name));
    return 0;
}

/* Folders that legacy has no more. */
static int drop_folders(struct copy *c, struct err *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->folder_count; i++) {
        struct ledger_folder *f = &c->folders[i];
        int64_t messages, bytes;

        if (is_listed(c, f->name)) {
            c->folders[kept++] = *f;
            continue;
        }
        log_info("%s folder-gone folder=%s", c->job->address,
                 log_safe(f->name));
        if (may_drop(c, f, err) == -1 || copy_supersede_gone(c, f, err) == -1 ||
            ledger_totals(c->ledger, f->id, &messages, &bytes, NULL, err) ==
                -1 ||
            ledger_begin(c->ledger, err) == -1 ||
            store_remove_folder(c->store, f->directory, err) == -1 ||
            ledger_folder_remove(c->ledger, f->id, err) == -1 ||
            ledger_commit(c->ledger, err) == -1) {
            c->folder_count = i; /* what was not moved is leaked, not freed
                                    twice: we end here */
            return -1;
        }
        c->report->messages -= messages;
        c->report->bytes -= bytes;
        c->report->removed += messages;
        c->is_written = true;
        free(f->name);
        free(f->directory);
    }
    c->folder_count = kept;
    return 0;
}

static bool is_taken(const struct copy *c, const char *directory)
{
    for (size_t i = 0; i < c->folder_count; i++)
        if (strcmp(c->folders[i].directory, directory) == 0)
            return true;
    return false;
}

/* The row of a listed folder, made if it is new. 1: *out is set; 0: the store
   cannot hold it. */
static int know_folder(struct copy *c, const struct source_folder *listed,
                       struct ledger_folder **out, struct err *err)
{
    char directory[FOLDER_DIRECTORY_SIZE];
    struct ledger_folder *f = find_known(c, listed->name);

    if (f == NULL) {
        if (folder_directory(listed->name, listed->separator, c->report->prefix,
                             directory, err) == -1 ||
            is_taken(c, directory)) {
            add_detail(c, listed->name, "the store cannot hold this name");
            c->report->differences++;
            err_clear(err);
            return 0;
        }
        c->folders =
            mem_grow(c->folders, (c->folder_count + 1) * sizeof(*c->folders));
        f = &c->folders[c->folder_count++];
        *f = (struct ledger_folder){.name = mem_dup_text(listed->name),
                                    .directory = mem_dup_text(directory),
                                    .separator = listed->separator,
                                    .is_selectable = true,
                                    .is_subscribed = listed->is_subscribed};
    } else if (f->is_subscribed == listed->is_subscribed) {
        *out = f;
        return 1;
    }
    f->is_subscribed = listed->is_subscribed;
    *out = f;
    return ledger_folder_save(c->ledger, f, err) == -1 ? -1 : 1;
}

static int has_set_aside(struct copy *c, const struct ledger_folder *f,
                         bool *out, struct err *err)
{
    int64_t set_aside = 0;

    *out = false;
    if (c->report->set_aside == 0)
        return 0;
    if (ledger_totals(c->ledger, f->id, NULL, NULL, &set_aside, err) == -1)
        return -1;
    *out = set_aside > 0;
    return 0;
}

/* The ledger is believed only of a store that is as we left it: a file system
   that is not mounted, or a backup put back, would be flipped into as it is.
   Looking through files and fetching what is missing is for an ordinary pass,
   in which nobody waits. */
static int check_store(struct copy *c, struct ledger_folder *f, struct err *err)
{
    struct store_mark mark;

    if (!f->is_complete || f->uidvalidity == 0 ||
        (store_mark(c->store, f->directory, &mark) &&
         mark.inode == f->cur_inode && mark.mtime_ns == f->cur_mtime_ns))
        return 0;
    if (c->job->kind == JOB_FINAL) {
        add_detail(c, f->name, "the store is not as it was left");
        c->report->differences++;
        return err_set(err, ERR_RETRY, "%s: the store is not as it was left",
                       log_safe(f->name));
    }
    log_warn("%s store-changed folder=%s", c->job->address, log_safe(f->name));
    f->is_complete = false; /* goes through files and lists again */
    f->lifted_modseq = 0;
    return 0;
}

static void check_opened(struct copy *c, struct ledger_folder *f)
{
    if (f->uidvalidity == 0 || !store_was_opened(c->store, f->directory))
        return;
    log_warn("%s opened-before-flip folder=%s", c->job->address,
             log_safe(f->name));
    f->is_complete = false; /* goes through files and lists again */
    f->lifted_modseq = 0;
}

/* Nothing of it was ever had: set aside as a whole. */
static void note_unopened(struct copy *c, const struct ledger_folder *f,
                          const char *why)
{
    set_aside_name(c->report,
                   &(struct ledger_aside){.name = f->name, .error = why});
    c->unopened++;
}

static int plan_task(struct copy *c, struct copy_task *task, struct err *err)
{
    const struct ledger_folder *f = &c->folders[task->folder];
    struct plan_folder p = {
        .has_condstore = source_has_condstore(c->source),
        .has_qresync = source_has_qresync(c->source),
        .known_uidvalidity = f->uidvalidity,
        .known_uidnext = f->uidnext,
        .known_messages = f->messages,
        .known_modseq = f->modseq,
        .is_complete = f->is_complete,
    };
    bool set_aside;

    if (has_set_aside(c, f, &set_aside, err) == -1)
        return -1;
    if (source_status(c->source, f->name, &task->status, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        add_detail(c, f->name, "legacy lists it, but does not open it");
        /* what we have of it may be old by now: no flip on that */
        if (f->uidvalidity == 0)
            note_unopened(c, f, err->text);
        else
            c->report->differences++;
        err_clear(err);
        task->way = PLAN_REFUSE;
        return 0;
    }
    p.uidvalidity = task->status.uidvalidity;
    p.uidnext = task->status.uidnext;
    p.messages = task->status.messages;
    p.has_messages = task->status.has_messages;
    p.modseq = task->status.modseq;
    p.must_check = c->must_check || set_aside;
    task->way = plan_folder(&p);
    if (task->way == PLAN_REFUSE) /* EXAMINE may know more (Courier) */
        task->way = PLAN_COMPARE;
    c->report->messages_total += task->status.messages;
    return 0;
}

/* All folders of legacy, each with its way. */
static int plan_all(struct copy *c, struct copy_tasks *tasks, struct err *err)
{
    tasks->items = mem_alloc(c->listed.count * sizeof(*tasks->items));
    for (size_t i = 0; i < c->listed.count; i++) {
        struct copy_task *task = &tasks->items[tasks->count];
        struct ledger_folder *f;
        int rc;

        if (!c->listed.items[i].exists || !c->listed.items[i].is_selectable)
            continue;
        rc = know_folder(c, &c->listed.items[i], &f, err);
        if (rc == -1)
            return -1;
        if (rc == 0)
            continue;
        task->folder = (size_t)(f - c->folders);
        if (check_store(c, f, err) == -1)
            return -1;
        check_opened(c, f);
        if (plan_task(c, task, err) == -1)
            return -1;
        tasks->count++;
    }
    c->report->folders = (int64_t)tasks->count;
    return 0;
}

static void count_bytes(struct copy *c)
{
    struct migration_report *r = c->report;

    /* legacy tells no bytes before we have them: the mean so far */
    r->bytes_total = r->bytes;
    if (r->messages > 0 && r->messages_total > r->messages)
        r->bytes_total = (int64_t)((double)r->bytes / (double)r->messages *
                                   (double)r->messages_total);
}

static int run_task(struct copy *c, struct copy_task *task, struct err *err)
{
    struct ledger_folder *f = &c->folders[task->folder];
    bool needs_uidls = c->job->kind == JOB_FINAL &&
                       c->job->legacy_pop3.host[0] != '\0' &&
                       strcmp(f->name, "INBOX") == 0;

    unsigned touched = c->touched;
    int rc;

    count_bytes(c);
    if (task->way == PLAN_REFUSE)
        return 0;
    if (task->way != PLAN_SKIP)
        rc = copy_folder(c, f, task->way, err);
    else
        rc = needs_uidls ? copy_folder_lists(c, f, err) : 0;
    task->is_touched = c->touched != touched;
    if (rc == 0)
        return 0;
    if (task->way == PLAN_SKIP)
        return -1;
    if (err->kind != ERR_ITEM || source_is_broken(c->source))
        return err_prefix(err, "%s", log_safe(f->name));
    add_detail(c, f->name, err->text);
    c->report->differences++;
    err_clear(err);
    return 0;
}

/* ---- subscriptions ---- */

static int write_subscriptions(struct copy *c, struct err *err)
{
    char **lines = mem_alloc((c->listed.count + 1) * sizeof(*lines));
    size_t count = 0;
    int rc;

    for (size_t i = 0; i < c->listed.count; i++) {
        const struct source_folder *f = &c->listed.items[i];
        char line[FOLDER_DIRECTORY_SIZE];

        if (!f->is_subscribed)
            continue;
        if (folder_subscription(f->name, f->separator, c->report->prefix, line,
                                err) == 0)
            lines[count++] = mem_dup_text(line);
        err_clear(err);
    }
    rc = store_write_subscriptions(c->store, lines, count, err);
    for (size_t i = 0; i < count; i++)
        free(lines[i]);
    free(lines);
    return rc;
}

/* ---- end ---- */

/* Of the epoch that the flip will be: one given back is of that epoch too, an
   older db's jobs are of an earlier one. */
static int write_witness(struct copy *c, struct err *err)
{
    const struct migration_report *r = c->report;
    struct witness w = {.epoch = c->job->epoch + 1,
                        .route = ROUTE_LOCAL,
                        .at = clock_unix_ms(),
                        .has_prefix = r->has_prefix};
    char record[WITNESS_LINE_MAX];

    memcpy(w.address, c->job->address, sizeof(w.address));
    memcpy(w.legacy_user, c->job->legacy_user, sizeof(w.legacy_user));
    snprintf(w.prefix, sizeof(w.prefix), "%s", r->prefix);
    snprintf(w.separator, sizeof(w.separator), "%s", r->separator);
    if (witness_format(&w, 0, record) == 0)
        record[0] = '\0';
    return store_write_witness(c->store, w.epoch, record, err);
}

static int mark_flip(struct copy *c, const struct copy_tasks *tasks,
                     struct err *err)
{
    if (ledger_begin(c->ledger, err) == -1)
        return -1;
    for (size_t i = 0; i < tasks->count; i++) {
        struct ledger_folder *f = &c->folders[tasks->items[i].folder];

        if (f->uidvalidity == 0)
            continue;
        f->flip_uidnext = f->uidnext;
        if (ledger_folder_save(c->ledger, f, err) == -1)
            return -1;
    }
    if (ledger_commit(c->ledger, err) == -1 ||
        ledger_make_durable(c->ledger, err) == -1)
        return -1;
    return write_witness(c, err);
}

/* Files of passes whose syncfs never came. */
static int sync_leftovers(struct copy *c, struct err *err)
{
    if (c->was_unsynced) /* perhaps nothing was written by this one */
        return store_sync_all(c->store, err);
    if (c->job->kind == JOB_FINAL)
        return 0; /* each file was brought to disk by itself */
    return store_sync(c->store, err);
}

static int finish(struct copy *c, const struct copy_tasks *tasks,
                  struct err *err)
{
    struct identity identity;
    char boot[64];

    if (write_subscriptions(c, err) == -1)
        return -1;
    if (c->is_written || c->was_unsynced || c->must_check) {
        if (write_totals(c, err) == -1 || sync_leftovers(c, err) == -1)
            return -1;
        read_boot_id(boot);
        if (ledger_put(c->ledger, "unsynced", "0", err) == -1 ||
            ledger_put(c->ledger, "boot", boot, err) == -1)
            return -1;
    }
    if (c->report->set_aside > 0 &&
        set_aside_name_all(c->report, c->ledger, err) == -1)
        return -1;
    c->report->set_aside += c->unopened;
    count_bytes(c);
    identity = identity_of(c);
    if (copy_gate(c, tasks, err) == -1 || identity_end(&identity, err) == -1)
        return -1;
    if (c->job->kind != JOB_FINAL)
        return 0;
    if (c->report->differences > 0)
        return err_set(err, ERR_RETRY, "the store is not what legacy is yet");
    return mark_flip(c, tasks, err);
}

static int run(struct copy *c, struct copy_tasks *tasks, struct err *err)
{
    if (begin(c, err) == -1 || drop_folders(c, err) == -1)
        return -1;
    if (plan_all(c, tasks, err) == -1)
        return -1;
    for (size_t i = 0; i < tasks->count; i++)
        if (run_task(c, &tasks->items[i], err) == -1)
            return -1;
    return finish(c, tasks, err);
}

int copy_run(const struct migration_job *job, struct progress *progress,
             struct migration_report *report, struct err *err)
{
    struct copy c = {.job = job, .progress = progress, .report = report};
    struct copy_tasks tasks = {0};
    int rc = run(&c, &tasks, err);

    free(tasks.items);
    source_close(&c.source);
    source_folder_list_release(&c.listed);
    ledger_folders_free(&c.folders, c.folder_count);
    if (c.store != NULL)
        store_close(&c.store);
    if (c.ledger != NULL)
        ledger_close(&c.ledger);
    return rc;
}
