#include "account/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Every change that may happen; all others may not. */
static const struct {
    enum account_route route;
    enum account_copy copy;
    enum account_event event;
    enum account_route next_route;
    enum account_copy next_copy;
    int64_t epochs;
} legal[] = {
    {ROUTE_LEGACY, COPY_NONE, EVENT_LEARNT, ROUTE_LEGACY, COPY_INITIAL, 0},
    {ROUTE_LEGACY, COPY_INITIAL, EVENT_COPIED, ROUTE_LEGACY, COPY_DELTA, 0},
    {ROUTE_LEGACY, COPY_DELTA, EVENT_HOLD, ROUTE_HELD, COPY_FINAL, 1},
    {ROUTE_HELD, COPY_FINAL, EVENT_FLIP, ROUTE_LOCAL, COPY_TRAIL, 1},
    {ROUTE_HELD, COPY_FINAL, EVENT_HOLD_FAILED, ROUTE_LEGACY, COPY_DELTA, 1},
    {ROUTE_LEGACY, COPY_NONE, EVENT_BROKEN, ROUTE_LEGACY, COPY_FAILED, 0},
    {ROUTE_LEGACY, COPY_INITIAL, EVENT_BROKEN, ROUTE_LEGACY, COPY_FAILED, 0},
    {ROUTE_LEGACY, COPY_DELTA, EVENT_BROKEN, ROUTE_LEGACY, COPY_FAILED, 0},
    {ROUTE_LEGACY, COPY_FAILED, EVENT_RETRIED, ROUTE_LEGACY, COPY_INITIAL, 0},
    {ROUTE_LOCAL, COPY_TRAIL, EVENT_BACK_HOLD, ROUTE_HELD, COPY_TRAIL, 1},
    {ROUTE_LOCAL, COPY_DONE, EVENT_BACK_HOLD, ROUTE_HELD, COPY_DONE, 1},
    {ROUTE_LOCAL, COPY_PAUSED, EVENT_BACK_HOLD, ROUTE_HELD, COPY_PAUSED, 1},
    {ROUTE_HELD, COPY_TRAIL, EVENT_BACK, ROUTE_LEGACY, COPY_DELTA, 1},
    {ROUTE_HELD, COPY_DONE, EVENT_BACK, ROUTE_LEGACY, COPY_DELTA, 1},
    {ROUTE_HELD, COPY_PAUSED, EVENT_BACK, ROUTE_LEGACY, COPY_DELTA, 1},
    {ROUTE_HELD, COPY_TRAIL, EVENT_BACK_FAILED, ROUTE_LOCAL, COPY_TRAIL, 1},
    {ROUTE_HELD, COPY_DONE, EVENT_BACK_FAILED, ROUTE_LOCAL, COPY_DONE, 1},
    {ROUTE_HELD, COPY_PAUSED, EVENT_BACK_FAILED, ROUTE_LOCAL, COPY_PAUSED, 1},
    {ROUTE_LOCAL, COPY_TRAIL, EVENT_TRAIL_ENDED, ROUTE_LOCAL, COPY_DONE, 0},
    {ROUTE_LOCAL, COPY_PAUSED, EVENT_TRAIL_ENDED, ROUTE_LOCAL, COPY_DONE, 0},
    {ROUTE_LOCAL, COPY_DONE, EVENT_REOPENED, ROUTE_LOCAL, COPY_TRAIL, 0},
    {ROUTE_LEGACY, COPY_INITIAL, EVENT_ASKED, ROUTE_LEGACY, COPY_FAILED, 0},
    {ROUTE_LEGACY, COPY_DELTA, EVENT_ASKED, ROUTE_LEGACY, COPY_FAILED, 0},
    {ROUTE_LOCAL, COPY_TRAIL, EVENT_ASKED, ROUTE_LOCAL, COPY_PAUSED, 0},
};

#define LEGAL_COUNT (sizeof(legal) / sizeof(legal[0]))

static size_t find_legal(const struct account_state *state,
                         enum account_event event)
{
    size_t i = 0;

    while (i < LEGAL_COUNT &&
           (legal[i].route != state->route || legal[i].copy != state->copy ||
            legal[i].event != event))
        i++;
    return i;
}

static void check_event(enum account_route route, enum account_copy copy,
                        enum account_event event)
{
    struct account_state state = {route, copy, 41};
    size_t i = find_legal(&state, event);
    struct err err = {0};

    if (i == LEGAL_COUNT) {
        assert_int_equal(lifecycle_apply(&state, event, &err), -1);
        assert_int_equal(err.kind, ERR_SETUP);
        assert_int_equal(state.route, route);
        assert_int_equal(state.copy, copy);
        assert_int_equal(state.epoch, 41);
        return;
    }
    assert_int_equal(lifecycle_apply(&state, event, &err), 0);
    assert_int_equal(state.route, legal[i].next_route);
    assert_int_equal(state.copy, legal[i].next_copy);
    assert_int_equal(state.epoch, 41 + legal[i].epochs);
    /* the epoch counts the changes of route and nothing else */
    assert_int_equal(legal[i].epochs, legal[i].next_route != route);
}

static void
test_every_event_in_every_state_is_legal_or_changes_nothing(void **unused)
{
    (void)unused;
    for (unsigned route = 0; route < ROUTE_COUNT; route++) {
        for (unsigned copy = 0; copy < COPY_COUNT; copy++) {
            for (unsigned event = 0; event <= EVENT_COUNT; event++)
                check_event(route, copy, event);
        }
    }
}

static void test_only_a_hold_leads_from_one_side_to_the_other(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < LEGAL_COUNT; i++) {
        if (legal[i].route != legal[i].next_route)
            assert_true(legal[i].route == ROUTE_HELD ||
                        legal[i].next_route == ROUTE_HELD);
    }
}

/* After a crash the row alone tells where a held account belongs. */
static void test_the_row_tells_which_way_a_hold_went(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < LEGAL_COUNT; i++) {
        if (legal[i].next_route == ROUTE_HELD)
            assert_int_equal(lifecycle_is_way_back(legal[i].next_copy),
                             legal[i].route == ROUTE_LOCAL);
    }
}

static void test_events_have_names(void **unused)
{
    (void)unused;
    assert_string_equal(account_event_name(EVENT_LEARNT), "learnt");
    assert_string_equal(account_event_name(EVENT_RETRIED), "retried");
    assert_string_equal(account_event_name(EVENT_COUNT), "unknown");
}

static void test_failed_holds_wait_longer_up_to_a_day(void **unused)
{
    const int64_t minute = 60000;

    (void)unused;
    assert_int_equal(lifecycle_hold_retry_ms(0), 15 * minute);
    assert_int_equal(lifecycle_hold_retry_ms(1), 15 * minute);
    assert_int_equal(lifecycle_hold_retry_ms(2), 30 * minute);
    assert_int_equal(lifecycle_hold_retry_ms(7), 960 * minute);
    assert_int_equal(lifecycle_hold_retry_ms(8), 1440 * minute);
    assert_int_equal(lifecycle_hold_retry_ms(4000000000u), 1440 * minute);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_every_event_in_every_state_is_legal_or_changes_nothing),
        cmocka_unit_test(test_only_a_hold_leads_from_one_side_to_the_other),
        cmocka_unit_test(test_the_row_tells_which_way_a_hold_went),
        cmocka_unit_test(test_events_have_names),
        cmocka_unit_test(test_failed_holds_wait_longer_up_to_a_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
