/*
 * Copying again after local has served the mailbox: a flip that was given back,
 * or a way back. Dovecot has given out UIDs of its own, renamed files and
 * folders, and its index files do not know what is written now. Legacy is the
 * truth again; but what local received is removed only where the ledger says
 * that legacy has it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/copy_parts.h"
#include "migrator/folder_name.h"
#include "migrator/maildir_read.h"
#include "migrator/store_parts.h"

#define MODSEQ_MARGIN 1000000
#define OURS          ".mailhaul,"
#define FOREIGN       ".kept,"

/* ---- names ---- */

/* Dovecot keeps a file's name when the message is moved to another folder: such
   a name would speak of a message that is not there. */
static void neutral_name(const char *name, size_t length, char *out,
                         size_t size)
{
    const char *ours = strstr(name, OURS);

    if (ours == NULL || ours >= name + length)
        snprintf(out, size, "%.*s", (int)length, name);
    else
        snprintf(out, size, "%.*s" FOREIGN "%.*s", (int)(ours - name), name,
                 (int)(name + length - ours - strlen(OURS)),
                 ours + strlen(OURS));
}

static size_t base_length(const char *name)
{
    return strcspn(name, ":");
}

static enum store_fate rename_strangers(void *ctx, const char *name, char *to,
                                        size_t size)
{
    const struct store_folder *folder = ctx;

    if (strstr(name, OURS) == NULL || store_uid_of(folder, name) != 0)
        return STORE_KEEP;
    neutral_name(name, strlen(name), to, size);
    return STORE_RENAME;
}

/* ---- what local has of legacy's under another name ---- */

struct returned {
    uint32_t uid, local_uid, vsize;
};

struct returned_list {
    struct returned *items; /* owned */
    size_t count, size;
};

static int on_row(void *ctx, const struct ledger_message *m, struct err *err)
{
    struct returned_list *list = ctx;

    (void)err;
    if (m->state != LEDGER_APPENDED && m->state != LEDGER_RETURNED)
        return 0;
    if (list->count == list->size) {
        list->size = list->size * 2 + 64;
        list->items = mem_grow(list->items, list->size * sizeof(*list->items));
    }
    list->items[list->count++] = (struct returned){
        .uid = m->uid, .local_uid = m->local_uid, .vsize = m->vsize};
    return 0;
}

/* From now on it is known by the name of its file: the list that gives it a UID
   is about to be replaced. Legacy's copy is fetched as any other message. */
static int note_superseded(struct copy *c, const struct ledger_folder *f,
                           const struct maildir_folder *local,
                           const struct returned *r, struct err *err)
{
    const struct maildir_message *m = maildir_find(local, r->local_uid);
    char name[512];

    if (m != NULL && m->name != NULL &&
        (m->vsize == -1 || m->vsize == (int64_t)r->vsize)) {
        const struct store_folder folder = {.uidvalidity = f->uidvalidity,
                                            .hash = folder_hash(f->name)};

        /* moved away and back again: the name is right, and stays */
        if (store_uid_of(&folder, m->name) != 0)
            snprintf(name, sizeof(name), "%.*s", (int)base_length(m->name),
                     m->name);
        else
            neutral_name(m->name, base_length(m->name), name, sizeof(name));
        if (ledger_superseded_add(c->ledger, f->id, name, r->uid, err) == -1)
            return -1;
    }
    return ledger_message_remove(c->ledger, f->id, r->uid, err);
}

static int note_all(struct copy *c, struct ledger_folder *f,
                    const struct maildir_folder *local, struct err *err)
{
    struct returned_list list = {0};
    int rc = ledger_messages(c->ledger, f->id, on_row, &list, err);

    if (rc == 0)
        rc = ledger_begin(c->ledger, err);
    for (size_t i = 0; i < list.count && rc == 0; i++)
        rc = note_superseded(c, f, local, &list.items[i], err);
    free(list.items);
    if (rc == -1)
        return -1;
    if (local->uidvalidity == f->uidvalidity &&
        local->uidnext > f->least_uidnext)
        f->least_uidnext = local->uidnext;
    if (f->lifted_modseq != 0)
        f->least_modseq = f->lifted_modseq + MODSEQ_MARGIN;
    f->flip_uidnext = 0;
    f->lifted_modseq = 0;
    f->is_complete = false; /* files and lists are gone through again */
    if (ledger_folder_save(c->ledger, f, err) == -1)
        return -1;
    return ledger_commit(c->ledger, err);
}

