/* A client's commands: the same in whatever pieces they come. */
#include "proto/imap_cmd.h"
#include "tests/fuzz/fuzz.h"

static void tell(struct story *s, const struct imap_cmd *c,
                 enum parse_result result)
{
    story_number(s, result);
    story_number(s, c->is_hopeless);
    story_add(s, c->tag, strlen(c->tag));
    story_add(s, c->verb, strlen(c->verb));
    story_number(s, c->arg_count);
    for (unsigned i = 0; result == PARSE_DONE && i < c->arg_count; i++)
        if (i < IMAP_CMD_ARGS)
            story_add(s, c->args[i].bytes, c->args[i].length);
}

static void read_all(const char *bytes, size_t size, size_t piece,
                     struct story *s)
{
    struct imap_cmd c;
    size_t at = 0, used;

    imap_cmd_init(&c);
    while (at < size) {
        size_t length = size - at < piece ? size - at : piece;
        enum parse_result result = imap_cmd_feed(&c, bytes + at, length, &used);

        MUST(used <= length);
        at += used;
        if (result == PARSE_MORE) {
            MUST(used == length);
            c.wants_go_ahead = false;
            continue;
        }
        tell(s, &c, result);
        if (c.is_hopeless)
            break;
        MUST(used > 0);
        imap_cmd_reset(&c);
    }
    imap_cmd_release(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    struct story whole = {.used = 0}, single = {.used = 0}, three = {.used = 0};

    read_all(text, size, size, &whole);
    read_all(text, size, 1, &single);
    read_all(text, size, 3, &three);
    story_must_agree(&whole, &single);
    story_must_agree(&whole, &three);
    free(text);
    return 0;
}
