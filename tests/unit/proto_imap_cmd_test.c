/* IMAP commands: whole, byte by byte, too long, hostile. */
#include "proto/imap_cmd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Feed bytes in steps; the result of the first command, and what is unused. */
static enum parse_result feed(struct imap_cmd *c, const char *bytes,
                              size_t length, size_t step, size_t *used_out)
{
    enum parse_result result = PARSE_MORE;

    *used_out = 0;
    while (result == PARSE_MORE && *used_out < length) {
        size_t part = length - *used_out < step ? length - *used_out : step;
        /* a copy of just that size, so that reading past it is seen */
        char *copy = malloc(part);
        size_t used;

        memcpy(copy, bytes + *used_out, part);
        result = imap_cmd_feed(c, copy, part, &used);
        assert_true(used <= part);
        assert_true(result != PARSE_MORE || used == part);
        *used_out += used;
        free(copy);
    }
    return result;
}

struct row {
    const char *text;
    enum parse_result result;
    const char *tag;
    const char *verb;
    unsigned arg_count;
    const char *first;
    const char *second;
};

static const struct row rows[] = {
    {"a1 NOOP\r\n", PARSE_DONE, "a1", "NOOP", 0, NULL, NULL},
    {"a1 noop\n", PARSE_DONE, "a1", "NOOP", 0, NULL, NULL},
    {"a1 NOOP  \r\n", PARSE_DONE, "a1", "NOOP", 0, NULL, NULL},
    {"a LOGIN x y\r\n", PARSE_DONE, "a", "LOGIN", 2, "x", "y"},
    {"a LOGIN \"x y\" \"\"\r\n", PARSE_DONE, "a", "LOGIN", 2, "x y", ""},
    {"a LOGIN \"\\\"\\\\\" z\r\n", PARSE_DONE, "a", "LOGIN", 2, "\"\\", "z"},
    {"a LOGIN {3}\r\nx\r\n {1}\r\ny\r\n", PARSE_DONE, "a", "LOGIN", 2, "x\r\n",
     "y"},
    {"a LOGIN {0+}\r\n {1-}\ny\n", PARSE_DONE, "a", "LOGIN", 2, "", "y"},
    {"a LOGIN {4+}\r\n{9}\n {1+}\r\n}\r\n", PARSE_DONE, "a", "LOGIN", 2,
     "{9}\n", "}"},
    {"a LOGIN x@y}z {1+}\r\nq\r\n", PARSE_DONE, "a", "LOGIN", 2, "x@y}z", "q"},
    {"a ID (\"a\" NIL \"b\" \"c\")\r\n", PARSE_DONE, "a", "ID", 6, "(", "a"},
    {"a AUTHENTICATE PLAIN AGEAYQ==\r\n", PARSE_DONE, "a", "AUTHENTICATE", 2,
     "PLAIN", "AGEAYQ=="},
    {"a AUTHENTICATE PLAIN =\r\n", PARSE_DONE, "a", "AUTHENTICATE", 2, "PLAIN",
     "="},
    {"\r\n", PARSE_BAD, "", "", 0, NULL, NULL},
    {"a\r\n", PARSE_BAD, "a", "", 0, NULL, NULL},
    {"a \r\n", PARSE_BAD, "a", "", 0, NULL, NULL},
    {"* NOOP\r\n", PARSE_BAD, "", "", 0, NULL, NULL},
    {"a+ NOOP\r\n", PARSE_BAD, "", "", 0, NULL, NULL},
    {"a LOGIN \"x\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN \"x\\y\" z\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN \"x\\\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN {\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN {}\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN {+}\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"a LOGIN {x{1}\r\ny z\r\n", PARSE_BAD, "a", "LOGIN", 0, NULL, NULL},
    {"{1}\r\nx y\r\n", PARSE_BAD, "", "", 0, NULL, NULL},
};

static void check_arg(const struct imap_cmd *c, unsigned i, const char *text)
{
    if (text == NULL)
        return;
    assert_int_equal(c->args[i].length, strlen(text));
    assert_memory_equal(c->args[i].bytes, text, strlen(text));
}

static void check_rows(size_t step)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        char text[256];
        struct imap_cmd c;
        size_t used;

        imap_cmd_init(&c);
        snprintf(text, sizeof text, "%sNEXT", row->text);
        if (feed(&c, text, strlen(text), step, &used) != row->result)
            fail_msg("row %zu: %s", i, row->text);
        assert_int_equal(used, strlen(row->text));
        assert_string_equal(c.tag, row->tag);
        assert_false(c.is_hopeless);
        if (row->result == PARSE_DONE) {
            assert_string_equal(c.verb, row->verb);
            assert_int_equal(c.arg_count, row->arg_count);
            check_arg(&c, 0, row->first);
            check_arg(&c, 1, row->second);
        }
        imap_cmd_release(&c);
    }
}

