/*
 * What people are told an account waits for is what the schedule goes by.
 */
#include "account/story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/schedule.h"

#define NOW 1772366400000

static const enum story_wait wait_of[FLIP_GATE_COUNT] = {
    [FLIP_READY] = STORY_READY,          [FLIP_NOT_WANTED] = STORY_OPERATOR,
    [FLIP_NOT_ENABLED] = STORY_ENABLING, [FLIP_FROZEN] = STORY_THAW,
    [FLIP_NOT_CLEAN] = STORY_CLEAN,      [FLIP_SET_ASIDE] = STORY_ACCEPTING,
    [FLIP_NOT_SERVED] = STORY_LOCAL,     [FLIP_NOT_LEARNT] = STORY_PASSWORD,
    [FLIP_BLACKOUT] = STORY_BLACKOUT,    [FLIP_WINDOW_SHUT] = STORY_WINDOW,
    [FLIP_NOT_YET] = STORY_HOLD_RETRY,
};

static void test_the_sentence_and_the_gate_agree(void **state)
{
    (void)state;
    for (unsigned mix = 0; mix < 2048 * 3; mix++) {
        struct account a = {.route = ROUTE_LEGACY,
                            .copy = COPY_DELTA,
                            .wants_flip = (enum flip_wish)(mix / 2048),
                            .is_clean = mix & 1,
                            .has_hash = mix & 2,
                            .set_aside = mix & 4 ? 1 : 0,
                            .local_ready_at = mix & 8 ? NOW : 0,
                            .next_flip_at = mix & 16 ? NOW + 1 : 0,
                            .rolled_back_at = mix & 32 ? NOW : 0};
        struct domain d = {.is_enabled = mix & 64,
                           .is_frozen = mix & 128,
                           .cutover =
                               mix & 256 ? CUTOVER_MANUAL : CUTOVER_AUTO};
        struct flip_moment moment = {.now = NOW,
                                     .are_peers_known = true,
                                     .is_window_open = mix & 512,
                                     .is_black_day = mix & 1024};
        struct story s = {.account = &a,
                          .domain = &d,
                          .frozen = d.is_frozen ? "everything" : NULL,
                          .is_window_open = moment.is_window_open,
                          .is_black_day = moment.is_black_day,
                          .now = NOW};
        enum flip_gate gate = schedule_flip(&a, &d, &moment);

        if (story_wait(&s) != wait_of[gate])
            fail_msg("mix %u: the gate is %s", mix, flip_gate_name(gate));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_sentence_and_the_gate_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
