#include "account/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* "2026-03-29 00:59:59" in UTC -> Unix ms */
static int64_t utc(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    return (int64_t)timegm(&tm) * 1000;
}

static struct window parsed(const char *windows, const char *blackout)
{
    struct window w;
    struct err err;

    if (window_parse(windows, blackout, &w, &err) == -1)
        fail_msg("%s", err.text);
    return w;
}

static bool is_open(const struct window *w, const char *text)
{
    return window_is_open(w, utc(text));
}

static void assert_refused(const char *windows, const char *blackout,
                           const char *says)
{
    struct window w;
    struct err err;

    assert_int_equal(window_parse(windows, blackout, &w, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    if (!strstr(err.text, says))
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void test_no_window_is_always_open(void **state)
{
    struct window w = parsed("", "");

    (void)state;
    assert_true(is_open(&w, "2026-11-22 12:00:00"));
    assert_int_equal(window_next_ms(&w, 12345), 12345);
}

static void test_window_opens_and_closes_on_the_minute(void **state)
{
    struct window w = parsed("Mo 09:00-10:30", "");

    (void)state; /* 2026-11-23 is a Monday */
    assert_false(is_open(&w, "2026-11-23 08:59:59"));
    assert_true(is_open(&w, "2026-11-23 09:00:00"));
    assert_true(is_open(&w, "2026-11-23 10:29:59"));
    assert_false(is_open(&w, "2026-11-23 10:30:00"));
    assert_false(is_open(&w, "2026-11-24 09:30:00"));
}

static void test_window_over_midnight_belongs_to_its_first_day(void **state)
{
    struct window w = parsed("Sa 22:00-05:00", "");

    (void)state; /* 2026-11-28 is a Saturday */
    assert_false(is_open(&w, "2026-11-28 04:00:00"));
    assert_true(is_open(&w, "2026-11-28 22:00:00"));
    assert_true(is_open(&w, "2026-11-29 04:59:59"));
    assert_false(is_open(&w, "2026-11-29 05:00:00"));
    assert_false(is_open(&w, "2026-11-29 22:00:00"));
}

static void test_lists_and_ranges_of_days(void **state)
{
    struct window w = parsed("Sa-Mo,we 01:00-02:00, Fr 20:00-24:00 UTC", "");
    static const char *const open[] = {
        "2026-11-28 01:30:00", "2026-11-29 01:30:00", "2026-11-30 01:30:00",
        "2026-12-02 01:30:00", "2026-11-27 23:59:59"};
    static const char *const shut[] = {
        "2026-12-01 01:30:00", "2026-12-03 01:30:00", "2026-11-27 01:30:00",
        "2026-11-28 00:00:00", "2026-11-26 21:00:00"};

    (void)state;
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
        assert_true(is_open(&w, open[i]));
    for (size_t i = 0; i < sizeof(shut) / sizeof(shut[0]); i++)
        assert_false(is_open(&w, shut[i]));
}

static void test_window_without_days_is_of_every_day(void **state)
{
    struct window w = parsed("00:00-24:00", "");

    (void)state;
    for (int hour = 0; hour < 24 * 8; hour++)
        assert_true(
            window_is_open(&w, utc("2026-11-22 00:00:00") + hour * 3600000LL));
}

/* Berlin 2026-03-29: 02:00 CET is followed by 03:00 CEST, at 01:00 UTC. */
static void test_spring_edge_in_the_gap_is_the_jump(void **state)
{
    struct window from_gap = parsed("Su 02:30-05:00 Europe/Berlin", "");
    struct window to_gap = parsed("Su 01:00-02:30 Europe/Berlin", "");
    struct window within = parsed("Su 02:00-03:00 Europe/Berlin", "");

    (void)state;
    assert_false(is_open(&from_gap, "2026-03-29 00:59:59"));
    assert_true(is_open(&from_gap, "2026-03-29 01:00:00"));
    assert_true(is_open(&from_gap, "2026-03-29 02:59:59"));
    assert_false(is_open(&from_gap, "2026-03-29 03:00:00"));
    assert_int_equal(window_next_ms(&from_gap, utc("2026-03-29 00:10:00")),
                     utc("2026-03-29 01:00:00"));
    assert_true(is_open(&to_gap, "2026-03-29 00:59:59"));
    assert_false(is_open(&to_gap, "2026-03-29 01:00:00"));
    /* the hour that is not there */
    assert_false(is_open(&within, "2026-03-29 00:59:59"));
    assert_false(is_open(&within, "2026-03-29 01:00:00"));
    assert_int_equal(window_next_ms(&within, utc("2026-03-29 00:10:00")),
                     utc("2026-04-05 00:00:00"));
}

/* Berlin 2026-10-25: 03:00 CEST is followed by 02:00 CET, at 01:00 UTC. */
static void test_autumn_edge_that_comes_twice_counts_once(void **state)
{
    struct window from = parsed("Su 02:30-05:00 Europe/Berlin", "");
    struct window to = parsed("Su 01:00-02:30 Europe/Berlin", "");
    struct window whole = parsed("Su 02:00-03:00 Europe/Berlin", "");

    (void)state;
    assert_false(is_open(&from, "2026-10-25 00:29:59"));
    assert_true(is_open(&from, "2026-10-25 00:30:00"));
    assert_true(is_open(&from, "2026-10-25 01:10:00")); /* 02:10 again */
    assert_true(is_open(&from, "2026-10-25 03:59:59"));
    assert_false(is_open(&from, "2026-10-25 04:00:00"));
    assert_true(is_open(&to, "2026-10-25 00:29:59"));
    assert_false(is_open(&to, "2026-10-25 00:30:00"));
    assert_false(is_open(&to, "2026-10-25 01:10:00"));
    /* the hour that is there twice: two hours */
    assert_false(is_open(&whole, "2026-10-24 23:59:59"));
    assert_true(is_open(&whole, "2026-10-25 00:00:00"));
    assert_true(is_open(&whole, "2026-10-25 01:59:59"));
    assert_false(is_open(&whole, "2026-10-25 02:00:00"));
}

static void test_next_opening_over_the_clock_changes(void **state)
{
    struct window w = parsed("Sa 22:00-05:00 Europe/Berlin", "");

    (void)state;
    assert_int_equal(window_next_ms(&w, utc("2026-03-27 12:00:00")),
                     utc("2026-03-28 21:00:00"));
    assert_int_equal(window_next_ms(&w, utc("2026-03-29 12:00:00")),
                     utc("2026-04-04 20:00:00"));
    assert_int_equal(window_next_ms(&w, utc("2026-10-25 12:00:00")),
                     utc("2026-10-31 21:00:00"));
    /* it is open: now */
    assert_int_equal(window_next_ms(&w, utc("2026-10-25 03:59:59")),
                     utc("2026-10-25 03:59:59"));
    assert_int_equal(window_next_ms(&w, utc("2026-10-25 03:59:59") + 999),
                     utc("2026-10-25 03:59:59") + 999);
}

static void test_other_half_of_the_earth(void **state)
{
    struct window sydney = parsed("Su 02:30-04:00 Australia/Sydney", "");
    struct window lord_howe = parsed("Su 02:15-04:00 Australia/Lord_Howe", "");

    (void)state;
    /* 2026-10-04: 02:00 AEST is followed by 03:00 AEDT, at 16:00 UTC before */
    assert_false(is_open(&sydney, "2026-10-03 15:59:59"));
    assert_true(is_open(&sydney, "2026-10-03 16:00:00"));
    assert_false(is_open(&sydney, "2026-10-03 17:00:00"));
    /* half an hour only: 02:00 +10:30 is followed by 02:30 +11, at 15:30 UTC */
    assert_false(is_open(&lord_howe, "2026-10-03 15:29:59"));
    assert_true(is_open(&lord_howe, "2026-10-03 15:30:00"));
}

static void test_blackout_days_are_those_of_the_zone(void **state)
{
    struct window w = parsed("Mo-Su 20:00-06:00 Europe/Berlin",
                             "2026-12-24..2026-12-26 2027-01-01");

    (void)state;
    assert_false(window_is_black(&w, utc("2026-12-23 22:59:59")));
    assert_true(window_is_black(&w, utc("2026-12-23 23:00:00")));
    assert_true(window_is_black(&w, utc("2026-12-26 22:59:59")));
    assert_false(window_is_black(&w, utc("2026-12-26 23:00:00")));
    assert_true(window_is_black(&w, utc("2027-01-01 12:00:00")));
    /* the window of the 26th goes on after its midnight */
    assert_int_equal(window_next_ms(&w, utc("2026-12-23 23:00:00")),
                     utc("2026-12-26 23:00:00"));
}

static void test_blackout_without_windows_ends_at_midnight(void **state)
{
    struct window w = parsed("", "2026-12-24");

    (void)state;
    assert_true(is_open(&w, "2026-12-24 12:00:00"));
    assert_int_equal(window_next_ms(&w, utc("2026-12-24 12:00:00")),
                     utc("2026-12-25 00:00:00"));
}

static void test_what_never_opens_has_no_next_time(void **state)
{
    struct window w = parsed("Mo 01:00-02:00", "2026-01-01..2036-12-31");

    (void)state;
    assert_int_equal(window_next_ms(&w, utc("2026-12-24 12:00:00")), 0);
}

static void test_mistakes_are_named(void **state)
{
    static const struct {
        const char *windows, *says;
    } cases[] = {
        {"Sa", "no time of day"},
        {"Sa-", "out of place"},
        {"Sa 22:00", "\"22:00\""},
        {"Sa 22:00-25:00", "\"22:00-25:00\""},
        {"Sa 22:60-23:00", "\"22:60-23:00\""},
        {"Sa 24:00-01:00", "\"24:00-01:00\""},
        {"Sa 22:00-22:00", "empty"},
        {"Sa 22:00-05:00x", "\"22:00-05:00x\""},
        {"Xx 22:00-05:00", "\"Xx\""},
        {"Sat 22:00-05:00", "\"Sat\""},
        {"Sa 22:00-05:00 Mars/Olympus", "no such time zone: \"Mars/Olympus\""},
        {"Sa 22:00-05:00 ../../etc/passwd", "no such time zone"},
        {"Sa 22:00-05:00 /etc/passwd", "no such time zone"},
        {"Sa 22:00-05:00 zone.tab", "no such time zone"},
        {"Sa 22:00-05:00 UTC Su", "\"Su\" is out of place"},
        {"Sa 22:00-05:00 UTC, Su 01:00-02:00", "\",\" is out of place"},
        {"Sa 22:00-05:00 Su 01:00-02:00", "no such time zone: \"Su\""},
        {"Sa, 22:00-05:00", "out of place"},
        {"Sa 22:00-05:00,", "missing"},
        {",", "out of place"},
        {" ", "no time of day"},
        {"always", "\"always\""},
        {"01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,"
         "01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,"
         "01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,"
         "01:00-02:00,01:00-02:00",
         "more than"},
    };
    char endless[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i].windows, "", cases[i].says);
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    assert_refused(endless, "", "out of place");
    assert_refused("", endless, "not a day");
    assert_refused("", "2026-02-29", "not a day: \"2026-02-29\"");
    assert_refused("", "2026-13-01", "not a day");
    assert_refused("", "26-12-24", "not a day");
    assert_refused("", "2026-12-24..", "not a day");
    assert_refused("", "2026-12-24-26", "not a day");
    assert_refused("", "2026-12-26..2026-12-24", "ends before it begins");
}

static void test_leap_day_is_a_day(void **state)
{
    struct window w = parsed("", "2028-02-29, 2028-03-02");

    (void)state;
    assert_true(window_is_black(&w, utc("2028-02-29 12:00:00")));
    assert_false(window_is_black(&w, utc("2028-03-01 12:00:00")));
    assert_true(window_is_black(&w, utc("2028-03-02 12:00:00")));
}

static void test_zone_of_the_process_stays_as_it_was(void **state)
{
    struct window w = parsed("Sa 22:00-05:00 Asia/Tokyo", "");
    time_t epoch = 0;
    struct tm tm;

    (void)state;
    setenv("TZ", "America/New_York", 1);
    tzset();
    is_open(&w, "2026-11-28 13:30:00");
    localtime_r(&epoch, &tm);
    assert_int_equal(tm.tm_gmtoff, -5 * 3600);
    assert_string_equal(getenv("TZ"), "America/New_York");
    unsetenv("TZ");
    is_open(&w, "2026-11-28 13:30:00");
    assert_null(getenv("TZ"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_window_is_always_open),
        cmocka_unit_test(test_window_opens_and_closes_on_the_minute),
        cmocka_unit_test(test_window_over_midnight_belongs_to_its_first_day),
        cmocka_unit_test(test_lists_and_ranges_of_days),
        cmocka_unit_test(test_window_without_days_is_of_every_day),
        cmocka_unit_test(test_spring_edge_in_the_gap_is_the_jump),
        cmocka_unit_test(test_autumn_edge_that_comes_twice_counts_once),
        cmocka_unit_test(test_next_opening_over_the_clock_changes),
        cmocka_unit_test(test_other_half_of_the_earth),
        cmocka_unit_test(test_blackout_days_are_those_of_the_zone),
        cmocka_unit_test(test_blackout_without_windows_ends_at_midnight),
        cmocka_unit_test(test_what_never_opens_has_no_next_time),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_leap_day_is_a_day),
        cmocka_unit_test(test_zone_of_the_process_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
