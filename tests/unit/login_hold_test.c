/* What a hold does to those who are on legacy. */
#include "tests/unit/login_stage.h"

static struct stage st;

static int setup(void **state)
{
    (void)state;
    memset(&st, 0, sizeof st);
    st.options.quiet_ms = 150;
    st.options.force_ms = 1100;
    stage_open(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&st);
    return 0;
}

static void hear_quiet(int epoch, bool wants_trail)
{
    json_t *quiet = state_hear(&st, "quiet");

    assert_int_equal(wire_int(quiet, "account", 0), 7);
    assert_int_equal(wire_int(quiet, "epoch", 0), epoch);
    assert_int_equal(wire_bool(quiet, "trail"), wants_trail);
    json_decref(quiet);
}

/* A client spliced to legacy, its password known. */
static int spliced(int *legacy_out, const char *capability)
{
    int client = imap_client(&st);
    char line[128];

    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "legacy", 7, 1, "learnt");
    *legacy_out = accept_from(st.legacy_imap);
    say(*legacy_out, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(*legacy_out, "L LOGIN \"anna\" \"secret\"");
    snprintf(line, sizeof line, "L OK [CAPABILITY %s] in\r\n", capability);
    say(*legacy_out, line);
    legacy_is_proven(*legacy_out);
    state_answer(&st, "learn", "legacy", 7, 1, "learnt");
    hear_start(client, "a OK");
    return client;
}

static void test_with_nobody_there_it_is_quiet_at_once(void **state)
{
    (void)state;
    state_order(&st, "hold", 2);
    hear_quiet(2, false);
    state_order(&st, "release", 2);
}

static void test_a_login_under_way_starts_over_unnoticed(void **state)
{
    int client = imap_client(&st);
    int legacy;
    int local;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "legacy", 7, 1, "learnt");
    legacy = accept_from(st.legacy_imap);
    say(legacy, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(legacy, "L LOGIN \"anna\" \"secret\"");
    state_order(&st, "hold", 2);
    hear_end(legacy);
    /* the question comes anew, and the quiet; whichever is first */
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    hear_quiet(2, false);
    state_order(&st, "release", 2);
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(client, "a OK");
    close(local);
    hear_end(client);
}

static void test_a_quiet_session_is_ended_with_a_word(void **state)
{
    int legacy;
    int client = spliced(&legacy, "IMAP4rev1 IDLE");

    (void)state;
    say(client, "b IDLE\r\n");
    hear(legacy, "b IDLE");
    say(legacy, "+ idling\r\n");
    hear(client, "+ idling");
    state_order(&st, "hold", 2);
    hear_end(legacy);
    hear(client, "* BYE Mailbox is moving, please reconnect");
    hear_end(client);
    hear_quiet(2, false);
}

static void test_no_word_is_said_where_compress_may_be_on(void **state)
{
    int legacy;
    int client = spliced(&legacy, "IMAP4rev1 COMPRESS=DEFLATE");

    (void)state;
    usleep(200000);
    state_order(&st, "hold", 2);
    hear_end(legacy);
    hear_end(client);
    hear_quiet(2, false);
}

static void test_a_session_that_is_never_quiet_is_cut_late(void **state)
{
    int legacy;
    int client = spliced(&legacy, "IMAP4rev1");

    (void)state;
    say(legacy, "* 1 FETCH (BODY[] {1000}\r\nhalf of it");
    hear_start(client, "* 1 FETCH");
    state_order(&st, "hold", 2);
    usleep(600000);
    assert_true(is_silent(legacy));
    say(legacy, " and more");
    hear_end(legacy);
    hear_quiet(2, true);
    close(client);
}

static void test_a_message_half_sent_is_waited_for(void **state)
{
    int legacy;
    int client = spliced(&legacy, "IMAP4rev1");

    (void)state;
    say(client, "b APPEND INBOX {10}\r\n");
    hear(legacy, "b APPEND INBOX {10}");
    say(legacy, "+ go\r\n");
    hear(client, "+ go");
    say(client, "half\n");
    hear(legacy, "half");
    state_order(&st, "hold", 2);
    usleep(500000);
    assert_true(is_silent(client));
    say(client, "more\n\r\n");
    hear(legacy, "more");
    hear(legacy, "");
    say(legacy, "b OK stored\r\n");
    hear(client, "b OK stored");
    hear_end(legacy);
    hear_start(client, "* BYE");
    hear_quiet(2, false);
    close(client);
}

