#include "migrator/uid_set.h"

#include <stdbool.h>

struct reader {
    const char *at, *end;
};

static bool take_number(struct reader *r, uint32_t *out)
{
    const char *start = r->at;
    uint64_t value = 0;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        value = value * 10 + (uint64_t)(*r->at++ - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)value;
    return r->at > start;
}

uint64_t uid_set_count(const char *text, size_t length, uint32_t least)
{
    struct reader r = {text, text + length};
    uint64_t count = 0;

    for (;;) {
        uint32_t first, last;

        if (!take_number(&r, &first))
            return 0;
        last = first;
        if (r.at < r.end && *r.at == ':') {
            r.at++;
            if (!take_number(&r, &last))
                return 0;
        }
        if (first < least || first == 0 || last < first)
            return 0;
        count += (uint64_t)last - first + 1;
        if (r.at == r.end)
            return count;
        if (*r.at++ != ',')
            return 0;
    }
}
