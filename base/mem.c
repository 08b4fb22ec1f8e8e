#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void *or_die(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

void *mem_alloc(size_t size)
{
    return or_die(calloc(1, size > 0 ? size : 1));
}

void *mem_grow(void *old, size_t size)
{
    return or_die(realloc(old, size > 0 ? size : 1));
}

void *mem_dup(const void *bytes, size_t length)
{
    void *copy = mem_alloc(length);

    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

char *mem_dup_text(const char *text)
{
    return text == NULL ? NULL : mem_dup(text, strlen(text) + 1);
}
