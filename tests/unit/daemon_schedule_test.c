#include "daemon/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW 1000000000LL

static struct account ready_account(void)
{
    struct account a = {.route = ROUTE_LEGACY,
                        .copy = COPY_DELTA,
                        .is_clean = true,
                        .local_ready_at = 1,
                        .has_hash = true};

    return a;
}

static struct domain auto_domain(void)
{
    struct domain d = {.is_enabled = true, .cutover = CUTOVER_AUTO};

    return d;
}

static const struct flip_moment at_any_time = {
    .now = NOW, .are_peers_known = true, .is_window_open = true};

static enum flip_gate gate(const struct account *a, const struct domain *d)
{
    return schedule_flip(a, d, &at_any_time);
}

static void test_clean_account_of_an_automatic_domain_may_flip(void **state)
{
    struct account a = ready_account();
    struct domain d = auto_domain();

    (void)state;
    assert_int_equal(gate(&a, &d), FLIP_READY);
}

static void test_each_missing_condition_closes_the_gate(void **state)
{
    struct account a = ready_account();
    struct domain d = auto_domain();
    struct flip_moment at_the_start = at_any_time;

    (void)state;
    at_the_start.are_peers_known = false;
    assert_int_equal(schedule_flip(&a, &d, &at_the_start), FLIP_PEERS_UNKNOWN);
    a.next_flip_at = NOW + 1;
    assert_int_equal(gate(&a, &d), FLIP_NOT_YET);
    a = ready_account();
    a.has_hash = false;
    assert_int_equal(gate(&a, &d), FLIP_NOT_LEARNT);
    a = ready_account();
    a.is_clean = false;
    assert_int_equal(gate(&a, &d), FLIP_NOT_CLEAN);
    a = ready_account();
    a.set_aside = 2;
    a.accepted = 1;
    assert_int_equal(gate(&a, &d), FLIP_SET_ASIDE);
    a.accepted = 2;
    assert_int_equal(gate(&a, &d), FLIP_READY);
    a.local_ready_at = 0;
    assert_int_equal(gate(&a, &d), FLIP_NOT_SERVED);
    a = ready_account();
    d.is_frozen = true;
    a.wants_flip = FLIP_WISH_NOW;
    assert_int_equal(gate(&a, &d), FLIP_FROZEN);
    d.is_enabled = false;
    assert_int_equal(gate(&a, &d), FLIP_NOT_ENABLED);
}

static void test_window_is_for_flips_that_nobody_asked_for(void **state)
{
    struct flip_moment at_noon = at_any_time;
    struct account a = ready_account();
    struct domain d = auto_domain();

    (void)state;
    at_noon.is_window_open = false;
    assert_int_equal(schedule_flip(&a, &d, &at_noon), FLIP_WINDOW_SHUT);
    a.wants_flip = FLIP_WISH_ASKED;
    assert_int_equal(schedule_flip(&a, &d, &at_noon), FLIP_READY);
}

static void test_blackout_is_for_all_but_who_says_now(void **state)
{
    struct flip_moment at_christmas = at_any_time;
    struct account a = ready_account();
    struct domain d = auto_domain();

    (void)state;
    at_christmas.is_black_day = true;
    assert_int_equal(schedule_flip(&a, &d, &at_christmas), FLIP_BLACKOUT);
    a.wants_flip = FLIP_WISH_ASKED;
    assert_int_equal(schedule_flip(&a, &d, &at_christmas), FLIP_BLACKOUT);
    a.wants_flip = FLIP_WISH_NOW;
    at_christmas.is_window_open = false;
    assert_int_equal(schedule_flip(&a, &d, &at_christmas), FLIP_READY);
}

static void test_delta_comes_when_the_window_opens(void **state)
{
    struct flip_moment before = at_any_time;
    struct account a = ready_account();

    (void)state;
    before.is_window_open = false;
    before.opens_at = NOW + 20000;
    assert_int_equal(schedule_delta(&a, FLIP_WINDOW_SHUT, 300, &before),
                     NOW + 20000);
    assert_int_equal(schedule_delta(&a, FLIP_BLACKOUT, 300, &before),
                     NOW + 20000);
    before.opens_at = NOW + 900000;
    assert_int_equal(schedule_delta(&a, FLIP_WINDOW_SHUT, 300, &before),
                     NOW + 300000);
    before.opens_at = 0;
    assert_int_equal(schedule_delta(&a, FLIP_WINDOW_SHUT, 300, &before),
                     NOW + 300000);
}

