/*
 * What copying leaves free on the store's file system: live mail is delivered
 * there too.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "migrator/store_parts.h"

/* Between two looks; workers that write at once may each go so far below. */
#define LOOK_BYTES (4u << 20)
#define LOOK_FILES 100

void store_keep_free(struct store *store, uint64_t bytes, uint64_t inodes)
{
    store->keep_bytes = bytes;
    store->keep_inodes = inodes;
    store->put_bytes = LOOK_BYTES; /* the first write looks */
}

/* Where the file system of the path is mounted, for the administrator; the path
   itself if that cannot be found out. */
static void mount_point(const char *path, char out[PATH_MAX])
{
    struct stat here, above;
    char parent[PATH_MAX];

    snprintf(out, PATH_MAX, "%s", path);
    while (strchr(out, '/') != NULL && out[1] != '\0') {
        char *slash;

        snprintf(parent, sizeof(parent), "%s", out);
        slash = strrchr(parent, '/');
        slash[slash == parent] = '\0';
        if (stat(out, &here) == -1 || stat(parent, &above) == -1 ||
            here.st_dev != above.st_dev)
            return;
        snprintf(out, PATH_MAX, "%s", parent);
    }
}

static int check_free(struct store *store, struct err *err)
{
    struct statvfs now;
    char mount[PATH_MAX];
    uint64_t bytes;

    store->put_bytes = store->put_files = 0;
    if (store->keep_bytes == 0 && store->keep_inodes == 0)
        return 0;
    if (fstatvfs(store->root, &now) == -1)
        return store_fail(err, "statvfs");
    bytes = (uint64_t)now.f_bavail * now.f_frsize;
    if (bytes < store->keep_bytes) {
        mount_point(store->path, mount);
        return err_set(err, ERR_RETRY,
                       "no room: %.120s has %llu MB free, store.reserve keeps "
                       "%llu MB for live mail",
                       mount, (unsigned long long)(bytes >> 20),
                       (unsigned long long)(store->keep_bytes >> 20));
    }
    /* some file systems have no fixed number of inodes, and say 0 */
    if (now.f_files != 0 && now.f_favail < store->keep_inodes) {
        mount_point(store->path, mount);
        return err_set(err, ERR_RETRY,
                       "no room: %.120s has %llu inodes free, store.reserve "
                       "keeps %llu for live mail",
                       mount, (unsigned long long)now.f_favail,
                       (unsigned long long)store->keep_inodes);
    }
    return 0;
}

int store_use(struct store *store, uint64_t bytes, uint64_t files,
              struct err *err)
{
    store->put_bytes += bytes;
    store->put_files += files;
    if (store->put_bytes < LOOK_BYTES && store->put_files < LOOK_FILES)
        return 0;
    return check_free(store, err);
}
