/* POP3: a client's lines, a server's replies. */
#include "proto/pop3.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    size_t at = 0, used;
    struct slice line;

    while (at < size && pop3_line(text + at, size - at, POP3_LINE_MAX, &line,
                                  &used) == PARSE_DONE) {
        struct pop3_cmd cmd;
        struct pop3_reply reply;

        MUST(used > 0 && used <= size - at && line.length < used);
        MUST(line.length <= POP3_LINE_MAX);
        if (pop3_cmd_parse(line, &cmd) == PARSE_DONE) {
            MUST(cmd.arg.length <= line.length);
            MUST(cmd.arg.length == 0 ||
                 (memchr(cmd.arg.bytes, '\r', cmd.arg.length) == NULL &&
                  memchr(cmd.arg.bytes, '\n', cmd.arg.length) == NULL &&
                  memchr(cmd.arg.bytes, '\0', cmd.arg.length) == NULL));
        }
        if (pop3_reply_parse(line, &reply) == PARSE_DONE) {
            MUST(reply.text.length <= line.length);
            pop3_reply_is_refusal(&reply);
        }
        at += used;
    }
    free(text);
    return 0;
}
