/*
 * Going through the files of a folder: which are the copy's own, what becomes
 * of each, and how a folder goes that holds others' too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrator/store_parts.h"

uint32_t store_uid_of(const struct store_folder *f, const char *name)
{
    const char *at = strstr(name, ".V");
    unsigned uidvalidity, uid, hash;
    int end = 0;

    if (at == NULL || sscanf(at, ".V%10uU%10uF%8x.mailhaul,%n", &uidvalidity,
                             &uid, &hash, &end) != 3)
        return 0;
    return end > 0 && uidvalidity == f->uidvalidity && hash == f->hash ? uid
                                                                       : 0;
}

static DIR *open_list(int parent, const char *name)
{
    int fd =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *list = fd == -1 ? NULL : fdopendir(fd);

    if (fd != -1 && list == NULL)
        close(fd);
    return list;
}

static int sweep_directory(DIR *list, store_fate_fn *fate, void *ctx,
                           struct err *err)
{
    struct dirent *entry;
    char to[NAME_MAX + 1];

    while ((entry = readdir(list)) != NULL) {
        int rc = 0;

        if (entry->d_name[0] == '.')
            continue;
        switch (fate(ctx, entry->d_name, to, sizeof(to))) {
        case STORE_KEEP: break;
        case STORE_REMOVE: rc = unlinkat(dirfd(list), entry->d_name, 0); break;
        case STORE_RENAME:
            rc = renameat(dirfd(list), entry->d_name, dirfd(list), to);
            break;
        }
        if (rc == -1 && errno != ENOENT)
            return store_fail(err, entry->d_name);
    }
    return 0;
}

int store_sweep(struct store_folder *folder, store_fate_fn *fate, void *ctx,
                struct err *err)
{
    static const char *const parts[] = {"cur", "new"};

    folder->store->is_dirty = true;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        DIR *list = open_list(folder->directory, parts[i]);
        int rc;

        if (list == NULL)
            return store_fail(err, parts[i]);
        rc = sweep_directory(list, fate, ctx, err);
        closedir(list);
        if (rc == -1)
            return -1;
    }
    return 0;
}

int store_rename_folder(struct store *store, const char *from, const char *to,
                        struct err *err)
{
    store->is_dirty = true;
    if (renameat(store->root, from, store->root, to) == 0)
        return 0;
    return store_fail(err, from);
}

/* ---- removing ---- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Files of a directory, not those below it; only_ours: that the copy has put
   there. How many stay. */
static size_t remove_files(int parent, const char *name, bool only_ours)
{
    DIR *list = open_list(parent, name);
    struct dirent *entry;
    size_t kept = 0;

    if (list == NULL)
        return 0;
    while ((entry = readdir(list)) != NULL) {
        if (is_dots(entry->d_name))
            continue;
        if (only_ours && strstr(entry->d_name, ".mailhaul,") == NULL)
            kept++;
        else
            unlinkat(dirfd(list), entry->d_name, 0);
    }
    closedir(list);
    return kept;
}

int store_remove_folder(struct store *store, const char *directory,
                        struct err *err)
{
    static const char *const parts[] = {"cur", "new", "tmp"};
    bool is_inbox = directory[0] == '\0';
    size_t kept;
    int fd = openat(store->root, is_inbox ? "." : directory,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd == -1)
        return errno == ENOENT ? 0 : store_fail(err, directory);
    store->is_dirty = true;
    remove_files(fd, "tmp", false);
    kept = remove_files(fd, "cur", true) + remove_files(fd, "new", true);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (!is_inbox && kept == 0)
            unlinkat(fd, parts[i], AT_REMOVEDIR);
    close(fd);
    if (is_inbox) {
        unlinkat(store->root, "dovecot-uidlist", 0);
        return 0;
    }
    if (kept > 0)
        return 0;
    remove_files(store->root, directory, false);
    if (unlinkat(store->root, directory, AT_REMOVEDIR) == -1 && errno != ENOENT)
        return store_fail(err, directory);
    return 0;
}
