/* A line of the witness journal: what is believed is the same when it is
   written and read again. */
#include "account/witness.h"
#include "tests/fuzz/fuzz.h"

static uint64_t sum_of(const char *text, size_t length)
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)text[i]) * 1099511628211u;
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size + 32), written[WITNESS_LINE_MAX];
    struct witness w, again;

    MUST(line != NULL);
    /* with a right sum, or nothing would ever come behind it */
    memcpy(line, data, size);
    snprintf(line + size, 32, " %016llx\n",
             (unsigned long long)sum_of(line, size));
    if (witness_parse(line, &w) && witness_format(&w, 1, written) > 0) {
        MUST(witness_parse(written, &again));
        MUST(strcmp(w.address, again.address) == 0);
        MUST(strcmp(w.legacy_user, again.legacy_user) == 0);
        MUST(w.epoch == again.epoch && w.generation == again.generation);
        MUST(w.route == again.route);
    }
    free(line);
    return 0;
}
