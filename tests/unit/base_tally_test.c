#include "base/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void test_a_series_sums_up(void **state)
{
    (void)state;
    tally_add(2, "mails_total{side=\"%s\"}", "legacy");
    tally_add(3, "mails_total{side=\"%s\"}", "legacy");
    tally_add(1, "sessions");
    tally_add(-1, "sessions");
    assert_int_equal(tally_value("mails_total{side=\"legacy\"}"), 5);
    assert_int_equal(tally_value("sessions"), 0);
    assert_int_equal(tally_value("never"), 0);
}

static void count_one(void *ctx, const char *series, int64_t value)
{
    (void)series;
    (void)value;
    ++*(unsigned *)ctx;
}

static void test_there_is_room_for_so_many_and_no_more(void **state)
{
    unsigned count = 0;
    char longer[2 * TALLY_NAME_MAX];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    tally_add(1, "%s", longer);
    for (int i = 0; i < 4 * TALLY_SERIES_MAX; i++)
        tally_add(1, "s%d_total", i);
    tally_each(count_one, &count);
    assert_int_equal(count, TALLY_SERIES_MAX);
    assert_int_equal(tally_value("s0_total"), 1);
    assert_int_equal(tally_value("s1000_total"), 0);
}

static void test_only_totals_only_grow(void **state)
{
    (void)state;
    assert_true(tally_only_grows("mails_total{side=\"legacy\"}"));
    assert_true(tally_only_grows("mails_total"));
    assert_false(tally_only_grows("sessions{x=\"_total\"}"));
    assert_false(tally_only_grows("_total"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_series_sums_up),
        cmocka_unit_test(test_only_totals_only_grow),
        cmocka_unit_test(test_there_is_room_for_so_many_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
