/*
 * A pass of the way back: which folder of local is which of legacy, then what
 * is new in each, then flags and deletions. Owns the connections to both sides
 * and the ledger's lock.
 */
#include "migrator/back.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/back_parts.h"
#include "migrator/folder_name.h"
#include "migrator/master_check.h"
#include "migrator/store_maildir.h"
#include "migrator/trail_local.h"

#define LINES_MAX 200

/* ---- telling ---- */

void back_tell(struct back *b, const char *format, ...)
{
    struct migration_report *report = b->report;
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_warn("back %s not taken back: %s", b->job->address, log_safe(text));
    if (report == NULL)
        return;
    report->differences++;
    if (report->details == NULL)
        report->details = json_array();
    if (json_array_size(report->details) >= LINES_MAX)
        return;
    /* a name need not be UTF-8, which JSON insists on */
    if (json_array_append_new(report->details, json_string(text)) == -1)
        json_array_append_new(report->details, json_string(log_safe(text)));
}

int back_progress(struct back *b, struct err *err)
{
    if (b->progress != NULL && progress_tell(b->progress, b->report) == -1)
        return err_set(err, ERR_RETRY, "nobody waits for this job any more");
    return 0;
}

int back_open_legacy(struct back *b, struct err *err)
{
    char separator;

    if (b->legacy != NULL)
        return 0;
    if (source_open(b->job, &b->legacy, err) == -1 ||
        master_check(b->job, b->legacy, b->report, err) == -1 ||
        store_imap_open_legacy(b->job, &b->store, err) == -1)
        return -1;
    if (!source_namespace(b->legacy, &b->legacy_prefix, &separator)) {
        b->legacy_prefix = b->job->has_prefix ? b->job->prefix : "";
        separator = b->job->separator[0];
    }
    b->legacy_separator = separator;
    return 0;
}

/* ---- names ---- */

static bool same_name(const char *a, const char *b)
{
    return strcasecmp(a, "INBOX") == 0 ? strcasecmp(b, "INBOX") == 0
                                       : strcmp(a, b) == 0;
}

/* What legacy calls it: its prefix and separator in the place of local's. NULL:
   a part of the name holds legacy's separator. For free(). */
static char *legacy_name(const struct back *b, const struct source_folder *f)
{
    size_t prefix = strlen(b->local_prefix);
    const char *below = f->name;
    struct buf name;

    if (strcmp(f->name, "INBOX") == 0)
        return mem_dup_text("INBOX");
    if (strncmp(below, b->local_prefix, prefix) == 0)
        below += prefix;
    buf_init(&name, 2048);
    buf_append_text(&name, b->legacy_prefix);
    for (; *below != '\0'; below++) {
        char c = *below;

        if (c == f->separator)
            c = b->legacy_separator;
        else if (c == b->legacy_separator)
            c = '\0';
        if (c == '\0' || buf_append(&name, &c, 1) == -1) {
            buf_release(&name);
            return NULL;
        }
    }
    return buf_steal(&name);
}

static const struct source_folder *
find_listed(const struct source_folder_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].exists && same_name(list->items[i].name, name))
            return &list->items[i];
    return NULL;
}

static struct ledger_folder *find_row(const struct back *b, const char *name)
{
    for (size_t i = 0; i < b->folder_count; i++)
        if (same_name(b->folders[i].name, name))
            return &b->folders[i];
    return NULL;
}

static bool local_has(const struct back *b, const struct ledger_folder *row)
{
    for (size_t i = 0; i < b->local_list.count; i++) {
        char *name = b->local_list.items[i].exists
                         ? legacy_name(b, &b->local_list.items[i])
                         : NULL;
        bool is_it = name != NULL && same_name(name, row->name);

        free(name);
        if (is_it)
            return true;
    }
    return false;
}

/* The folder that was copied under another name: local keeps UIDVALIDITY and
   UIDNEXT when it renames. */
static struct ledger_folder *find_renamed(const struct back *b,
                                          const struct source_status *local)
{
    for (size_t i = 0; i < b->folder_count; i++)
        if (b->folders[i].uidvalidity == local->uidvalidity &&
            b->folders[i].flip_uidnext != 0 &&
            local->uidnext >= b->folders[i].flip_uidnext + STORE_UIDNEXT_GAP &&
            strcmp(b->folders[i].name, "INBOX") != 0 &&
            !local_has(b, &b->folders[i]))
            return &b->folders[i];
    return NULL;
}

