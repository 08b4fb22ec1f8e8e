#include "base/tally.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SLOTS (2 * TALLY_SERIES_MAX) /* a power of two; half of them empty */

struct series {
    char name[TALLY_NAME_MAX]; /* "" : free */
    int64_t value;
};

/* One table a process, as there is one log. */
static struct {
    struct series slots[SLOTS];
    unsigned count;
    uint64_t turn;
} tally;

/* The slot of the name, or the free one where it belongs. */
static struct series *find(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (const char *p = name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    for (uint32_t i = hash;; i++) {
        struct series *s = &tally.slots[i % SLOTS];

        if (s->name[0] == '\0' || strcmp(s->name, name) == 0)
            return s;
    }
}

void tally_add(int64_t n, const char *format, ...)
{
    char name[TALLY_NAME_MAX];
    struct series *s;
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    if (length <= 0 || (size_t)length >= sizeof(name))
        return;
    s = find(name);
    if (s->name[0] == '\0') {
        if (tally.count == TALLY_SERIES_MAX)
            return;
        tally.count++;
        memcpy(s->name, name, (size_t)length + 1);
    }
    s->value += n;
    tally.turn++;
}

void tally_each(void (*fn)(void *ctx, const char *series, int64_t value),
                void *ctx)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (tally.slots[i].name[0] != '\0')
            fn(ctx, tally.slots[i].name, tally.slots[i].value);
}

int64_t tally_value(const char *series)
{
    return find(series)->value;
}

uint64_t tally_turn(void)
{
    return tally.turn;
}

bool tally_only_grows(const char *series)
{
    size_t length = strcspn(series, "{");

    return length > 6 && strncmp(series + length - 6, "_total", 6) == 0;
}
