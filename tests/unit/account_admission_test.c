#include "account/admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Known to every installation, for ever: printf ADDRESS | sha256sum */
static void test_places_are_these_for_ever(void **state)
{
    (void)state;
    assert_int_equal(admission_place("alice@example.net"), 682657);
    assert_int_equal(admission_place("bob@example.net"), 619901);
    assert_int_equal(admission_place("carol@example.net"), 787978);
    assert_int_equal(admission_place("dave@example.net"), 533570);
    assert_int_equal(admission_place("\xc3\xbc@example.net"), 5632);
}

static void test_edge_of_a_share_is_exact(void **state)
{
    (void)state;
    assert_false(admission_is_in_share("alice@example.net", 682657));
    assert_true(admission_is_in_share("alice@example.net", 682658));
    assert_false(admission_is_in_share("alice@example.net", 0));
    assert_true(admission_is_in_share("alice@example.net", 1000000));
}

static void test_growing_share_only_adds_people(void **state)
{
    static const unsigned shares[] = {0,      1000,   10000,  50000,
                                      200000, 500000, 999999, 1000000};
    unsigned in[8] = {0};

    (void)state;
    for (unsigned user = 0; user < 20000; user++) {
        char address[64];
        bool was_in = false;

        snprintf(address, sizeof(address), "user%05u@example.net", user);
        for (unsigned i = 0; i < 8; i++) {
            bool is_in = admission_is_in_share(address, shares[i]);

            assert_true(is_in || !was_in);
            in[i] += is_in;
            was_in = is_in;
        }
    }
    assert_int_equal(in[0], 0);
    assert_in_range(in[2], 150, 250);    /* 1% */
    assert_in_range(in[5], 9800, 10200); /* 50% */
    assert_int_equal(in[7], 20000);
}

static void test_shares_are_read_and_printed(void **state)
{
    static const struct {
        const char *text;
        unsigned share;
    } good[] = {{"1%", 10000},   {"0.1%", 1000}, {"100%", 1000000},   {"0%", 0},
                {"2.5%", 25000}, {"0.0001%", 1}, {"99.9999%", 999999}};
    static const char *const bad[] = {"",
                                      "%",
                                      "1",
                                      "101%",
                                      "-1%",
                                      "1.%",
                                      "100.0001%",
                                      ".1%",
                                      "1 %",
                                      "0.00001%",
                                      "1%%",
                                      "list",
                                      "99999999999999999999%",
                                      "1e1%",
                                      "all%"};
    char text[16];
    unsigned share;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(admission_parse_share(good[i].text, &share, &err), 0);
        assert_int_equal(share, good[i].share);
        assert_string_equal(admission_share_text(share, text, sizeof(text)),
                            good[i].text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(admission_parse_share(bad[i], &share, &err), -1);
    assert_int_equal(admission_parse_share("all", &share, &err), 0);
    assert_int_equal(share, 1000000);
    assert_int_equal(admission_parse_share("1.50000%", &share, &err), 0);
    assert_int_equal(share, 15000);
}

static void test_rates_are_read(void **state)
{
    static const char *const bad[] = {
        "",       "5",           "0/min",
        "-1/min", "5/hour",      "5 /min",
        "x/min",  "1000001/min", "99999999999999999999/min"};
    unsigned rate;
    struct err err;

    (void)state;
    assert_int_equal(admission_parse_rate("30/min", &rate, &err), 0);
    assert_int_equal(rate, 30);
    assert_int_equal(admission_parse_rate("none", &rate, &err), 0);
    assert_int_equal(rate, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(admission_parse_rate(bad[i], &rate, &err), -1);
}

/* How many of an endless crowd get in between two moments. */
static unsigned admitted(struct admission_bucket *b, unsigned rate,
                         int64_t from_ms, int64_t to_ms)
{
    unsigned count = 0;

    for (int64_t now = from_ms; now < to_ms; now += 10)
        while (admission_has_room(b, rate, now)) {
            admission_take(b, rate, now);
            count++;
        }
    return count;
}

static void test_bucket_keeps_the_rate(void **state)
{
    struct admission_bucket b = {0};

    (void)state;
    /* one at once, then one a minute */
    assert_int_equal(admitted(&b, 1, 5000, 64990), 1);
    assert_int_equal(admitted(&b, 1, 65000, 65010), 1);
    assert_int_equal(admitted(&b, 1, 65010, 125000), 0);
    b = (struct admission_bucket){0};
    /* six seconds' worth at once, then the rate */
    assert_int_equal(admitted(&b, 600, 0, 10), 60);
    assert_in_range(admitted(&b, 600, 10, 60000), 598, 600);
    /* a night without logins saves up no more than at first */
    assert_int_equal(admitted(&b, 600, 40000000, 40000010), 60);
}

static void test_bucket_survives_odd_clocks_and_changes(void **state)
{
    struct admission_bucket b = {0};

    (void)state;
    assert_int_equal(admitted(&b, 1, 1000000, 1000010), 1);
    assert_false(admission_has_room(&b, 1, 0)); /* the clock went back */
    assert_true(admission_has_room(&b, 0, 0));  /* no rate any more */
    admission_take(&b, 0, 0);
    assert_true(admission_has_room(&b, 1, INT64_MAX / 4));
    assert_true(admission_has_room(&b, 1000000, 1000100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places_are_these_for_ever),
        cmocka_unit_test(test_edge_of_a_share_is_exact),
        cmocka_unit_test(test_growing_share_only_adds_people),
        cmocka_unit_test(test_shares_are_read_and_printed),
        cmocka_unit_test(test_rates_are_read),
        cmocka_unit_test(test_bucket_keeps_the_rate),
        cmocka_unit_test(test_bucket_survives_odd_clocks_and_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
