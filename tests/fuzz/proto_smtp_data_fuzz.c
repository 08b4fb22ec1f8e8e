/* The text of a message: the same in whatever pieces it comes, and nothing in
   it that any next server could take for its end. */
#include "proto/smtp_data.h"
#include "tests/fuzz/fuzz.h"

static size_t read_all(const char *bytes, size_t size, size_t piece,
                       struct buf *out, bool *is_done_out)
{
    struct smtp_data d;
    size_t at = 0;

    smtp_data_init(&d);
    while (at < size && !smtp_data_is_done(&d)) {
        size_t length = size - at < piece ? size - at : piece;
        size_t used = smtp_data_read(&d, bytes + at, length, out);

        MUST(used == length || smtp_data_is_done(&d));
        at += used;
    }
    *is_done_out = smtp_data_is_done(&d);
    return at;
}

/* CR and LF come in pairs only, and a line of one dot not at all. */
static void must_be_harmless(const struct buf *out)
{
    for (size_t i = 0; i < out->used; i++) {
        char before = i > 0 ? out->bytes[i - 1] : '\n';
        char next = i + 1 < out->used ? out->bytes[i + 1] : '\0';

        if (out->bytes[i] == '\n')
            MUST(before == '\r');
        if (out->bytes[i] == '\r' && i + 1 < out->used)
            MUST(next == '\n');
        if (out->bytes[i] == '.' && before == '\n' && i + 1 < out->used)
            MUST(next == '.');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    struct buf whole, single;
    bool is_done, is_single_done;
    size_t used;

    buf_init(&whole, 2 * size + 8);
    buf_init(&single, 2 * size + 8);
    used = read_all(text, size, size, &whole, &is_done);
    MUST(used == read_all(text, size, 1, &single, &is_single_done));
    MUST(is_done == is_single_done);
    MUST(whole.used == single.used &&
         (whole.used == 0 ||
          memcmp(whole.bytes, single.bytes, whole.used) == 0));
    if (is_done)
        must_be_harmless(&whole);
    buf_release(&whole);
    buf_release(&single);
    free(text);
    return 0;
}
