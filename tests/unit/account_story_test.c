/*
 * Every combination of what a row can say gives one true sentence.
 */
#include "account/story.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "account/lifecycle.h"

#define NOW    1772366400000 /* 2026-03-01 12:00:00 UTC, a Sunday */
#define MINUTE 60000
#define SET(array, text)                                                       \
    memcpy(array, (char[sizeof(array)]){text}, sizeof(array))

static struct account a;
static struct domain d;
static struct story s;

/* Copied, and nothing stands in the way. */
static int start(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    memset(&a, 0, sizeof(a));
    memset(&d, 0, sizeof(d));
    memset(&s, 0, sizeof(s));
    SET(a.address, "ann@example.net");
    SET(d.name, "example.net");
    a.route = ROUTE_LEGACY;
    a.copy = COPY_DELTA;
    a.epoch = a.provisioned_epoch = 1;
    a.has_seal = a.has_hash = a.is_clean = true;
    a.password_state = PASSWORD_LEARNT;
    a.local_ready_at = NOW - MINUTE;
    a.delta_at = NOW - 3 * MINUTE;
    d.is_enabled = true;
    d.hold_seconds = 20;
    s.account = &a;
    s.domain = &d;
    s.is_window_open = true;
    s.now = NOW;
    return 0;
}

static void queue(enum job_kind kind, int64_t due_at, bool is_running)
{
    s.jobs[kind] =
        (struct story_job){true, is_running, due_at, a.last_error[0] != 0};
}

static void fails_with(enum err_kind kind, const char *text)
{
    snprintf(a.last_error, sizeof(a.last_error), "%s", text);
    snprintf(a.last_error_kind, sizeof(a.last_error_kind), "%s",
             err_kind_name(kind));
    a.last_error_at = NOW - MINUTE;
}

static void expect(const char *sentence)
{
    char out[STORY_MAX];

    story_tell(&s, out);
    if (strcmp(out, sentence) != 0)
        fail_msg("\"%s\"\n  instead of\n\"%s\"", out, sentence);
}

#define COPIED "On the old server: copied; "
#define CLEAN  "; last delta 3 minutes ago, clean."

static void test_a_copied_account_says_what_it_waits_for(void **state)
{
    (void)state;
    expect(COPIED "flips with its next clean delta" CLEAN);
    queue(JOB_DELTA, NOW + 4 * MINUTE, false);
    expect(COPIED "flips with its next clean delta; last delta 3 minutes ago, "
                  "clean; the next delta comes in 4 minutes.");
    queue(JOB_DELTA, NOW, true);
    expect(COPIED "flips with its next clean delta; last delta 3 minutes ago, "
                  "clean; the next delta runs now.");
    s.jobs[JOB_DELTA].is_there = false;
    d.cutover = CUTOVER_MANUAL;
    expect(COPIED "waits for `mailhaul cutover`, since example.net is cut over "
                  "by hand" CLEAN);
    d.cutover = CUTOVER_AUTO;
    s.is_window_open = false;
    s.opens_at = NOW + 6 * 3600 * 1000LL;
    expect(COPIED "waits for the window that opens 18:00:00 UTC" CLEAN);
    s.opens_at = NOW + 3 * 24 * 3600 * 1000LL;
    expect(COPIED "waits for the window that opens Wed 12:00 UTC" CLEAN);
    s.is_black_day = true;
    expect(COPIED "waits for the end of the blackout, Wed 12:00 UTC" CLEAN);
    a.has_hash = false;
    expect(COPIED "waits for the hash of its password" CLEAN);
    a.password_state = PASSWORD_NONE;
    expect(COPIED "waits for a good login, since the new server has no "
                  "password yet" CLEAN);
    a.local_ready_at = 0;
    expect(COPIED "waits for the new server to say that it serves the "
                  "mailbox" CLEAN);
    a.set_aside = 2;
    expect(COPIED "waits for somebody to accept 2 messages that cannot be had "
                  "(`mailhaul account accept`)" CLEAN);
    a.is_clean = false;
    expect(COPIED "waits for a delta that finds both sides the same; last "
                  "delta 3 minutes ago, not clean.");
    s.frozen = "example.net";
    s.frozen_why = "the new store is slow";
    expect(COPIED "waits until example.net is thawed (the new store is slow); "
                  "last delta 3 minutes ago, not clean.");
    d.is_enabled = false;
    expect(COPIED "waits until example.net is enabled; last delta 3 minutes "
                  "ago, not clean.");
}

