/*
 * Preloaded into a program: counts its calls that change a file, and kills it
 * with SIGKILL at the one numbered KILL_AT, as a power cut would: before the
 * call, or (KILL_HALF set) with half of the bytes of a write on their way. What
 * goes to sockets and terminals is not counted. With COUNT_TO=FILE the number
 * of calls is left there at exit.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long count;

static long kill_at(void)
{
    static long at = -1;

    if (at == -1)
        at = getenv("KILL_AT") ? strtol(getenv("KILL_AT"), NULL, 10) : 0;
    return at;
}

static int is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* One more such call. 1: it is to be the last, half done. */
static int step(int can_be_half)
{
    if (++count != kill_at())
        return 0;
    if (can_be_half && getenv("KILL_HALF"))
        return 1;
    kill(getpid(), SIGKILL);
    return 0;
}

__attribute__((destructor)) static void tell_count(void)
{
    const char *path = getenv("COUNT_TO");
    FILE *f = path ? fopen(path, "w") : NULL;

    if (f) {
        fprintf(f, "%ld\n", count);
        fclose(f);
    }
}

#define REAL(type, name, ...)                                                  \
    static type (*real)(__VA_ARGS__);                                          \
    if (!real)                                                                 \
    *(void **)&real = dlsym(RTLD_NEXT, name)

static void end(void)
{
    kill(getpid(), SIGKILL);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    if (is_file(fd) && step(1)) {
        real(fd, bytes, length / 2);
        end();
    }
    return real(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int part_count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (is_file(fd) && step(1)) {
        if (write(fd, parts[0].iov_base, parts[0].iov_len / 2) >= -1)
            end();
    }
    return real(fd, parts, part_count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (is_file(fd) && step(1)) {
        real(fd, bytes, length / 2, at);
        end();
    }
    return real(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
    return pwrite(fd, bytes, length, at);
}

#define PATHS(name, decl, call)                                                \
    int name decl                                                              \
    {                                                                          \
        static int(*real) decl;                                                \
        if (!real)                                                             \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                         \
        step(0);                                                               \
        return real call;                                                      \
    }

PATHS(rename, (const char *a, const char *b), (a, b))
PATHS(renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
PATHS(link, (const char *a, const char *b), (a, b))
PATHS(linkat, (int a, const char *b, int c, const char *d, int e),
      (a, b, c, d, e))
PATHS(unlink, (const char *a), (a))
PATHS(unlinkat, (int a, const char *b, int c), (a, b, c))
PATHS(mkdir, (const char *a, mode_t b), (a, b))
PATHS(mkdirat, (int a, const char *b, mode_t c), (a, b, c))
PATHS(ftruncate, (int a, off_t b), (a, b))
PATHS(ftruncate64, (int a, off64_t b), (a, b))
PATHS(fsync, (int a), (a))
PATHS(fdatasync, (int a), (a))
PATHS(syncfs, (int a), (a))
PATHS(futimens, (int a, const struct timespec b[2]), (a, b))
PATHS(utimensat, (int a, const char *b, const struct timespec c[2], int d),
      (a, b, c, d))

int openat(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    REAL(int, "openat", int, const char *, int, ...);
    va_start(args, flags);
    if (flags & O_CREAT) {
        mode = va_arg(args, mode_t);
        step(0);
    }
    va_end(args);
    return real(folder, path, flags, mode);
}
