#include "account/counts.h"

#include "base/tally.h"

#define SERIES_MAX 4096 /* of all processes together */

static void put(void *ctx, const char *series, int64_t value)
{
    json_object_set_new(ctx, series, json_integer(value));
}

json_t *counts_here(void)
{
    json_t *series = json_object();

    tally_each(put, series);
    return series;
}

json_t *counts_message(uint64_t *turn)
{
    if (*turn == tally_turn())
        return NULL;
    *turn = tally_turn();
    return json_pack("{s:s,s:o}", "m", "counts", "series", counts_here());
}

void counts_add(json_t *sums, const json_t *series, bool only_growing)
{
    const char *name;
    json_t *value, *sum;

    json_object_foreach((json_t *)(uintptr_t)series, name, value)
    {
        if (!json_is_integer(value) ||
            (only_growing && !tally_only_grows(name)))
            continue;
        sum = json_object_get(sums, name);
        if (sum != NULL)
            json_integer_set(sum, json_integer_value(sum) +
                                      json_integer_value(value));
        else if (json_object_size(sums) < SERIES_MAX)
            json_object_set_new(sums, name,
                                json_integer(json_integer_value(value)));
    }
}
