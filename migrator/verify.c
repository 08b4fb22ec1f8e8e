/*
 * Verify as a whole: folders, subscriptions, the witness; the messages are in
 * verify_messages.c, POP3 in verify_uidl.c. Owns the connection to legacy.
 */
#include "migrator/verify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/folder_choice.h"
#include "migrator/folder_name.h"
#include "migrator/store_maildir.h"
#include "migrator/verify_parts.h"

#define DETAILS_MAX 100
#define NOTES_MAX   20

/* ---- telling ---- */

static void add_detail(struct verify *v, const char *prefix, const char *format,
                       va_list arguments)
{
    char text[512], line[600];

    vsnprintf(text, sizeof text, format, arguments);
    snprintf(line, sizeof line, "%s%s", prefix, text);
    if (v->report->details == NULL)
        v->report->details = json_array();
    /* a name need not be UTF-8, which JSON insists on */
    if (json_array_append_new(v->report->details, json_string(line)) == -1)
        json_array_append_new(v->report->details, json_string(log_safe(line)));
}

void verify_differs(struct verify *v, const char *format, ...)
{
    va_list arguments;

    v->report->differences++;
    if (v->details++ >= DETAILS_MAX)
        return;
    va_start(arguments, format);
    add_detail(v, "", format, arguments);
    va_end(arguments);
}

void verify_note(struct verify *v, const char *format, ...)
{
    va_list arguments;

    if (v->notes++ >= NOTES_MAX)
        return;
    va_start(arguments, format);
    add_detail(v, "note: ", format, arguments);
    va_end(arguments);
}

/* ---- one folder ---- */

static uint32_t last_copied(const struct maildir_folder *local)
{
    for (size_t i = local->count; i > 0; i--)
        if (local->messages[i - 1].is_copied)
            return local->messages[i - 1].uid;
    return 0;
}

/* Local began to give out UIDs at legacy's UIDNEXT of the flip and a gap; its
   lowest own UID, or else its next one, bounds that from above. */
static uint32_t first_late(const struct maildir_folder *local)
{
    uint32_t own = local->uidnext;

    for (size_t i = 0; i < local->count; i++) {
        const struct maildir_message *m = &local->messages[i];

        if (m->uid == 0 || m->is_copied)
            continue;
        own = m->uid;
        break;
    }
    return own > STORE_UIDNEXT_GAP ? own - STORE_UIDNEXT_GAP : UINT32_MAX;
}

static int compare_folder(struct verify *v, struct verify_folder *f,
                          struct err *err)
{
    struct source_status status = {0};
    uint32_t *uids = NULL;
    size_t count = 0;
    int result;

