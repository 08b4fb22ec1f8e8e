/* Base64, PLAIN, LOGIN and quoting. */
#include "proto/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/base64.h"
#include "proto/quote.h"

static struct slice text_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void test_base64_of_every_length_comes_back(void **state)
{
    unsigned char bytes[70];
    unsigned char again[70];
    char text[BASE64_SIZE(sizeof bytes) + 1];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 200);
    for (size_t length = 0; length <= sizeof bytes; length++) {
        base64_encode(bytes, length, text);
        assert_int_equal(strlen(text), BASE64_SIZE(length));
        assert_int_equal(base64_decode(text, strlen(text), again, length),
                         length);
        assert_memory_equal(bytes, again, length);
        if (length > 0)
            assert_int_equal(
                base64_decode(text, strlen(text), again, length - 1), -1);
    }
}

static void test_malformed_base64_is_refused(void **state)
{
    static const char *const bads[] = {
        "A",    "AA",   "AAA",  "A===",     "====", "AA=A",
        "AB==", "AAB=", "AA-_", "AA==AAAA", "A A=", "AAAA\n"};
    char out[16];

    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        if (base64_decode(bads[i], strlen(bads[i]), out, sizeof out) != -1)
            fail_msg("accepted: %s", bads[i]);
    }
    assert_int_equal(base64_decode("AA\0A", 4, out, sizeof out), -1);
}

static void test_plain_there_and_back(void **state)
{
    struct secret password;
    struct secret again;
    struct sasl_name user;
    struct buf out;

    (void)state;
    secret_init(&password);
    secret_init(&again);
    secret_set(&password, "s3cr\xc3\xa9t", 7);
    buf_init(&out, 1000);
    assert_int_equal(sasl_plain_encode(&out, NULL, "anna@x", &password), 0);
    assert_int_equal(
        sasl_plain_decode((struct slice){out.bytes, out.used}, &user, &again),
        PARSE_DONE);
    assert_string_equal(user.bytes, "anna@x");
    assert_true(secret_equal(&password, &again));
    secret_wipe(&password);
    secret_wipe(&again);
    buf_release(&out);
}

static enum parse_result decode(const char *bytes, size_t length)
{
    char *text = malloc(BASE64_SIZE(length) + 1);
    struct sasl_name user;
    struct secret password;
    enum parse_result result;

    secret_init(&password);
    base64_encode(bytes, length, text);
    result = sasl_plain_decode(text_slice(text), &user, &password);
    secret_wipe(&password);
    free(text);
    return result;
}

static void test_plain_refuses_what_is_not_three_parts(void **state)
{
    static char big[SASL_RESPONSE_MAX + 10];

    (void)state;
    assert_int_equal(decode("\0anna\0secret", 12), PARSE_DONE);
    assert_int_equal(decode("anna\0anna\0secret", 16), PARSE_DONE);
    assert_int_equal(decode("root\0anna\0secret", 16), PARSE_BAD);
    assert_int_equal(decode("ann\0anna\0secret", 15), PARSE_BAD);
    assert_int_equal(decode("\0\0secret", 8), PARSE_BAD);
    assert_int_equal(decode("\0anna", 5), PARSE_BAD);
    assert_int_equal(decode("anna", 4), PARSE_BAD);
    assert_int_equal(decode("", 0), PARSE_BAD);
    assert_int_equal(decode("\0anna\0sec\0ret", 13), PARSE_BAD);
    memset(big, 'x', sizeof big);
    big[0] = '\0';
    big[SASL_USER_MAX + 1] = '\0';
    assert_int_equal(decode(big, 1000), PARSE_DONE);
    assert_int_equal(decode(big, sizeof big), PARSE_BAD);
    big[SASL_USER_MAX + 1] = 'x';
    big[SASL_USER_MAX + 2] = '\0';
    assert_int_equal(decode(big, 1000), PARSE_BAD);
}

static void test_login_responses(void **state)
{
    struct sasl_name user;
    struct secret password;

    (void)state;
    secret_init(&password);
    assert_int_equal(sasl_login_user(text_slice("YW5uYQ=="), &user),
                     PARSE_DONE);
    assert_string_equal(user.bytes, "anna");
    assert_int_equal(sasl_login_user(text_slice(""), &user), PARSE_BAD);
    assert_int_equal(sasl_login_user(text_slice("!"), &user), PARSE_BAD);
    assert_int_equal(sasl_login_password(text_slice("c2VjcmV0"), &password),
                     PARSE_DONE);
    assert_string_equal(password.bytes, "secret");
    assert_int_equal(sasl_login_password(text_slice("c2Vj cmV0"), &password),
                     PARSE_BAD);
    secret_wipe(&password);
}

static void test_what_may_go_into_a_line(void **state)
{
    (void)state;
    assert_true(sasl_is_plain_text("a b\"\\\xff", 6));
    assert_false(sasl_is_plain_text("a\rb", 3));
    assert_false(sasl_is_plain_text("a\nb", 3));
    assert_false(sasl_is_plain_text("a\0b", 3));
}

static void test_quoting(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 20);
    assert_true(quote_is_possible("a\"b\\c", 5));
    assert_int_equal(quote_append(&out, "a\"b\\c", 5), 0);
    assert_string_equal(buf_text(&out), "\"a\\\"b\\\\c\"");
    assert_int_equal(quote_append(&out, "0123456789012345", 16), -1);
    buf_clear(&out);
    assert_int_equal(quote_append_literal(&out, 5, true), 0);
    assert_int_equal(quote_append_literal(&out, 5, false), 0);
    assert_string_equal(buf_text(&out), "{5}\r\n{5+}\r\n");
    buf_release(&out);
    assert_false(quote_is_possible("\xc3\xa4", 2));
    assert_false(quote_is_possible("a\0b", 3));
    assert_false(quote_is_possible("a\r\n", 3));
    assert_true(quote_is_possible("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_of_every_length_comes_back),
        cmocka_unit_test(test_malformed_base64_is_refused),
        cmocka_unit_test(test_plain_there_and_back),
        cmocka_unit_test(test_plain_refuses_what_is_not_three_parts),
        cmocka_unit_test(test_login_responses),
        cmocka_unit_test(test_what_may_go_into_a_line),
        cmocka_unit_test(test_quoting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
