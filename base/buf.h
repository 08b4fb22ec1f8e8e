/*
 * A growing byte buffer with a ceiling. What is appended past the ceiling is
 * refused as a whole, never cut.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

struct buf {
    char *bytes; /* owned; NULL while empty and untouched */
    size_t used;
    size_t size; /* allocated */
    size_t head; /* of these, consumed in front of bytes */
    size_t max;
};

/* An empty buffer that holds at most max bytes; allocates nothing yet. */
void buf_init(struct buf *b, size_t max);

/* Free the memory; the buffer is as after buf_init. */
void buf_release(struct buf *b);

/* The same, and overwrite what was in it first. */
void buf_wipe(struct buf *b);

/* 0, or -1 if it would pass the ceiling (nothing is appended then). */
int buf_append(struct buf *b, const void *bytes, size_t length);
int buf_append_text(struct buf *b, const char *text);
int buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Room for at least `length` more bytes at b->bytes + b->used; the caller adds
   to b->used what it wrote. NULL if it would pass the ceiling. */
char *buf_reserve(struct buf *b, size_t length);

/* Drop the first `length` bytes. */
void buf_consume(struct buf *b, size_t length);

/* Drop everything, keep the memory. */
void buf_clear(struct buf *b);

/* The content as a terminated string, still owned by the buffer. */
const char *buf_text(struct buf *b);

/* The content as a terminated heap string for the caller to free; the buffer is
   empty afterwards. */
char *buf_steal(struct buf *b);

#endif
