#include "base/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static size_t whole_pages(size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (length + 1 + page - 1) / page * page;
}

void secret_init(struct secret *s)
{
    s->bytes = NULL;
    s->length = 0;
}

/* Pages of its own, since locking and keeping out of cores work on pages. Both
   may be refused (RLIMIT_MEMLOCK); the secret is then kept all the same. */
void secret_set(struct secret *s, const void *bytes, size_t length)
{
    struct secret fresh = {NULL, length};
    size_t size;

    if (length > SIZE_MAX / 2)
        abort();
    size = whole_pages(length);
    fresh.bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh.bytes == MAP_FAILED)
        abort();
    (void)mlock(fresh.bytes, size);
    (void)madvise(fresh.bytes, size, MADV_DONTDUMP);
    if (length > 0)
        memcpy(fresh.bytes, bytes, length);
    secret_wipe(s);
    *s = fresh;
}

void secret_wipe(struct secret *s)
{
    if (s->bytes != NULL) {
        explicit_bzero(s->bytes, s->length);
        munmap(s->bytes, whole_pages(s->length));
    }
    secret_init(s);
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    unsigned char difference = 0;
    size_t i;

    if (a->length != b->length)
        return false;
    for (i = 0; i < a->length; i++)
        difference |= (unsigned char)(a->bytes[i] ^ b->bytes[i]);
    return difference == 0;
}

void secret_guard_process(void)
{
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
