/* SMTP: a client's command lines, a server's replies. */
#include "proto/smtp.h"
#include "proto/smtp_reply.h"
#include "tests/fuzz/fuzz.h"

static void command(const char *line, size_t length)
{
    struct smtp_command c;

    smtp_command_parse(line, length, &c);
    MUST(smtp_verb_name(c.verb) != NULL);
    MUST(memchr(c.path.text, '\0', sizeof(c.path.text)) != NULL);
    MUST(memchr(c.path.plain, '\0', sizeof(c.path.plain)) != NULL);
    MUST(memchr(c.name, '\0', sizeof(c.name)) != NULL);
    /* what goes on to the next hop is one line */
    if (c.fault == SMTP_GOOD)
        MUST(strpbrk(c.path.text, "\r\n") == NULL &&
             strpbrk(c.name, "\r\n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size), *at = text, *end = text + size;
    struct smtp_reply reply;
    struct buf out;

    smtp_reply_init(&reply);
    while (at < end) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop != NULL ? stop : end) - at);
        enum smtp_reply_step step;

        command(at, length);
        step = smtp_reply_add(&reply, at, length);
        if (step == SMTP_REPLY_DONE) {
            const char *argument;

            MUST(reply.code >= 200 && reply.code <= 599);
            smtp_reply_offers(&reply, "SIZE", &argument);
            smtp_reply_has_enhanced(&reply);
            buf_init(&out, 64u << 10);
            smtp_reply_write(&reply, &out);
            MUST(out.used >= 5 &&
                 memcmp(out.bytes + out.used - 2, "\r\n", 2) == 0);
            buf_release(&out);
        }
        if (step != SMTP_REPLY_MORE)
            smtp_reply_init(&reply);
        at += length + 1;
    }
    free(text);
    return 0;
}
