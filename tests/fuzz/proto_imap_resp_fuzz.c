/* A server's responses: the same in whatever pieces they come, and what is
   looked up in them. */
#include "proto/imap_resp.h"
#include "tests/fuzz/fuzz.h"

static void add(struct story *s, struct slice slice)
{
    story_number(s, (long long)slice.length);
    story_add(s, slice.bytes, slice.length);
}

static void look_up(struct story *s, const struct imap_resp *r)
{
    struct imap_caps caps = {.is_known = false};
    char prefix[64], separator[2];

    story_number(s, imap_resp_caps(r, &caps));
    story_number(s, caps.has_starttls + 2 * caps.has_plain);
    story_number(s, imap_resp_refusal(r));
    if (imap_namespace_read(r->text_after, prefix, sizeof(prefix), separator) ==
        0)
        story_add(s, prefix, strlen(prefix));
    if (imap_list_separator(r->text_after, separator) == 0)
        story_add(s, separator, strlen(separator));
}

static void read_all(const char *bytes, size_t size, size_t piece,
                     struct story *s)
{
    struct imap_resp r;
    size_t at = 0, used;

    imap_resp_init(&r);
    while (at < size) {
        size_t length = size - at < piece ? size - at : piece;
        enum parse_result result =
            imap_resp_feed(&r, bytes + at, length, &used);

        MUST(used <= length);
        at += used;
        if (result == PARSE_BAD)
            break;
        if (result == PARSE_MORE) {
            MUST(used == length);
            continue;
        }
        MUST(used > 0);
        story_number(s, r.kind * 10 + r.status);
        add(s, r.tag);
        add(s, r.name);
        add(s, r.code);
        add(s, r.rest);
        add(s, r.text_after);
        look_up(s, &r);
    }
    imap_resp_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    struct story whole = {.used = 0}, single = {.used = 0};

    read_all(text, size, size, &whole);
    read_all(text, size, 1, &single);
    story_must_agree(&whole, &single);
    free(text);
    return 0;
}
