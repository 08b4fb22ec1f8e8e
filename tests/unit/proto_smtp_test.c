#include "proto/smtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/smtp_data.h"
#include "proto/smtp_reply.h"

static struct smtp_command parse(const char *line)
{
    struct smtp_command command;

    smtp_command_parse(line, strlen(line), &command);
    return command;
}

static void test_verbs_are_known_in_any_case(void **state)
{
    (void)state;
    assert_int_equal(parse("ehlo a.example").verb, SMTP_EHLO);
    assert_int_equal(parse("HeLo a").verb, SMTP_HELO);
    assert_int_equal(parse("DATA").verb, SMTP_DATA);
    assert_int_equal(parse("starttls  ").fault, SMTP_GOOD);
    assert_int_equal(parse("BDAT 10 LAST").verb, SMTP_BDAT);
    assert_int_equal(parse("GET / HTTP/1.0").verb, SMTP_HTTP);
    assert_int_equal(parse("").verb, SMTP_OTHER);
    assert_int_equal(parse("MAILFROM:<a@b>").verb, SMTP_OTHER);
    assert_int_equal(parse("DATA x").fault, SMTP_BAD_SYNTAX);
    assert_int_equal(parse("EHLO").fault, SMTP_BAD_SYNTAX);
}

static void test_paths_are_read_as_rfc_5321_says(void **state)
{
    struct smtp_command c = parse("MAIL FROM:<> SIZE=12 BODY=8BITMIME");

    (void)state;
    assert_int_equal(c.fault, SMTP_GOOD);
    assert_string_equal(c.path.text, "");
    assert_true(c.has_size && c.size_bytes == 12 && c.is_8bit);

    c = parse("RCPT TO:<@a.example,@b.example:Ann+x@C.example>");
    assert_int_equal(c.fault, SMTP_GOOD);
    assert_string_equal(c.path.text, "Ann+x@C.example");

    c = parse("rcpt to: <\"a \\\"b\\\" c\"@d.example>");
    assert_int_equal(c.fault, SMTP_GOOD);
    assert_string_equal(c.path.text, "\"a \\\"b\\\" c\"@d.example");
    assert_string_equal(c.path.plain, "a \"b\" c@d.example");

    c = parse("RCPT TO:<a@[192.0.2.1]>");
    assert_true(c.fault == SMTP_GOOD && c.path.is_literal);
    c = parse("RCPT TO:<Postmaster>");
    assert_true(c.fault == SMTP_GOOD && !c.path.has_domain);
    c = parse("RCPT TO:a@b.example");
    assert_true(c.fault == SMTP_GOOD && c.path.has_domain);
}

static void test_what_is_no_path_is_refused(void **state)
{
    static const char *const bad[] = {
        "RCPT TO:<>",      "RCPT TO:<a@b",         "RCPT TO:<a@b>x",
        "RCPT TO:<a@b@c>", "RCPT TO:<@a:b@c@d>",   "RCPT TO:<a b@c>",
        "RCPT TO:<\"a@c>", "RCPT TO:<\"a\\",       "RCPT TO:<a@>",
        "RCPT TO:<@b>",    "RCPT TO:<a@[1.2.3.4>", "RCPT TO:",
        "RCPT TO:<<a@b>>", "MAIL FROM:<a@b c>",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(bad[i]).fault, SMTP_BAD_ADDRESS);
    assert_int_equal(parse("RCPT <a@b>").fault, SMTP_BAD_SYNTAX);
    assert_int_equal(parse("MAIL FROM:<a@b> SIZE=1x").fault, SMTP_BAD_SYNTAX);
    assert_int_equal(parse("MAIL FROM:<a@b> SMTPUTF8").fault,
                     SMTP_BAD_PARAMETER);
    assert_int_equal(parse("RCPT TO:<a@b> NOTIFY=NEVER").fault,
                     SMTP_BAD_PARAMETER);
    assert_int_equal(parse("RCPT TO:<\xc3\xa4@b>").fault, SMTP_BAD_ENCODING);
}

static void test_a_path_longer_than_the_room_is_refused(void **state)
{
    char line[2000];
    struct smtp_command command;

    (void)state;
    for (size_t length = 380; length < 420; length++) {
        memcpy(line, "RCPT TO:<", 9);
        memset(line + 9, 'a', length);
        memcpy(line + 9 + length, "@b>", 3);
        smtp_command_parse(line, 9 + length + 3, &command);
        assert_int_equal(command.fault, length + 2 < SMTP_PATH_MAX
                                            ? SMTP_GOOD
                                            : SMTP_BAD_ADDRESS);
    }
}