/* ---- one folder ---- */

static int know_folder(struct back *b, const char *name,
                       struct ledger_folder **out, struct err *err)
{
    char directory[FOLDER_DIRECTORY_SIZE];
    struct ledger_folder *row;

    if (folder_directory(name, b->legacy_separator, b->legacy_prefix, directory,
                         err) == -1)
        return -1;
    b->folders =
        mem_grow(b->folders, (b->folder_count + 1) * sizeof *b->folders);
    row = &b->folders[b->folder_count++];
    *row = (struct ledger_folder){.name = mem_dup_text(name),
                                  .directory = mem_dup_text(directory),
                                  .separator = b->legacy_separator,
                                  .is_selectable = true};
    *out = row;
    return ledger_folder_save(b->ledger, row, err);
}

/* The folder on legacy, made and subscribed where that is missing. */
static int open_on_legacy(struct back_folder *f, struct err *err)
{
    struct back *b = f->back;
    const struct source_folder *listed =
        find_listed(&b->legacy_list, f->row->name);
    struct source_status status;
    uint32_t uidnext;

    if (listed == NULL &&
        store_imap_folder(b->store, f->row->name, f->is_subscribed, &uidnext,
                          err) == -1)
        return -1;
    if (listed != NULL && f->is_subscribed && !listed->is_subscribed &&
        store_imap_subscribe(b->store, f->row->name, err) == -1 &&
        err->kind != ERR_ITEM)
        return -1;
    if (source_status(b->legacy, f->row->name, &status, err) == -1)
        return -1;
    if (f->row->uidvalidity == 0) {
        f->row->uidvalidity = status.uidvalidity;
        if (ledger_folder_save(b->ledger, f->row, err) == -1)
            return -1;
    }
    if (status.uidvalidity != f->row->uidvalidity)
        return err_set(err, ERR_ITEM,
                       "UIDVALIDITY on the old server is %u and was %u: is it "
                       "still the same folder?",
                       status.uidvalidity, f->row->uidvalidity);
    /* one that was made anew may have the same by chance, but counts from 1 */
    f->is_same = f->local.uidvalidity == f->row->uidvalidity &&
                 (f->row->flip_uidnext == 0 ||
                  f->local.uidnext >= f->row->flip_uidnext + STORE_UIDNEXT_GAP);
    return 0;
}

/* Local has given out UIDs of its own there. */
static bool has_own_uids(const struct back_folder *f)
{
    return f->row->flip_uidnext != 0 &&
           f->local.uidnext > f->row->flip_uidnext + STORE_UIDNEXT_GAP;
}

static int open_folder(struct back_folder *f, const struct source_folder *local,
                       struct err *err)
{
    struct back *b = f->back;
    char *name = legacy_name(b, local);
    int result = 0;

    if (name == NULL)
        return err_set(err, ERR_ITEM, "the old server cannot have such a name");
    if (source_examine(b->local, local->name, &f->local, err) == 0) {
        f->row = find_row(b, name);
        if (f->row == NULL)
            f->row = find_renamed(b, &f->local);
        if (f->row == NULL)
            result = know_folder(b, name, &f->row, err);
    } else {
        result = -1;
    }
    free(name);
    if (result == -1 || open_on_legacy(f, err) == -1)
        return -1;
    if (source_uids(b->local, &f->local_uids, &f->local_count, err) == -1)
        return -1;
    return back_rows_read(f, err);
}

static int run_folder(struct back_folder *f, bool is_second, struct err *err)
{
    if (is_second) {
        for (size_t i = 0, r = 0; i < f->local_count; i++) {
            while (r < f->row_count && f->rows[r].local_uid < f->local_uids[i])
                r++;
            if (r < f->row_count && f->rows[r].local_uid == f->local_uids[i])
                f->rows[r].is_found = true;
        }
        return back_changes(f, err);
    }
    if (has_own_uids(f) && back_make_space(f, err) == -1)
        return -1;
    return back_append_new(f, err);
}