    if (source_examine(v->source, f->name, &status, err) == -1 ||
        source_uids(v->source, &uids, &count, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        verify_note(v, "%s: legacy refuses it", f->name);
        return 0;
    }
    if (strcmp(f->name, "INBOX") == 0)
        v->has_recent = status.recent > 0;
    /* a folder without a copied message was made after the flip, or again */
    if (f->local.uidvalidity != status.uidvalidity &&
        (!v->is_flipped || f->last_copied > 0))
        verify_differs(v, "%s: UIDVALIDITY is %u on legacy, %u locally",
                       f->name, status.uidvalidity, f->local.uidvalidity);
    v->report->messages_total += (int64_t)count;
    result = verify_messages(v, f, uids, count, err);
    free(uids);
    return result;
}

static int verify_folder_at(struct verify *v, const char *name,
                            const char *directory, struct err *err)
{
    struct verify_folder f = {.name = name};
    int result;

    if (maildir_read(v->job->maildir, directory, &f.local, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        if (!v->is_flipped) {
            verify_differs(v, "%s: folder is missing locally", name);
            return 0;
        }
        /* the user may have removed it; what arrived since is still sought */
        verify_note(v, "%s: folder is not here any more", name);
    } else {
        v->report->folders++;
    }
    f.last_copied = last_copied(&f.local);
    f.first_late = first_late(&f.local);
    result = compare_folder(v, &f, err);
    maildir_folder_release(&f.local);
    return result;
}

/* ---- lists of folders ---- */

struct names {
    char **items; /* owned */
    size_t count;
};

static void names_add(struct names *names, const char *name)
{
    names->items =
        mem_grow(names->items, (names->count + 1) * sizeof *names->items);
    names->items[names->count++] = mem_dup_text(name);
}

static bool names_have(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

static int compare_folders(struct verify *v,
                           const struct source_folder_list *list,
                           struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct source_folder *f = &list->items[i];
        char directory[FOLDER_DIRECTORY_SIZE];

        if (!f->exists)
            continue;
        if (folder_directory(f->name, f->separator, v->prefix, directory,
                             err) == -1) {
            verify_differs(v, "%s: cannot be held locally: %s",
                           log_safe(f->name), err->text);
            continue;
        }
        if (f->is_selectable &&
            verify_folder_at(v, f->name, directory, err) == -1)
            return -1;
    }
    return 0;
}

static int compare_surplus_folders(struct verify *v, const struct names *known,
                                   struct err *err)
{
    struct names local = {0};

    if (v->is_flipped)
        return 0;
    if (maildir_list(v->job->maildir, &local.items, &local.count, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        return 0;
    }
    for (size_t i = 0; i < local.count; i++)
        if (!names_have(known, local.items[i]))
            verify_differs(v, "%s: only local has this folder",
                           log_safe(local.items[i]));
    maildir_names_free(&local.items, local.count);
    return 0;
}

static int compare_subscriptions(struct verify *v,
                                 const struct source_folder_list *list,
                                 struct err *err)
{
    struct names local = {0}, legacy = {0};

    if (maildir_subscriptions(v->job->maildir, &local.items, &local.count,
                              err) == -1)
        return -1;
    for (size_t i = 0; i < list->count; i++) {
        const struct source_folder *f = &list->items[i];
        char line[FOLDER_DIRECTORY_SIZE];

        if (!f->is_subscribed ||
            folder_subscription(f->name, f->separator, v->prefix, line, err) ==
                -1)
            continue;
        names_add(&legacy, line);
        if (names_have(&local, line))
            continue;
        if (v->is_flipped)
            verify_note(v, "%s: not subscribed any more", f->name);
        else
            verify_differs(v, "%s: not subscribed locally", f->name);
    }
    for (size_t i = 0; i < local.count && !v->is_flipped; i++)
        if (!names_have(&legacy, local.items[i]))
            verify_differs(v, "%s: subscribed only locally",
                           log_safe(local.items[i]));
    maildir_names_free(&local.items, local.count);
    maildir_names_free(&legacy.items, legacy.count);
    err_clear(err);
    return 0;
}

int verify_lists(struct verify *v, const struct source_folder_list *list,
                 struct err *err)
{
    struct names known = {0};
    int result;

    for (size_t i = 0; i < list->count; i++) {
        const struct source_folder *f = &list->items[i];
        char directory[FOLDER_DIRECTORY_SIZE];

        if (f->exists && folder_directory(f->name, f->separator, v->prefix,
                                          directory, err) == 0)
            names_add(&known, directory);
    }
    err_clear(err);
    result = compare_surplus_folders(v, &known, err);
    if (result == 0)
        result = compare_subscriptions(v, list, err);
    maildir_names_free(&known.items, known.count);
    return result;
}

/* ---- after the flip: everything local by its size ---- */

static int compare_vsize(const void *a, const void *b)
{
    const struct verify_file *x = a, *y = b;

    return x->vsize < y->vsize ? -1 : x->vsize > y->vsize;
}

static int index_folder(struct verify *v, const char *directory,
                        struct err *err)
{
    struct maildir_folder local;

    if (maildir_read(v->job->maildir, directory, &local, err) == -1)
        return err->kind == ERR_ITEM ? 0 : -1;
    v->files = mem_grow(v->files,
                        (v->file_count + local.count + 1) * sizeof *v->files);
    for (size_t i = 0; i < local.count; i++) {
        const struct maildir_message *m = &local.messages[i];
        size_t size = strlen(local.path) + strlen(m->name) + 8;
        struct verify_file *file = &v->files[v->file_count++];

        file->vsize = m->vsize;
        file->path = mem_alloc(size);
        snprintf(file->path, size, "%s/%s/%s", local.path,
                 m->is_new ? "new" : "cur", m->name);
    }
    maildir_folder_release(&local);
    return 0;
}

static int index_files(struct verify *v, struct err *err)
{
    struct names local = {0};
    int result = index_folder(v, "", err);

    if (result == 0 &&
        maildir_list(v->job->maildir, &local.items, &local.count, err) == -1)
        result = err->kind == ERR_ITEM ? 0 : -1;
    for (size_t i = 0; i < local.count && result == 0; i++)
        result = index_folder(v, local.items[i], err);
    maildir_names_free(&local.items, local.count);
    if (v->file_count > 0)
        qsort(v->files, v->file_count, sizeof *v->files, compare_vsize);
    return result;
}

static int look_for_witness(struct verify *v, struct err *err)
{
    char path[sizeof v->job->maildir + 32];
    struct stat st;

    snprintf(path, sizeof path, "%s/" STORE_WITNESS, v->job->maildir);
    if (stat(path, &st) == -1) {
        if (errno == ENOENT)
            return 0;
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    }
    v->is_flipped = true;
    v->flipped_at = st.st_mtime;
    return index_files(v, err);
}

/* ---- the whole ---- */

static int verify_all(struct verify *v, struct err *err)
{
    struct source_folder_list list = {0};
    char separator;
    int result;

    if (look_for_witness(v, err) == -1 ||
        source_open(v->job, &v->source, err) == -1)
        return -1;
    if (!source_namespace(v->source, &v->prefix, &separator))
        v->prefix = v->job->has_prefix ? v->job->prefix : "";
    result = folder_choice_list(v->job, v->source, &list, err);
    if (result == 0)
        result = compare_folders(v, &list, err);
    if (result == 0)
        result = verify_lists(v, &list, err);
    if (result == 0 && v->job->legacy_pop3.host[0] != '\0') {
        if (v->has_recent && !v->is_flipped)
            verify_note(v, "INBOX: POP3 ids not compared, a POP3 session would "
                           "take \\Recent from what is new there");
        else
            result = verify_uidls(v, err);
    }
    source_folder_list_release(&list);
    return result;
}

int verify_run(const struct migration_job *job, struct progress *progress,
               struct migration_report *report, struct err *err)
{
    struct verify v = {.job = job, .progress = progress, .report = report};
    int result = verify_all(&v, err);

    source_close(&v.source);
    for (size_t i = 0; i < v.file_count; i++)
        free(v.files[i].path);
    free(v.files);
    log_info("verify account=%lld flipped=%d differences=%lld notes=%u",
             (long long)job->account_id, v.is_flipped,
             (long long)report->differences, v.notes);
    return result;
}
