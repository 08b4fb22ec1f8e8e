/* Time limits, crowds, draining, and a state process that is not there. */
#include "tests/unit/login_stage.h"

static struct stage st;

static int setup(void **state)
{
    (void)state;
    memset(&st, 0, sizeof st);
    st.options.login_ms = 700;
    st.options.max_sessions = 2;
    stage_open(&st);
    return 0;
}

static int setup_slow(void **state)
{
    (void)state;
    memset(&st, 0, sizeof st);
    st.options.refuse_ms = 500;
    st.options.backend_ms = 400;
    stage_open(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&st);
    return 0;
}

static void test_who_does_not_log_in_is_shown_out(void **state)
{
    int imap = imap_client(&st);
    int pop3 = pop3_client(&st);

    (void)state;
    say(imap, "a LOGIN {4}\r\n");
    hear_start(imap, "+");
    hear_start(imap, "* BYE");
    hear_end(imap);
    hear_start(pop3, "-ERR");
    hear_end(pop3);
}

static void test_the_time_to_log_in_counts_the_servers_too(void **state)
{
    int client = imap_client(&st);

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    json_decref(state_hear(&st, "ask"));
    hear_start(client, "a NO [UNAVAILABLE]");
    hear_start(client, "* BYE");
    hear_end(client);
}

static void test_a_crowd_waits_outside(void **state)
{
    int first = imap_client(&st);
    int second = imap_client(&st);
    int third = connect_to(st.imap_listen);

    (void)state;
    assert_true(is_silent(third));
    close(first);
    hear_start(third, "* OK");
    close(second);
    close(third);
}

static void test_a_server_that_says_nothing_is_given_up(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = accept_from(st.legacy_imap);
    hear_start(client, "a NO [UNAVAILABLE]");
    hear_end(legacy);
    close(client);
}

static void test_a_server_that_is_not_there_is_temporary(void **state)
{
    int client = pop3_client(&st);

    (void)state;
    say(client, "USER anna\r\nPASS secret\r\n");
    hear_start(client, "+OK");
    shutdown(st.legacy_pop3, SHUT_RDWR); /* refuses from now on */
    state_answer(&st, "ask", "prove", 0, 0, "none");
    hear_start(client, "-ERR [SYS/TEMP]");
    close(client);
}

static void test_a_refusal_comes_late(void **state)
{
    int client = imap_client(&st);

    (void)state;
    say(client, "a LOGIN anna secret\r\nb NOOP\r\n");
    state_answer(&st, "ask", "refuse", 0, 0, "none");
    assert_true(is_silent(client));
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    hear_start(client, "b OK"); /* what was pipelined behind it */
    close(client);
}

static void test_without_a_state_process_logins_fail_for_now(void **state)
{
    int client = imap_client(&st);

    (void)state;
    shutdown(st.state_listen, SHUT_RDWR);
    shutdown(st.state, SHUT_RDWR);
    say(client, "a LOGIN anna secret\r\n");
    hear_start(client, "a NO [UNAVAILABLE]");
    close(client);
}

static void test_draining_waits_for_the_last_session(void **state)
{
    int client = imap_client(&st);
    int status;

    (void)state;
    kill(st.child, SIGUSR1);
    usleep(200000);
    state_order(&st, "hold", 2); /* answered as before */
    json_decref(state_hear(&st, "quiet"));
    say(client, "a NOOP\r\n");
    hear_start(client, "a OK");
    assert_int_equal(waitpid(st.child, &status, WNOHANG), 0);
    close(client);
}

static int teardown_drained(void **state)
{
    int status = -1;

    (void)state;
    waitpid(st.child, &status, 0);
    assert_int_equal(status, 0);
    st.child = fork();
    if (st.child == 0)
        _exit(0);
    usleep(100000); /* gone before stage_close() ends it */
    stage_close(&st);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_does_not_log_in_is_shown_out,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_the_time_to_log_in_counts_the_servers_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_crowd_waits_outside, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_a_server_that_says_nothing_is_given_up, setup_slow, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_server_that_is_not_there_is_temporary, setup_slow, teardown),
        cmocka_unit_test_setup_teardown(test_a_refusal_comes_late, setup_slow,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_without_a_state_process_logins_fail_for_now, setup_slow,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_draining_waits_for_the_last_session, setup_slow,
            teardown_drained),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
