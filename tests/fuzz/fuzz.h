/*
 * What the fuzzers share: a finding ends the process, and what a parser said of
 * its input is kept as text, to be compared with what it says of the same bytes
 * in other pieces.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                             \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                           \
        }                                                                      \
    } while (0)

struct story {
    char text[8192]; /* what does not fit is not compared */
    size_t used;
};

static inline void story_add(struct story *s, const void *bytes, size_t length)
{
    size_t room = sizeof(s->text) - s->used;

    if (length > room)
        length = room;
    if (length > 0)
        memcpy(s->text + s->used, bytes, length);
    s->used += length;
}

static inline void story_number(struct story *s, long long number)
{
    char text[24];

    story_add(s, text, (size_t)snprintf(text, sizeof(text), " %lld ", number));
}

static inline void story_must_agree(const struct story *a,
                                    const struct story *b)
{
    MUST(a->used == b->used && memcmp(a->text, b->text, a->used) == 0);
}

/* The input as text, for who wants it terminated; for free(). */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    MUST(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

#endif
