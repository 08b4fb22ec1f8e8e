/*
 * The witness journal, opened for state, which as its own user may not pass
 * through the directories of the mail. Owned by the owner of the store.
 */
#include "daemon/master.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/witness.h"

/* Not through a link: the directories may be written by the mail's owner. */
static int open_in(const char *base, struct err *err)
{
    int fd = -1, directory, root;

    if (mkdir(base, 0750) == -1 && errno != EEXIST)
        return err_set(err, ERR_SETUP, "%s: %s", base, strerror(errno));
    root = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root == -1)
        return err_set(err, ERR_SETUP, "%s: %s", base, strerror(errno));
    if (mkdirat(root, WITNESS_DIRECTORY, 0700) == 0)
        fsync(root);
    directory = openat(root, WITNESS_DIRECTORY,
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory != -1) {
        fd = openat(directory, WITNESS_FILE,
                    O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd != -1)
            fsync(directory);
    }
    if (fd == -1)
        err_set(err, ERR_SETUP, "%s/%s/%s: %s", base, WITNESS_DIRECTORY,
                WITNESS_FILE, strerror(errno));
    if (directory != -1)
        close(directory);
    close(root);
    return fd;
}

static int check(int fd, const char *base, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return fd;
    close(fd);
    return err_set(err, ERR_SETUP, "%s/%s/%s: is no file of ours", base,
                   WITNESS_DIRECTORY, WITNESS_FILE);
}

int master_witness_open(const struct generation *g, struct err *err)
{
    bool is_other = g->has_owner && geteuid() == 0 && g->owner_uid != 0;
    char base[PATH_MAX];
    int fd;

    if (!g->conf->store.path) {
        err_clear(err);
        return -1;
    }
    if (witness_base(g->conf, base, sizeof(base), err) == -1)
        return -1;
    if (is_other &&
        (setegid(g->owner_gid) == -1 || seteuid(g->owner_uid) == -1))
        return err_set(err, ERR_SETUP, "%s: %s", g->conf->store.owner,
                       strerror(errno));
    fd = open_in(base, err);
    if (is_other && (seteuid(0) == -1 || setegid(getgid()) == -1))
        _exit(1); /* we are not who we have to be */
    if (fd == -1 && is_other) {
        /* a base that is root's, in which each domain has been made for him */
        fd = open_in(base, err);
        if (fd != -1 && fchown(fd, g->owner_uid, g->owner_gid) == -1)
            return check(fd, base, err);
    }
    return fd == -1 ? -1 : check(fd, base, err);
}
