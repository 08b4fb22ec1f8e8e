/*
 * What a server says it has made is removed again by these numbers: nothing
 * else may be named.
 */
#include "migrator/uid_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint64_t count(const char *text, uint32_t least)
{
    return uid_set_count(text, strlen(text), least);
}

static void test_numbers_and_ranges_are_counted(void **state)
{
    (void)state;
    assert_int_equal(count("7", 7), 1);
    assert_int_equal(count("7,9,11", 7), 3);
    assert_int_equal(count("7:10,12", 1), 5);
    assert_int_equal(count("4294967295", 1), 1);
}

static void test_nothing_below_what_was_there_is_believed(void **state)
{
    (void)state;
    assert_int_equal(count("6", 7), 0);
    assert_int_equal(count("7,3", 7), 0);
    assert_int_equal(count("1:9", 7), 0);
    assert_int_equal(count("0", 0), 0);
}

static void test_what_is_no_set_of_numbers_is_none(void **state)
{
    static const char *const bad[] = {"",
                                      "*",
                                      "1:*",
                                      "1:",
                                      ":1",
                                      "1,",
                                      ",1",
                                      "1 2",
                                      "2:1",
                                      "a",
                                      "1;2",
                                      "4294967296",
                                      "18446744073709551617"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(count(bad[i], 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_and_ranges_are_counted),
        cmocka_unit_test(test_nothing_below_what_was_there_is_believed),
        cmocka_unit_test(test_what_is_no_set_of_numbers_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
