#include "smtp-proxy/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct spool {
    int fd;
    off_t written;
    off_t read;
};

/* Not every file system has O_TMPFILE. */
static int open_nameless(const char *folder)
{
    char name[4096];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd != -1)
        return fd;
    snprintf(name, sizeof(name), "%s/smtp-XXXXXX", folder);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd != -1)
        unlink(name);
    return fd;
}

struct spool *spool_new(const char *folder, struct err *err)
{
    int fd = open_nameless(folder);
    struct spool *spool;

    if (fd == -1) {
        err_set(err, ERR_SETUP, "%s: %s", folder, strerror(errno));
        return NULL;
    }
    spool = mem_alloc(sizeof(*spool));
    spool->fd = fd;
    return spool;
}

void spool_free(struct spool **spool)
{
    if (*spool == NULL)
        return;
    close((*spool)->fd);
    free(*spool);
    *spool = NULL;
}

int spool_write(struct spool *spool, const char *bytes, size_t length,
                struct err *err)
{
    while (length > 0) {
        ssize_t count = pwrite(spool->fd, bytes, length, spool->written);

        if (count == -1 && errno == EINTR)
            continue;
        if (count <= 0)
            return err_set(err, ERR_SETUP, "temporary file: %s",
                           strerror(errno));
        spool->written += count;
        bytes += count;
        length -= (size_t)count;
    }
    return 0;
}

ssize_t spool_read(struct spool *spool, char *bytes, size_t size,
                   struct err *err)
{
    ssize_t count;

    do {
        count = pread(spool->fd, bytes, size, spool->read);
    } while (count == -1 && errno == EINTR);
    if (count == -1)
        return err_set(err, ERR_SETUP, "temporary file: %s", strerror(errno));
    spool->read += count;
    return count;
}