static void test_what_was_not_ended_goes_on_after_the_release(void **state)
{
    int legacy;
    int client = spliced(&legacy, "IMAP4rev1");

    (void)state;
    say(legacy, "* 1 FETCH (BODY[] {10}\r\nhalf ");
    hear_start(client, "* 1 FETCH");
    state_order(&st, "hold", 2);
    usleep(300000);
    state_order(&st, "release", 2);
    usleep(1000000);
    say(legacy, "of it)\r\n");
    hear(client, "half of it)");
    say(client, "b NOOP\r\n");
    hear(legacy, "b NOOP");
    state_is_silent(&st);
    close(client);
    hear_end(legacy);
}

static void test_an_open_pop3_session_keeps_the_hold_away(void **state)
{
    int client = pop3_client(&st);
    int legacy;
    json_t *busy;

    (void)state;
    say(client, "USER anna\r\nPASS secret\r\n");
    hear_start(client, "+OK");
    state_answer(&st, "ask", "pass", 7, 1, "learnt");
    legacy = accept_from(st.legacy_pop3);
    say(legacy, "+OK legacy\r\n");
    hear(legacy, "USER anna");
    say(legacy, "+OK\r\n");
    hear(legacy, "PASS secret");
    say(legacy, "+OK in\r\n");
    hear(client, "+OK in");
    state_order(&st, "hold", 2);
    busy = state_hear(&st, "busy");
    assert_int_equal(wire_int(busy, "epoch", 0), 2);
    json_decref(busy);
    state_order(&st, "release", 2);
    say(client, "DELE 1\r\n");
    hear(legacy, "DELE 1");
    close(client);
    hear_end(legacy);
    usleep(200000);
    state_order(&st, "hold", 4);
    hear_quiet(4, false);
}

static void test_two_sessions_both_end_before_quiet(void **state)
{
    int legacy;
    int legacy2;
    int client = spliced(&legacy, "IMAP4rev1");
    int client2 = imap_client(&st);

    (void)state;
    say(client2, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "legacy", 7, 1, "learnt");
    legacy2 = legacy_lets_in(&st);
    hear_start(client2, "a OK");
    state_order(&st, "hold", 2);
    hear_end(legacy);
    hear_end(legacy2);
    hear_quiet(2, false);
    hear_start(client2, "* BYE");
    hear_start(client, "* BYE");
    close(client);
    close(client2);
}

static void test_sessions_on_local_are_left_alone(void **state)
{
    int client = imap_client(&st);
    int local;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear_start(local, "L LOGIN");
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(client, "a OK");
    state_order(&st, "hold", 4);
    hear_quiet(4, false);
    assert_true(is_silent(client));
    close(client);
    hear_end(local);
}

/* Let through while the domain took nobody in. */
static int stranger(int *legacy_out)
{
    int client = imap_client(&st);

    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "pass", 0, 0, "none");
    *legacy_out = legacy_lets_in(&st);
    hear_start(client, "a OK");
    return client;
}

static void test_who_was_no_account_yet_is_ended_too(void **state)
{
    int first_legacy;
    int first = stranger(&first_legacy);
    int second_legacy;
    int second = stranger(&second_legacy);

    (void)state;
    usleep(200000);
    state_order(&st, "hold", 2);
    hear_end(first_legacy);
    hear_end(second_legacy);
    close(first);
    close(second);
    hear_quiet(2, false);
}

static void test_a_stranger_logging_in_starts_over(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = legacy_lets_in(&st);
    hear(legacy, "P1 NAMESPACE");
    state_order(&st, "hold", 2);
    hear_end(legacy);
    state_answer(&st, "ask", "refuse", 0, 0, "none");
    hear_quiet(2, false);
    close(client);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_with_nobody_there_it_is_quiet_at_once),
        T(test_who_was_no_account_yet_is_ended_too),
        T(test_a_stranger_logging_in_starts_over),
        T(test_a_login_under_way_starts_over_unnoticed),
        T(test_a_quiet_session_is_ended_with_a_word),
        T(test_no_word_is_said_where_compress_may_be_on),
        T(test_a_session_that_is_never_quiet_is_cut_late),
        T(test_a_message_half_sent_is_waited_for),
        T(test_what_was_not_ended_goes_on_after_the_release),
        T(test_an_open_pop3_session_keeps_the_hold_away),
        T(test_two_sessions_both_end_before_quiet),
        T(test_sessions_on_local_are_left_alone),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