static void test_a_hold_that_failed_is_tried_again(void **state)
{
    (void)state;
    a.hold_failures = 2;
    a.next_flip_at = NOW + 30 * MINUTE;
    expect(COPIED "its flip did not come off 2 times; the next try comes in "
                  "30 minutes" CLEAN);
    a.hold_failures = 0;
    a.next_flip_at = NOW + 15000;
    expect(COPIED "its flip was put off; the next try comes in 15 "
                  "seconds" CLEAN);
}

static void test_copying_that_stopped_says_what_sets_it_going(void **state)
{
    (void)state;
    a.copy = COPY_FAILED;
    fails_with(ERR_DENIED, "NO [AUTHENTICATIONFAILED]");
    expect("On the old server: the copying stopped because the old server "
           "refuses the password; the next good login sets it going.");
    fails_with(ERR_SETUP, "/var/mail: Permission denied");
    expect("On the old server: the copying stopped (/var/mail: Permission "
           "denied); mend that, then `mailhaul account resume`.");
    a.copy = COPY_PAUSED;
    expect("On the old server: its copying is paused; `mailhaul account "
           "resume` goes on.");
}

static void test_the_first_copy(void **state)
{
    (void)state;
    a.copy = COPY_INITIAL;
    queue(JOB_INITIAL, NOW, true);
    a.messages = 17;
    a.messages_total = 40;
    expect("On the old server: the first copy runs: 17 of 40 messages.");
    queue(JOB_INITIAL, NOW, false);
    expect("On the old server: the first copy waits for its turn.");
    fails_with(ERR_RETRY, "connection refused");
    queue(JOB_INITIAL, NOW + MINUTE, false);
    expect("On the old server: the first copy failed (connection refused); "
           "the next try comes in 60 seconds.");
    a.has_seal = false;
    expect("On the old server: the first copy waits for a good login, since "
           "no password is known.");
    s.frozen = "everything";
    expect("On the old server: the first copy waits until everything is "
           "thawed.");
}

static void test_the_hold_tells_which_way_it_goes(void **state)
{
    (void)state;
    a.route = ROUTE_HELD;
    a.copy = COPY_FINAL;
    expect("Being flipped: logins and mail wait until its sessions have "
           "ended, at most 20 seconds; then the new server serves it, or the "
           "old one again.");
    a.copy = COPY_TRAIL;
    expect("Being taken back to the old server: logins and mail wait while "
           "what is new is written there, at most 20 seconds.");
}

static void test_on_the_new_server(void **state)
{
    (void)state;
    a.route = ROUTE_LOCAL;
    a.copy = COPY_TRAIL;
    a.flipped_at = NOW - 3600 * 1000;
    queue(JOB_TRAIL, NOW + 2 * MINUTE, false);
    expect("On the new server since 11:00:00 UTC: what still arrives on the "
           "old one is fetched; the next pass comes in 2 minutes.");
    a.late_mail_at = NOW - 10 * MINUTE;
    a.on_flip = ON_FLIP_FAILED;
    a.on_flip_attempts = 5;
    expect("On the new server since 11:00:00 UTC: what still arrives on the "
           "old one is fetched; the next pass comes in 2 minutes; late mail "
           "came last 10 minutes ago; the on_flip command has failed 5 times, "
           "for good.");
    a.late_mail_at = 0;
    a.on_flip = ON_FLIP_NONE;
    fails_with(ERR_DENIED, "NO");
    expect("On the new server since 11:00:00 UTC: the old one refuses the "
           "password, so that what still arrives there cannot be fetched; the "
           "next try comes in 2 minutes.");
    a.last_error[0] = a.last_error_kind[0] = '\0';
    a.copy = COPY_DONE;
    a.is_login_locked = true;
    expect("On the new server since 11:00:00 UTC: its trail has ended, "
           "nothing is fetched from the old one. Its logins are locked.");
    a.epoch = 2;
    expect("Flipped, but the new server could not be told of it yet: logins "
           "and mail are put off until it can. Its logins are locked.");
}

static void test_a_question_stands_before_everything(void **state)
{
    (void)state;
    SET(a.question, "identity 7-");
    SET(a.last_error, "is it his?");
    a.copy = COPY_FAILED;
    expect("On the old server: nothing is copied or flipped until somebody "
           "answers its question: is it his? `mailhaul account accept "
           "ann@example.net identity` says that it is, `mailhaul account "
           "remove` that it is not.");
}