/* ---- folders ---- */

static bool is_ours_by_name(const struct copy *c, const char *directory)
{
    for (size_t i = 0; i < c->folder_count; i++)
        if (strcmp(c->folders[i].directory, directory) == 0)
            return true;
    return false;
}

static bool was_copied(const struct ledger_folder *f,
                       const struct maildir_folder *local)
{
    if (local->uidvalidity != f->uidvalidity ||
        local->uidnext < f->flip_uidnext + STORE_UIDNEXT_GAP)
        return false;
    for (size_t i = 0; i < local->count; i++)
        if (local->messages[i].is_copied)
            return true;
    return local->count == 0;
}

/* Its user has renamed the folder; legacy has not. */
static int find_renamed(struct copy *c, const struct ledger_folder *f,
                        struct err *err)
{
    char **names;
    size_t count;
    int rc = 0;

    if (maildir_list(c->job->maildir, &names, &count, err) == -1)
        return -1;
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct maildir_folder local;
        bool is_it;

        if (is_ours_by_name(c, names[i]) ||
            maildir_read(c->job->maildir, names[i], &local, err) == -1)
            continue;
        is_it = was_copied(f, &local);
        maildir_folder_release(&local);
        if (!is_it)
            continue;
        log_info("%s folder %s was renamed to %s", c->job->address,
                 log_safe(f->directory), log_safe(names[i]));
        rc = store_rename_folder(c->store, names[i], f->directory, err);
        break;
    }
    maildir_names_free(&names, count);
    err_clear(err);
    return rc;
}