static void test_only_copied_accounts_on_legacy_flip(void **state)
{
    struct domain d = auto_domain();

    (void)state;
    for (int route = 0; route < ROUTE_COUNT; route++)
        for (int copy = 0; copy < COPY_COUNT; copy++) {
            struct account a = ready_account();
            bool is_ready = route == ROUTE_LEGACY && copy == COPY_DELTA;

            a.route = (enum account_route)route;
            a.copy = (enum account_copy)copy;
            assert_int_equal(gate(&a, &d),
                             is_ready ? FLIP_READY : FLIP_NOT_COPIED);
        }
}

static void test_manual_domain_waits_for_the_operator(void **state)
{
    struct account a = ready_account();
    struct domain d = auto_domain();

    (void)state;
    d.cutover = CUTOVER_MANUAL;
    assert_int_equal(gate(&a, &d), FLIP_NOT_WANTED);
    a.wants_flip = true;
    assert_int_equal(gate(&a, &d), FLIP_READY);
}

static void test_retries_double_up_to_an_hour(void **state)
{
    (void)state;
    assert_int_equal(schedule_retry_ms(0, 30), 30000);
    assert_int_equal(schedule_retry_ms(1, 30), 60000);
    assert_int_equal(schedule_retry_ms(3, 30), 240000);
    assert_int_equal(schedule_retry_ms(7, 30), 3600000);
    assert_int_equal(schedule_retry_ms(4000000000u, 30), 3600000);
}

static void test_delta_comes_early_for_a_hold_that_may_be_tried(void **state)
{
    struct account a = ready_account();

    (void)state;
    a.next_flip_at = NOW + 15000;
    assert_int_equal(schedule_delta(&a, FLIP_NOT_YET, 300, &at_any_time),
                     NOW + 15000);
    a.next_flip_at = NOW + 900000;
    assert_int_equal(schedule_delta(&a, FLIP_NOT_YET, 300, &at_any_time),
                     NOW + 300000);
    assert_int_equal(schedule_delta(&a, FLIP_NOT_WANTED, 300, &at_any_time),
                     NOW + 300000);
    assert_true(schedule_delta(&a, FLIP_PEERS_UNKNOWN, 300, &at_any_time) <
                NOW + 5000);
}

static void test_trail_passes_come_fast_at_first(void **state)
{
    (void)state;
    assert_int_equal(schedule_trail(NOW, 300, NOW), NOW + 1000);
    assert_int_equal(schedule_trail(NOW, 300, NOW + 1000), NOW + 5000);
    assert_int_equal(schedule_trail(NOW, 300, NOW + 5100), NOW + 15000);
    assert_int_equal(schedule_trail(NOW, 300, NOW + 15001), NOW + 60000);
    assert_int_equal(schedule_trail(NOW, 300, NOW + 60000), NOW + 360000);
}

static void test_trail_looks_into_every_folder_in_time(void **state)
{
    (void)state;
    assert_true(schedule_trail_is_full(NOW, NOW + 15000, 900, NOW + 60000));
    assert_false(schedule_trail_is_full(NOW, NOW + 60000, 900, NOW + 360000));
    assert_true(schedule_trail_is_full(NOW, NOW + 60000, 900, NOW + 960000));
    assert_true(schedule_trail_is_full(NOW, 0, 900, NOW + 360000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_account_of_an_automatic_domain_may_flip),
        cmocka_unit_test(test_each_missing_condition_closes_the_gate),
        cmocka_unit_test(test_window_is_for_flips_that_nobody_asked_for),
        cmocka_unit_test(test_blackout_is_for_all_but_who_says_now),
        cmocka_unit_test(test_delta_comes_when_the_window_opens),
        cmocka_unit_test(test_only_copied_accounts_on_legacy_flip),
        cmocka_unit_test(test_manual_domain_waits_for_the_operator),
        cmocka_unit_test(test_retries_double_up_to_an_hour),
        cmocka_unit_test(test_delta_comes_early_for_a_hold_that_may_be_tried),
        cmocka_unit_test(test_trail_passes_come_fast_at_first),
        cmocka_unit_test(test_trail_looks_into_every_folder_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