/* --- all of them: what must and must not be said */

static const char *told;

static bool says(const char *words)
{
    return strstr(told, words) != NULL;
}

static void check_truth(void)
{
    size_t length = strlen(told);

    assert_true(length > 20 && length < STORY_MAX - 1);
    assert_true(told[length - 1] == '.');
    assert_null(strstr(told, "(null)"));
    assert_null(strstr(told, ".."));
    assert_true((says("On the old server") || says("back to the old")) ==
                    (a.route == ROUTE_LEGACY ||
                     (a.route == ROUTE_HELD && a.copy != COPY_FINAL)) ||
                a.route == ROUTE_HELD);
    assert_true(says("On the new server") ==
                (a.route == ROUTE_LOCAL && a.provisioned_epoch >= a.epoch));
    assert_true(says("locked") == a.is_login_locked);
    if (a.route == ROUTE_LEGACY && a.question[0])
        assert_true(says("answers its question"));
    else if (a.route == ROUTE_LEGACY && a.copy == COPY_DELTA)
        assert_true(says("flips with its next") ==
                    (story_wait(&s) == STORY_READY));
    if (a.route == ROUTE_LEGACY && !a.question[0] && s.frozen && d.is_enabled &&
        a.copy == COPY_DELTA)
        assert_true(says("thawed"));
    if (says("refuses the password"))
        assert_string_equal(a.last_error_kind, "denied");
    if (says("paused"))
        assert_int_equal(a.copy, COPY_PAUSED);
    if (says("runs now"))
        assert_true(s.jobs[JOB_DELTA].is_running);
}

/* One bit of `mix` each. */
static void set_up(unsigned mix, unsigned error)
{
    bool is_running = mix & 1;
    enum job_kind kinds[] = {JOB_INITIAL, JOB_DELTA, JOB_TRAIL, JOB_FINAL};

    for (unsigned i = 0; i < 4; i++)
        s.jobs[kinds[i]] = (struct story_job){(mix & 2) || is_running,
                                              is_running, NOW + MINUTE, 0};
    s.frozen = mix & 4 ? "example.net" : NULL;
    s.is_window_open = !(mix & 8);
    s.opens_at = mix & 8 ? NOW + MINUTE : 0;
    d.cutover = mix & 16 ? CUTOVER_MANUAL : CUTOVER_AUTO;
    a.has_hash = !(mix & 32);
    a.is_clean = !(mix & 64);
    a.set_aside = mix & 128 ? 1 : 0;
    a.is_login_locked = mix & 256;
    SET(a.question, "");
    if (mix & 512)
        SET(a.question, "identity");
    a.provisioned_epoch = mix & 1024 ? 0 : 1;
    d.is_enabled = !(mix & 2048);
    a.last_error[0] = a.last_error_kind[0] = '\0';
    if (error == 1)
        fails_with(ERR_DENIED, "NO no");
    if (error == 2)
        fails_with(ERR_RETRY, "connection refused");
    if (error == 3)
        fails_with(ERR_SETUP, LIFECYCLE_NO_HASH);
}

static void test_every_combination_is_true(void **state)
{
    static char out[STORY_MAX];

    (void)state;
    told = out;
    for (int route = 0; route < ROUTE_COUNT; route++)
        for (int copy = 0; copy < COPY_COUNT; copy++)
            for (unsigned mix = 0; mix < 4096 * 4; mix++) {
                a.route = (enum account_route)route;
                a.copy = (enum account_copy)copy;
                set_up(mix % 4096, mix / 4096);
                story_tell(&s, out);
                check_truth();
            }
}

static void test_a_long_error_is_cut_not_overrun(void **state)
{
    char out[STORY_MAX];

    (void)state;
    memset(a.last_error, 'x', sizeof(a.last_error) - 1);
    a.copy = COPY_FAILED;
    story_tell(&s, out);
    assert_true(strlen(out) < STORY_MAX);
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_copied_account_says_what_it_waits_for),
        TEST(test_a_hold_that_failed_is_tried_again),
        TEST(test_copying_that_stopped_says_what_sets_it_going),
        TEST(test_the_first_copy),
        TEST(test_the_hold_tells_which_way_it_goes),
        TEST(test_on_the_new_server),
        TEST(test_a_question_stands_before_everything),
        TEST(test_every_combination_is_true),
        TEST(test_a_long_error_is_cut_not_overrun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