static int go_through(struct back *b, const struct source_folder *local,
                      bool is_second, struct err *err)
{
    struct back_folder f = {.back = b,
                            .local_name = local->name,
                            .is_subscribed = local->is_subscribed};
    int result = open_folder(&f, local, err);

    if (result == 0)
        result = run_folder(&f, is_second, err);
    free(f.local_uids);
    free(f.rows);
    if (result == 0 || err->kind != ERR_ITEM || source_is_broken(b->legacy) ||
        source_is_broken(b->local))
        return result;
    if (!is_second) {
        b->refused++;
        back_tell(b, "%s: %s", local->name, err->text);
    }
    /* whose INBOX it is cannot be told: nobody's mail goes there */
    if (strcmp(local->name, "INBOX") == 0)
        return err_set(err, ERR_SETUP, "INBOX: %.400s", err->text);
    err_clear(err);
    return 0;
}

/* ---- the pass ---- */

static int go_through_all(struct back *b, bool is_second, struct err *err)
{
    for (size_t i = 0; i < b->local_list.count; i++) {
        const struct source_folder *f = &b->local_list.items[i];

        if (f->exists && f->is_selectable &&
            go_through(b, f, is_second, err) == -1)
            return -1;
    }
    return 0;
}

static void tell_folders(struct back *b)
{
    for (size_t i = 0; i < b->folder_count; i++) {
        const struct ledger_folder *row = &b->folders[i];

        if (row->uidvalidity != 0 && row->flip_uidnext != 0 &&
            find_listed(&b->legacy_list, row->name) != NULL &&
            !local_has(b, row))
            back_tell(b,
                      "%s: deleted or renamed on the new server, and left as "
                      "it is on the old one",
                      row->name);
    }
}

/* Without the rows of what was copied all that local has would look new. */
static int check_ledger(const struct back *b, struct err *err)
{
    for (size_t i = 0; i < b->folder_count; i++)
        if (b->folders[i].uidvalidity != 0)
            return 0;
    return err_set(err, ERR_SETUP,
                   "%s: the ledger of this mailbox is lost; what was copied "
                   "is not known",
                   b->job->ledger_dir);
}

static int begin(struct back *b, struct err *err)
{
    char separator;

    if (ledger_open(b->job->ledger_dir, &b->ledger, err) == -1 ||
        ledger_folders(b->ledger, &b->folders, &b->folder_count, err) == -1 ||
        check_ledger(b, err) == -1 || ledger_make_durable(b->ledger, err) == -1)
        return -1;
    if (message_file_open(&b->file, b->job->ledger_dir, err) == -1 ||
        ledger_back_forget_refused(b->ledger, err) == -1 ||
        back_settle_intents(b, err) == -1 || back_open_legacy(b, err) == -1 ||
        trail_local_open(b->job, &b->local, err) == -1)
        return -1;
    if (!source_namespace(b->local, &b->local_prefix, &separator))
        b->local_prefix = "";
    if (source_list(b->local, &b->local_list, err) == -1)
        return -1;
    return source_list(b->legacy, &b->legacy_list, err);
}

static int pass(struct back *b, struct err *err)
{
    if (begin(b, err) == -1 || go_through_all(b, false, err) == -1 ||
        go_through_all(b, true, err) == -1)
        return -1;
    if (b->job->with_changes)
        tell_folders(b);
    return 0;
}

static void release(struct back *b)
{
    store_imap_close(&b->store);
    source_close(&b->legacy);
    source_close(&b->local);
    source_folder_list_release(&b->local_list);
    source_folder_list_release(&b->legacy_list);
    ledger_folders_free(&b->folders, b->folder_count);
    message_file_release(&b->file);
}

int back_run(const struct migration_job *job, struct progress *progress,
             struct migration_report *report, struct err *err)
{
    struct back b = {
        .job = job, .progress = progress, .report = report, .file = {.fd = -1}};
    struct err ignored;
    int result = pass(&b, err);

    if (b.ledger != NULL) {
        report->folders = (int64_t)b.folder_count;
        ledger_rollback(b.ledger);
        ledger_totals(b.ledger, 0, &report->messages, &report->bytes,
                      &report->set_aside, &ignored);
    }
    release(&b);
    ledger_close(&b.ledger);
    log_info("back %s last=%d appended=%lld left=%lld", job->address,
             job->is_last, (long long)report->appended,
             (long long)report->differences);
    return result;
}

int back_settle(const struct migration_job *job, struct ledger *ledger,
                struct err *err)
{
    struct back b = {.job = job, .ledger = ledger, .file = {.fd = -1}};
    int result = -1;

    if (ledger_folders(ledger, &b.folders, &b.folder_count, err) == 0 &&
        message_file_open(&b.file, job->ledger_dir, err) == 0)
        result = back_settle_intents(&b, err);
    release(&b);
    return result;
}