static int undo_folder(struct copy *c, struct ledger_folder *f, struct err *err)
{
    struct store_folder *folder;
    struct maildir_folder local;
    struct store_mark unused;
    int rc;

    if (f->directory[0] != '\0' && f->flip_uidnext != 0 &&
        !store_mark(c->store, f->directory, &unused) &&
        find_renamed(c, f, err) == -1)
        return -1;
    if (maildir_read(c->job->maildir, f->directory, &local, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        err_clear(err);
        memset(&local, 0, sizeof(local));
    }
    rc = note_all(c, f, &local, err);
    maildir_folder_release(&local);
    if (rc == -1 ||
        store_folder_open(c->store, f->directory, folder_hash(f->name),
                          f->uidvalidity, &folder, err) == -1)
        return -1;
    rc = store_sweep(folder, rename_strangers, folder, err);
    if (rc == 0)
        rc = store_forget_index(folder, err);
    if (store_folder_close(&folder, err) == -1)
        return -1;
    return rc;
}

int copy_undo_flip(struct copy *c, struct err *err)
{
    int64_t epoch;

    if (!store_read_witness(c->store, &epoch))
        return 0;
    /* the last delta hands over what it began itself */
    if (c->job->epoch + (c->job->kind == JOB_FINAL) < epoch)
        return err_set(err, ERR_SETUP,
                       "%s: handed over in epoch %lld, this job is of %lld: "
                       "the control db is older than the mailbox",
                       c->job->address, (long long)epoch,
                       (long long)c->job->epoch);
    if (c->job->kind == JOB_FINAL)
        return 0;
    log_info("%s flip-undone", c->job->address);
    /* which file is which must not be lost with the power */
    if (ledger_make_durable(c->ledger, err) == -1 ||
        ledger_put(c->ledger, "verified", "0", err) == -1)
        return -1;
    c->was_verified = false;
    for (size_t i = 0; i < c->folder_count; i++)
        if (c->folders[i].uidvalidity != 0 &&
            undo_folder(c, &c->folders[i], err) == -1) {
            ledger_rollback(c->ledger);
            return -1;
        }
    return store_remove_witness(c->store, err);
}

/* ---- once legacy's copy is there ---- */

struct superseded {
    char *file; /* owned */
    uint32_t uid;
    bool is_over; /* its entry is of no more use */
};

struct sweep {
    const struct copy_pass *pass; /* NULL: the folder is gone from legacy */
    const struct store_folder *folder;
    struct superseded *items; /* owned */
    size_t count;
};

static int collect(void *ctx, const char *file, uint32_t uid)
{
    struct sweep *s = ctx;

    s->items = mem_grow(s->items, (s->count + 1) * sizeof(*s->items));
    s->items[s->count++] =
        (struct superseded){.file = mem_dup_text(file), .uid = uid};
    return 0;
}

/* By the name that the ledger's query has ordered them by. */
static struct superseded *find_file(struct sweep *s, const char *name)
{
    size_t length = base_length(name), low = 0, high = s->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncmp(s->items[middle].file, name, length);

        if (order == 0 && s->items[middle].file[length] != '\0')
            order = 1;
        if (order == 0)
            return &s->items[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Legacy's copy could not be fetched yet: this is the only one there is. */
static bool is_still_needed(const struct sweep *s,
                            const struct superseded *item)
{
    const struct copy_row *row =
        s->pass == NULL
            ? NULL
            : copy_row_find((struct copy_rows *)&s->pass->rows, item->uid);

    return row != NULL && !row->is_stored;
}

/* It is the copy itself, under its own name. */
static bool is_copy(const struct sweep *s, const char *name)
{
    uint32_t uid = store_uid_of(s->folder, name);
    const struct copy_row *row =
        s->pass == NULL || uid == 0
            ? NULL
            : copy_row_find((struct copy_rows *)&s->pass->rows, uid);

    return row != NULL && row->is_stored;
}

static enum store_fate judge(void *ctx, const char *name, char *to, size_t size)
{
    struct sweep *s = ctx;
    struct superseded *item = find_file(s, name);

    (void)to;
    (void)size;
    if (item == NULL || is_still_needed(s, item) || is_copy(s, name))
        return STORE_KEEP;
    return STORE_REMOVE;
}

static int forget(struct copy *c, int64_t folder, const struct sweep *s,
                  struct err *err)
{
    if (ledger_begin(c->ledger, err) == -1)
        return -1;
    for (size_t i = 0; i < s->count; i++)
        if (!is_still_needed(s, &s->items[i]) &&
            ledger_superseded_remove(c->ledger, folder, s->items[i].file,
                                     err) == -1) {
            ledger_rollback(c->ledger);
            return -1;
        }
    return ledger_commit(c->ledger, err);
}

static int sweep_folder(struct copy *c, int64_t folder, struct sweep *s,
                        struct store_folder *store, struct err *err)
{
    int rc = store_sweep(store, judge, s, err);

    return rc == -1 ? -1 : forget(c, folder, s, err);
}

static void release(struct sweep *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i].file);
    free(s->items);
}

/* The folder's store open, and no transaction. */
static int touch(struct copy_pass *p, struct err *err)
{
    if (p->is_marked)
        return 0;
    if (copy_touch(p, err) == -1)
        return -1;
    return ledger_commit(p->copy->ledger, err);
}

int copy_supersede(struct copy_pass *p, struct err *err)
{
    struct sweep s = {.pass = p};
    int rc =
        ledger_superseded(p->copy->ledger, p->folder->id, collect, &s, err);

    if (rc == 0 && s.count > 0)
        rc = touch(p, err);
    if (rc == 0 && s.count > 0) {
        s.folder = p->store;
        rc = sweep_folder(p->copy, p->folder->id, &s, p->store, err);
    }
    release(&s);
    return rc;
}

int copy_supersede_gone(struct copy *c, const struct ledger_folder *f,
                        struct err *err)
{
    struct sweep s = {0};
    struct store_folder *store;
    int rc = ledger_superseded(c->ledger, f->id, collect, &s, err);

    if (rc == 0 && s.count > 0) {
        rc = store_folder_open(c->store, f->directory, folder_hash(f->name),
                               f->uidvalidity, &store, err);
        if (rc == 0) {
            s.folder = store;
            rc = sweep_folder(c, f->id, &s, store, err);
            store_folder_close(&store, NULL);
        }
    }
    release(&s);
    return rc;
}
