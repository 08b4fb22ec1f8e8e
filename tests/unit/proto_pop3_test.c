/* POP3 lines: whole, byte by byte, too long, hostile. */
#include "proto/pop3.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct slice text_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void test_a_line_waits_for_its_end(void **state)
{
    static const char text[] = "USER anna\r\nPASS x\n";
    struct slice line;
    size_t used;

    (void)state;
    for (size_t i = 0; i < 11; i++)
        assert_int_equal(pop3_line(text, i, 100, &line, &used), PARSE_MORE);
    assert_int_equal(pop3_line(text, 11, 100, &line, &used), PARSE_DONE);
    assert_int_equal(used, 11);
    assert_int_equal(line.length, 9);
    assert_int_equal(pop3_line(text + 11, 7, 100, &line, &used), PARSE_DONE);
    assert_int_equal(line.length, 6);
    assert_int_equal(pop3_line(NULL, 0, 100, &line, &used), PARSE_MORE);
}

static void test_a_line_too_long_is_bad(void **state)
{
    char text[64];
    struct slice line;
    size_t used;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(pop3_line(text, 50, 50, &line, &used), PARSE_MORE);
    assert_int_equal(pop3_line(text, 51, 50, &line, &used), PARSE_BAD);
    text[50] = '\n';
    assert_int_equal(pop3_line(text, 51, 50, &line, &used), PARSE_BAD);
    text[49] = '\n';
    assert_int_equal(pop3_line(text, 51, 50, &line, &used), PARSE_DONE);
}

static void test_commands(void **state)
{
    static const struct {
        const char *line;
        enum pop3_verb verb;
        const char *arg;
    } rows[] = {
        {"CAPA", POP3_CAPA, ""},
        {"user anna", POP3_USER, "anna"},
        {"PASS  two words ", POP3_PASS, " two words "},
        {"PASS", POP3_PASS, ""},
        {"AUTH PLAIN x", POP3_AUTH, "PLAIN x"},
        {"STLS", POP3_STLS, ""},
        {"NOOP", POP3_NOOP, ""},
        {"QUIT", POP3_QUIT, ""},
        {"USERanna", POP3_UNKNOWN, ""},
        {" USER anna", POP3_UNKNOWN, "USER anna"},
    };
    struct pop3_cmd cmd;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(pop3_cmd_parse(text_slice(rows[i].line), &cmd),
                         PARSE_DONE);
        assert_int_equal(cmd.verb, rows[i].verb);
        assert_int_equal(cmd.arg.length, strlen(rows[i].arg));
        assert_memory_equal(cmd.arg.bytes, rows[i].arg, cmd.arg.length);
    }
}

static void test_hostile_commands_are_bad(void **state)
{
    struct pop3_cmd cmd;

    (void)state;
    assert_int_equal(pop3_cmd_parse((struct slice){"", 0}, &cmd), PARSE_BAD);
    assert_int_equal(pop3_cmd_parse((struct slice){"USER a\0b", 8}, &cmd),
                     PARSE_BAD);
    assert_int_equal(pop3_cmd_parse(text_slice("PASS a\rQUIT"), &cmd),
                     PARSE_BAD);
}

static void test_replies(void **state)
{
    static const struct {
        const char *line;
        enum pop3_status status;
        enum pop3_code code;
        bool is_refusal;
        const char *text;
    } rows[] = {
        {"+OK", POP3_OK, POP3_NO_CODE, false, ""},
        {"+OK hello", POP3_OK, POP3_NO_CODE, false, "hello"},
        {"+ ", POP3_GO_AHEAD, POP3_NO_CODE, false, ""},
        {"+", POP3_GO_AHEAD, POP3_NO_CODE, false, ""},
        {"-ERR", POP3_ERR, POP3_NO_CODE, true, ""},
        {"-ERR no", POP3_ERR, POP3_NO_CODE, true, "no"},
        {"-ERR [AUTH] no", POP3_ERR, POP3_CODE_AUTH, true, "[AUTH] no"},
        {"-err [sys/temp] x", POP3_ERR, POP3_CODE_SYS_TEMP, false,
         "[sys/temp] x"},
        {"-ERR [SYS/PERM]", POP3_ERR, POP3_CODE_SYS_PERM, false, "[SYS/PERM]"},
        {"-ERR [IN-USE] x", POP3_ERR, POP3_CODE_IN_USE, false, "[IN-USE] x"},
        {"-ERR [LOGIN-DELAY] x", POP3_ERR, POP3_CODE_LOGIN_DELAY, false,
         "[LOGIN-DELAY] x"},
        {"-ERR [", POP3_ERR, POP3_NO_CODE, true, "["},
    };
    struct pop3_reply reply;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(pop3_reply_parse(text_slice(rows[i].line), &reply),
                         PARSE_DONE);
        assert_int_equal(reply.status, rows[i].status);
        assert_int_equal(reply.code, rows[i].code);
        assert_int_equal(pop3_reply_is_refusal(&reply), rows[i].is_refusal);
        assert_int_equal(reply.text.length, strlen(rows[i].text));
        assert_memory_equal(reply.text.bytes, rows[i].text, reply.text.length);
    }
    assert_int_equal(pop3_reply_parse(text_slice("* OK imap"), &reply),
                     PARSE_BAD);
    assert_int_equal(pop3_reply_parse((struct slice){"", 0}, &reply),
                     PARSE_BAD);
    assert_int_equal(pop3_reply_parse((struct slice){"+OK\0", 4}, &reply),
                     PARSE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_waits_for_its_end),
        cmocka_unit_test(test_a_line_too_long_is_bad),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_hostile_commands_are_bad),
        cmocka_unit_test(test_replies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
