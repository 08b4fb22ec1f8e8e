#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 128

/* The block begins `head` bytes before b->bytes and has one byte more than
   b->size, for the zero of buf_text(). */
static char *block_of(const struct buf *b)
{
    return b->bytes == NULL ? NULL : b->bytes - b->head;
}

void buf_init(struct buf *b, size_t max)
{
    memset(b, 0, sizeof *b);
    b->max = max;
}

void buf_release(struct buf *b)
{
    free(block_of(b));
    buf_init(b, b->max);
}

void buf_wipe(struct buf *b)
{
    if (b->bytes != NULL)
        explicit_bzero(block_of(b), b->size + 1);
    buf_release(b);
}

static void move_to_front(struct buf *b)
{
    if (b->head == 0)
        return;
    memmove(b->bytes - b->head, b->bytes, b->used);
    b->bytes -= b->head;
    b->head = 0;
}

static void grow(struct buf *b, size_t need)
{
    size_t size = b->size < FIRST_SIZE ? FIRST_SIZE : b->size;
    char *block;

    while (size < need)
        size = size > b->max / 2 ? b->max : size * 2;
    if (size > b->max)
        size = b->max;
    block = mem_alloc(size + 1);
    if (b->used > 0)
        memcpy(block, b->bytes, b->used);
    /* buffers carry passwords; realloc() would leave them behind */
    if (b->bytes != NULL)
        explicit_bzero(block_of(b), b->size + 1);
    free(block_of(b));
    b->bytes = block;
    b->head = 0;
    b->size = size;
}

char *buf_reserve(struct buf *b, size_t length)
{
    if (length > b->max - b->used)
        return NULL;
    if (b->bytes == NULL || b->used + length > b->size)
        grow(b, b->used + length);
    else if (b->head + b->used + length > b->size)
        move_to_front(b);
    return b->bytes + b->used;
}

int buf_append(struct buf *b, const void *bytes, size_t length)
{
    char *room;

    if (length == 0)
        return 0;
    room = buf_reserve(b, length);
    if (room == NULL)
        return -1;
    memcpy(room, bytes, length);
    b->used += length;
    return 0;
}

int buf_append_text(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text));
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    char *room;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    room = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (room != NULL) {
        /* the zero goes to the byte that every block has to spare */
        vsnprintf(room, (size_t)n + 1, format, again);
        b->used += (size_t)n;
    }
    va_end(again);
    return room == NULL ? -1 : 0;
}

void buf_consume(struct buf *b, size_t length)
{
    if (length >= b->used) {
        buf_clear(b);
        return;
    }
    b->bytes += length;
    b->head += length;
    b->used -= length;
}

void buf_clear(struct buf *b)
{
    b->bytes = block_of(b);
    b->head = 0;
    b->used = 0;
}

const char *buf_text(struct buf *b)
{
    if (b->bytes == NULL)
        return "";
    b->bytes[b->used] = '\0';
    return b->bytes;
}

char *buf_steal(struct buf *b)
{
    char *text;

    if (b->bytes == NULL)
        return mem_dup_text("");
    move_to_front(b);
    text = b->bytes;
    text[b->used] = '\0';
    buf_init(b, b->max);
    return text;
}
