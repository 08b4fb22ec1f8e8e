#include "login-proxy/inquiry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct inquiries *q;

static int start(void **state)
{
    (void)state;
    q = inquiries_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    inquiries_free(&q);
    return 0;
}

static enum inquiry begin(const char *address, const char *text, int64_t now)
{
    struct secret password = {(char *)text, strlen(text)};

    return inquiry_begin(q, address, &password, now);
}

static void finish(const char *address, const char *text, bool is_refused,
                   int64_t now)
{
    struct secret password = {(char *)text, strlen(text)};

    inquiry_end(q, address, &password, is_refused, now);
}

static void test_one_at_a_time_is_asked_for_an_address(void **state)
{
    (void)state;
    assert_int_equal(begin("ann", "a", 1000), INQUIRY_ASK);
    assert_int_equal(begin("ann", "b", 1001), INQUIRY_WAIT);
    assert_int_equal(begin("ben", "a", 1001), INQUIRY_ASK);
    finish("ann", "a", false, 1002);
    assert_int_equal(begin("ann", "b", 1003), INQUIRY_ASK);
}

static void test_a_refused_pair_is_remembered_for_a_while(void **state)
{
    (void)state;
    assert_int_equal(begin("ann", "wrong", 1000), INQUIRY_ASK);
    finish("ann", "wrong", true, 1000);
    assert_int_equal(begin("ann", "wrong", 2000), INQUIRY_REFUSED);
    assert_int_equal(begin("ben", "wrong", 2000), INQUIRY_ASK);
    assert_int_equal(begin("ann", "right", 2000), INQUIRY_ASK);
    finish("ann", "right", false, 2000);
    assert_int_equal(begin("ann", "right", 2001), INQUIRY_ASK);
    finish("ann", "right", false, 2001);
    assert_int_equal(begin("ann", "wrong", 1000 + INQUIRY_REFUSED_MS),
                     INQUIRY_ASK);
}

static void test_so_many_a_minute_are_asked(void **state)
{
    char text[32];

    (void)state;
    for (int i = 0; i < INQUIRY_PER_MINUTE; i++) {
        snprintf(text, sizeof(text), "wrong%d", i);
        assert_int_equal(begin("ann", text, 1000 + i), INQUIRY_ASK);
        finish("ann", text, true, 1000 + i);
    }
    assert_int_equal(begin("ann", "more", 2000), INQUIRY_LATER);
    assert_int_equal(begin("ann", "more", 1000 + INQUIRY_MINUTE_MS),
                     INQUIRY_ASK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_at_a_time_is_asked_for_an_address),
        TEST(test_a_refused_pair_is_remembered_for_a_while),
        TEST(test_so_many_a_minute_are_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