static void test_an_embedded_nul_is_seen(void **state)
{
    struct smtp_command command;

    (void)state;
    smtp_command_parse("RCPT TO:<a\0b@c>", 15, &command);
    assert_int_equal(command.fault, SMTP_BAD_ENCODING);
}

/* The end of a heap block follows the line, so that ASan sees a read behind. */
static void test_every_cut_of_a_line_is_survived(void **state)
{
    static const char *const lines[] = {
        "MAIL FROM:<\"a\\b\"@c.example> SIZE=10 BODY=8BITMIME",
        "RCPT TO:<@x,@y:z@[IPv6:::1]>", "EHLO name.example more"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (size_t cut = 0; cut <= strlen(lines[i]); cut++) {
            char *line = malloc(cut + (cut == 0));
            struct smtp_command command;

            assert_non_null(line);
            memcpy(line, lines[i], cut);
            smtp_command_parse(line, cut, &command);
            free(line);
        }
    }
}

static void test_a_reply_of_several_lines_is_one_value(void **state)
{
    struct smtp_reply reply;
    const char *argument;
    struct buf out;

    (void)state;
    smtp_reply_init(&reply);
    assert_int_equal(smtp_reply_add(&reply, "250-mx.example", 14),
                     SMTP_REPLY_MORE);
    assert_int_equal(smtp_reply_add(&reply, "250-SIZE 1000", 13),
                     SMTP_REPLY_MORE);
    assert_int_equal(smtp_reply_add(&reply, "250 8bitmime", 12),
                     SMTP_REPLY_DONE);
    assert_true(smtp_reply_offers(&reply, "8BITMIME", NULL));
    assert_true(smtp_reply_offers(&reply, "SIZE", &argument));
    assert_memory_equal(argument, "1000", 4);
    assert_false(smtp_reply_offers(&reply, "MX", NULL));
    assert_false(smtp_reply_offers(&reply, "8BIT", NULL));
    buf_init(&out, 1000);
    smtp_reply_write(&reply, &out);
    assert_string_equal(buf_text(&out), "250-2.0.0 mx.example\r\n"
                                        "250-2.0.0 SIZE 1000\r\n"
                                        "250 2.0.0 8bitmime\r\n");
    buf_release(&out);
}

static void test_codes_pass_and_text_is_made_safe(void **state)
{
    struct smtp_reply reply;
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    smtp_reply_init(&reply);
    assert_int_equal(smtp_reply_add(&reply,
                                    "550 5.1.1 no \x1b[1m\xff"
                                    "user",
                                    22),
                     SMTP_REPLY_DONE);
    assert_true(smtp_reply_has_enhanced(&reply));
    smtp_reply_write(&reply, &out);
    assert_string_equal(buf_text(&out), "550 5.1.1 no ?[1m?user\r\n");
    buf_clear(&out);
    smtp_reply_set(&reply, 450, "5.1.1 wrong class");
    smtp_reply_write(&reply, &out);
    assert_string_equal(buf_text(&out), "450 4.0.0 5.1.1 wrong class\r\n");
    buf_release(&out);
}

static void test_what_is_no_reply_is_bad(void **state)
{
    static const char *const bad[] = {"",      "25",    "2x0 a", "250x",
                                      "150 a", "600 a", "* OK"};
    struct smtp_reply reply;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        smtp_reply_init(&reply);
        assert_int_equal(smtp_reply_add(&reply, bad[i], strlen(bad[i])),
                         SMTP_REPLY_BAD);
    }
    smtp_reply_init(&reply);
    assert_int_equal(smtp_reply_add(&reply, "250-a", 5), SMTP_REPLY_MORE);
    assert_int_equal(smtp_reply_add(&reply, "251 a", 5), SMTP_REPLY_BAD);
    smtp_reply_init(&reply);
    assert_int_equal(smtp_reply_add(&reply, "250", 3), SMTP_REPLY_DONE);
}

static void test_an_endless_reply_is_bounded(void **state)
{
    char line[1500] = "250-";
    struct smtp_reply reply;
    int count = 0;

    (void)state;
    memset(line + 4, 'x', sizeof(line) - 4);
    smtp_reply_init(&reply);
    while (smtp_reply_add(&reply, line, sizeof(line)) == SMTP_REPLY_MORE)
        count++;
    assert_int_equal(count, 200);
    assert_true(reply.used < SMTP_REPLY_TEXT_MAX);
}

