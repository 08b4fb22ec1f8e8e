/*
 * What a parser says about the bytes it was given.
 */
#ifndef PROTO_PARSE_H
#define PROTO_PARSE_H

#include <stdbool.h>
#include <stddef.h>

enum parse_result {
    PARSE_MORE, /* not whole yet */
    PARSE_DONE,
    PARSE_BAD
};

/* A piece of somebody else's bytes; not terminated. */
struct slice {
    const char *bytes; /* borrowed */
    size_t length;
};

/* Compare without regard to case (ASCII). */
bool slice_is(struct slice s, const char *text);

/* Cut the next word (at spaces) off *rest; an empty slice at the end. */
struct slice slice_next_word(struct slice *rest);

#endif
