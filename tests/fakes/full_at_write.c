/*
 * Preloaded into a program: a disk that becomes full at a chosen moment. Counts
 * the calls that need room (write, pwrite, ftruncate, fsync, creating, rename,
 * link, mkdir) on files; the one at which the control file's `left` comes to 0
 * fails with ENOSPC, and so do all after it until the test makes room by
 * setting `left` to -1, or with `once` that one alone. With `half` a write
 * first takes half of its bytes, as a real disk does. While there is no room,
 * statvfs() tells so. What goes to sockets, terminals and the log is not
 * counted.
 *
 * FULL_CONTROL  the control file: struct control, mapped by the test too
 * FULL_IN       a word of the command line of the program that is meant
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ROOM INT64_C(-1)

struct control {
    int64_t left; /* calls until there is no room; 0: there is none; ROOM */
    int64_t half; /* the first write to fail is cut */
    int64_t counted;
    int64_t failed;
    int64_t once; /* then there is room again */
};

static struct control *control;

static int is_meant(void)
{
    const char *word = getenv("FULL_IN");
    char line[4096];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
    ssize_t got = fd == -1 ? -1 : read(fd, line, sizeof line - 1);

    if (fd != -1)
        close(fd);
    if (word == NULL || got <= 0)
        return 0;
    for (ssize_t i = 0; i < got; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    line[got] = '\0';
    return strstr(line, word) != NULL;
}

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("FULL_CONTROL");
    int fd;

    if (path == NULL || !is_meant())
        return;
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR);
    if (fd == -1)
        return;
    control =
        mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        control = NULL;
    close(fd);
}

/* One more such call: 0 it may go on, 1 no room, 2 no room for all of it. */
static int step(void)
{
    int64_t left;

    if (control == NULL)
        return 0;
    __atomic_add_fetch(&control->counted, 1, __ATOMIC_SEQ_CST);
    left = __atomic_load_n(&control->left, __ATOMIC_SEQ_CST);
    if (left == ROOM)
        return 0;
    if (left > 0) {
        left = __atomic_sub_fetch(&control->left, 1, __ATOMIC_SEQ_CST);
        if (left > 0)
            return 0;
        __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
        if (control->once)
            __atomic_store_n(&control->left, ROOM, __ATOMIC_SEQ_CST);
        return control->half && !control->once ? 2 : 1;
    }
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    return 1;
}

static int is_file(int fd)
{
    struct stat st;

    return control != NULL && fd > STDERR_FILENO && fstat(fd, &st) == 0 &&
           (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

#define REAL(type, name, ...)                                                  \
    static type (*real)(__VA_ARGS__);                                          \
    if (!real)                                                                 \
    *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *bytes, size_t length)
{
    int room;

    REAL(ssize_t, "write", int, const void *, size_t);
    room = is_file(fd) ? step() : 0;
    if (room == 2 && length > 1)
        return real(fd, bytes, length / 2);
    if (room == 0)
        return real(fd, bytes, length);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    int room;

    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    room = is_file(fd) ? step() : 0;
    if (room == 2 && length > 1)
        return real(fd, bytes, length / 2, at);
    if (room == 0)
        return real(fd, bytes, length, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
    return pwrite(fd, bytes, length, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!is_file(fd) || step() == 0)
        return real(fd, parts, count);
    errno = ENOSPC;
    return -1;
}

/* A program may look before it writes. */
static int tell_room(int rc, struct statvfs *out)
{
    if (rc == 0 && control != NULL &&
        __atomic_load_n(&control->left, __ATOMIC_SEQ_CST) == 0)
        out->f_bavail = out->f_bfree = 0;
    return rc;
}

int statvfs(const char *path, struct statvfs *out)
{
    REAL(int, "statvfs", const char *, struct statvfs *);
    return tell_room(real(path, out), out);
}

int fstatvfs(int fd, struct statvfs *out)
{
    REAL(int, "fstatvfs", int, struct statvfs *);
    return tell_room(real(fd, out), out);
}

/* What a stream holds back is written here. */
int fflush(FILE *stream)
{
    REAL(int, "fflush", FILE *);
    if (stream == NULL || !is_file(fileno(stream)) || step() == 0)
        return real(stream);
    errno = ENOSPC;
    return EOF;
}

#define NEEDS_ROOM(name, decl, call, condition)                                \
    int name decl                                                              \
    {                                                                          \
        static int(*real) decl;                                                \
        if (!real)                                                             \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                         \
        if (!(condition) || step() == 0)                                       \
            return real call;                                                  \
        errno = ENOSPC;                                                        \
        return -1;                                                             \
    }

NEEDS_ROOM(rename, (const char *a, const char *b), (a, b), 1)
NEEDS_ROOM(renameat, (int a, const char *b, int c, const char *d), (a, b, c, d),
           1)
NEEDS_ROOM(link, (const char *a, const char *b), (a, b), 1)
NEEDS_ROOM(linkat, (int a, const char *b, int c, const char *d, int e),
           (a, b, c, d, e), 1)
NEEDS_ROOM(mkdir, (const char *a, mode_t b), (a, b), 1)
NEEDS_ROOM(mkdirat, (int a, const char *b, mode_t c), (a, b, c), 1)
NEEDS_ROOM(ftruncate, (int a, off_t b), (a, b), b > 0)
NEEDS_ROOM(ftruncate64, (int a, off64_t b), (a, b), b > 0)
NEEDS_ROOM(fsync, (int a), (a), 1)
NEEDS_ROOM(fdatasync, (int a), (a), 1)
NEEDS_ROOM(syncfs, (int a), (a), 1)

/* Only of a file that is not there yet. */
static int creates(int folder, const char *path, int flags)
{
    struct stat st;

    return control != NULL && (flags & O_CREAT) &&
           fstatat(folder, path, &st, 0) == -1 && errno == ENOENT;
}

#define OPENS(name, decl, call, folder)                                        \
    int name decl                                                              \
    {                                                                          \
        static int(*real) decl;                                                \
        mode_t mode = 0;                                                       \
        va_list args;                                                          \
                                                                               \
        if (!real)                                                             \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                         \
        va_start(args, flags);                                                 \
        if (flags & O_CREAT)                                                   \
            mode = va_arg(args, mode_t);                                       \
        va_end(args);                                                          \
        if (!creates(folder, path, flags) || step() == 0)                      \
            return real call;                                                  \
        errno = ENOSPC;                                                        \
        return -1;                                                             \
    }

OPENS(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENS(openat, (int folder, const char *path, int flags, ...),
      (folder, path, flags, mode), folder)
OPENS(openat64, (int folder, const char *path, int flags, ...),
      (folder, path, flags, mode), folder)