struct sample {
    const char *in;
    const char *out;  /* what the next server gets */
    const char *rest; /* not part of the message; NULL: it has not ended */
};

static const struct sample samples[] = {
    {".\r\n", "", ""},
    {"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
    {"a\r\n..\r\n.\r\n", "a\r\n..\r\n", ""},
    {"..a\r\n...\r\n.\r\n", "..a\r\n...\r\n", ""},
    {".a\r\n.\r\n", "a\r\n", ""},
    /* what others might take for the end */
    {"a\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n", ""},
    {"a\n.\r\nb\r\n.\r\n", "a\r\n..\r\nb\r\n", ""},
    {"a\r\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n", ""},
    {"a\r.\rb\r\n.\r\n", "a . b\r\n", ""},
    {"a\r.\r\nb\r\n.\r\n", "a .\r\nb\r\n", ""},
    {"a\r\n.\rb\r\n.\r\n", "a\r\n.. b\r\n", ""},
    {"a\r\r\n.\r\r\nb\r\n.\r\n", "a \r\n.. \r\nb\r\n", ""},
    {"a\n\n.\n\r\n.\r\n", "a\r\n\r\n..\r\n\r\n", ""},
    {"a\n..\r\n.\r\n", "a\r\n...\r\n", ""},
    /* not ended */
    {"a\r\n.\r", "a\r\n", NULL},
    {"a\r\n.", "a\r\n", NULL},
    {"a.\r\n", "a.\r\n", NULL},
    {"a\n.\r\n", "a\r\n..\r\n", NULL},
};

/* Feed a sample in pieces of at most `step` bytes. */
static void check_sample(const struct sample *sample, size_t step)
{
    struct smtp_data data;
    struct buf out;
    size_t at = 0;
    size_t length = strlen(sample->in);

    smtp_data_init(&data);
    buf_init(&out, 4096);
    while (at < length && !smtp_data_is_done(&data)) {
        size_t piece = length - at < step ? length - at : step;

        at += smtp_data_read(&data, sample->in + at, piece, &out);
    }
    assert_string_equal(buf_text(&out), sample->out);
    assert_int_equal(smtp_data_is_done(&data), sample->rest != NULL);
    if (sample->rest != NULL)
        assert_string_equal(sample->in + at, sample->rest);
    buf_release(&out);
}

static void test_only_crlf_dot_crlf_ends_a_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
        for (size_t step = 1; step < 12; step++)
            check_sample(&samples[i], step);
}

/* All strings of CR, LF, dot and a letter: cut anywhere, the same result; and
   what comes out holds no line end but CR LF and ends nowhere inside. */
static void test_no_string_smuggles_an_end(void **state)
{
    static const char letter[] = "\r\n.a";
    char text[9];

    (void)state;
    for (unsigned n = 0; n < 65536; n++) {
        struct smtp_data data;
        struct buf out;
        size_t used;

        for (unsigned i = 0; i < 8; i++)
            text[i] = letter[(n >> (2 * i)) & 3];
        smtp_data_init(&data);
        buf_init(&out, 64);
        used = smtp_data_read(&data, text, 8, &out);
        for (size_t i = 0; i < out.used; i++) {
            if (out.bytes[i] == '\r')
                assert_true(i + 1 < out.used && out.bytes[i + 1] == '\n');
            if (out.bytes[i] == '\n')
                assert_true(i > 0 && out.bytes[i - 1] == '\r');
        }
        buf_text(&out);
        assert_null(strstr(out.bytes ? out.bytes : "", "\n.\r\n"));
        assert_true(out.used < 3 || memcmp(out.bytes, ".\r\n", 3) != 0);
        assert_true(smtp_data_is_done(&data) || used == 8);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs_are_known_in_any_case),
        cmocka_unit_test(test_paths_are_read_as_rfc_5321_says),
        cmocka_unit_test(test_what_is_no_path_is_refused),
        cmocka_unit_test(test_a_path_longer_than_the_room_is_refused),
        cmocka_unit_test(test_an_embedded_nul_is_seen),
        cmocka_unit_test(test_every_cut_of_a_line_is_survived),
        cmocka_unit_test(test_a_reply_of_several_lines_is_one_value),
        cmocka_unit_test(test_codes_pass_and_text_is_made_safe),
        cmocka_unit_test(test_what_is_no_reply_is_bad),
        cmocka_unit_test(test_an_endless_reply_is_bounded),
        cmocka_unit_test(test_only_crlf_dot_crlf_ends_a_message),
        cmocka_unit_test(test_no_string_smuggles_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