static void test_commands_whole(void **state)
{
    (void)state;
    check_rows(4096);
}

static void test_commands_byte_by_byte(void **state)
{
    (void)state;
    check_rows(1);
    check_rows(3);
}

static void test_a_synchronising_literal_asks_to_go_on(void **state)
{
    struct imap_cmd c;
    size_t used;

    (void)state;
    imap_cmd_init(&c);
    assert_int_equal(imap_cmd_feed(&c, "a LOGIN {2}\r\n", 13, &used),
                     PARSE_MORE);
    assert_true(c.wants_go_ahead);
    c.wants_go_ahead = false;
    assert_int_equal(imap_cmd_feed(&c, "ab {2+}\r\n", 9, &used), PARSE_MORE);
    assert_false(c.wants_go_ahead);
    assert_int_equal(imap_cmd_feed(&c, "cd\r\n", 4, &used), PARSE_DONE);
    imap_cmd_release(&c);
}

static void test_a_literal_may_hold_nul(void **state)
{
    static const char text[] = "a LOGIN {3+}\r\na\0b {1+}\r\n\0\r\n";
    struct imap_cmd c;
    size_t used;

    (void)state;
    imap_cmd_init(&c);
    assert_int_equal(feed(&c, text, sizeof text - 1, 1, &used), PARSE_DONE);
    assert_int_equal(c.args[0].length, 3);
    assert_memory_equal(c.args[0].bytes, "a\0b", 3);
    imap_cmd_release(&c);
}

static void test_what_is_too_long_is_hopeless(void **state)
{
    static const char *const starts[] = {
        "a LOGIN {99999999999999999999999}\r\n",
        "a LOGIN {16384+}\r\n",
        "a LOGIN {18446744073709551615+}\r\n",
    };
    static char line[IMAP_CMD_MAX + 10];
    struct imap_cmd c;
    size_t used;

    (void)state;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        imap_cmd_init(&c);
        assert_int_equal(feed(&c, starts[i], strlen(starts[i]), 7, &used),
                         PARSE_BAD);
        assert_true(c.is_hopeless);
        imap_cmd_release(&c);
    }
    memset(line, 'x', sizeof line);
    imap_cmd_init(&c);
    assert_int_equal(feed(&c, line, sizeof line, 1000, &used), PARSE_BAD);
    assert_true(c.is_hopeless);
    imap_cmd_release(&c);
}

static void test_long_tags_and_verbs_are_not_cut_to_others(void **state)
{
    char text[400];
    struct imap_cmd c;
    size_t used;

    (void)state;
    memset(text, 't', 200);
    memcpy(text + 200, " NOOP\r\n", 7);
    imap_cmd_init(&c);
    assert_int_equal(feed(&c, text, 207, 50, &used), PARSE_BAD);
    assert_string_equal(c.tag, "");
    imap_cmd_reset(&c);
    memcpy(text, "a ", 2);
    memset(text + 2, 'N', 100);
    memcpy(text + 102, "\r\n", 2);
    assert_int_equal(feed(&c, text, 104, 50, &used), PARSE_DONE);
    assert_int_equal(strlen(c.verb), sizeof c.verb - 1);
    imap_cmd_release(&c);
}

static void test_noise_neither_crashes_nor_grows(void **state)
{
    static const char letters[] = "a {}\"\\\r\n0123+-()\0*x\xff";
    unsigned seed = 12345;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        char noise[200];
        struct imap_cmd c;
        size_t at = 0;

        for (size_t i = 0; i < sizeof noise; i++) {
            seed = seed * 1103515245u + 12345u;
            noise[i] = letters[(seed >> 16) % (sizeof letters - 1)];
        }
        imap_cmd_init(&c);
        while (at < sizeof noise) {
            size_t used;

            if (feed(&c, noise + at, sizeof noise - at, 13, &used) !=
                PARSE_MORE)
                imap_cmd_reset(&c);
            at += used;
        }
        imap_cmd_release(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_whole),
        cmocka_unit_test(test_commands_byte_by_byte),
        cmocka_unit_test(test_a_synchronising_literal_asks_to_go_on),
        cmocka_unit_test(test_a_literal_may_hold_nul),
        cmocka_unit_test(test_what_is_too_long_is_hopeless),
        cmocka_unit_test(test_long_tags_and_verbs_are_not_cut_to_others),
        cmocka_unit_test(test_noise_neither_crashes_nor_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
