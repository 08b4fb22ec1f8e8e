/* What a kick does to those who are in, and to those on their way. */
#include "tests/unit/login_stage.h"

static struct stage st;

static int setup(void **state)
{
    (void)state;
    memset(&st, 0, sizeof st);
    stage_open(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&st);
    return 0;
}

static void kick(int account, const char *address, const char *service)
{
    state_say(&st, json_pack("{s:s,s:i,s:s,s:s,s:s}", "m", "kick", "account",
                             account, "address", address, "service", service,
                             "reason", "locked"));
}

/* Spliced to local over IMAP. */
static int on_local(int *local_out, int account, const char *capability)
{
    int client = imap_client(&st);
    char line[128];

    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", account, 3, "confirmed");
    *local_out = accept_from(st.local_imap);
    say(*local_out, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear(*local_out, "L LOGIN \"" ADDRESS "\" \"secret\"");
    snprintf(line, sizeof line, "L OK [CAPABILITY %s] in\r\n", capability);
    say(*local_out, line);
    hear_start(client, "a OK");
    return client;
}

/* The same over POP3, with a message marked for deletion. */
static int on_local_pop3(int *local_out)
{
    int client = pop3_client(&st);

    say(client, "USER anna\r\nPASS secret\r\n");
    hear(client, "+OK");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    *local_out = accept_from(st.local_pop3);
    say(*local_out, "+OK local\r\n");
    hear(*local_out, "USER " ADDRESS);
    say(*local_out, "+OK\r\n");
    hear(*local_out, "PASS secret");
    say(*local_out, "+OK in\r\n");
    hear_start(client, "+OK");
    say(client, "DELE 1\r\n");
    hear(*local_out, "DELE 1");
    say(*local_out, "+OK\r\n");
    hear(client, "+OK");
    return client;
}

static void test_imap_ends_with_a_word_and_pop3_without_quit(void **state)
{
    int local[2];
    int imap = on_local(&local[0], 7, "IMAP4rev1 IDLE");
    int pop3 = on_local_pop3(&local[1]);

    (void)state;
    kick(7, ADDRESS, "login");
    hear_start(imap, "* BYE");
    hear_end(imap);
    hear_end(local[0]);
    hear_end(pop3);
    hear_end(local[1]);
}

static void test_no_word_inside_a_line_or_a_compressed_stream(void **state)
{
    char rest[100];
    int local[2];
    int open = on_local(&local[0], 7, "IMAP4rev1");
    int packed = on_local(&local[1], 7, "IMAP4rev1 COMPRESS=DEFLATE");

    (void)state;
    say(local[0], "* 1 FETCH (BODY[] {1000}\r\nhalf of it");
    hear_start(open, "* 1 FETCH");
    usleep(100000);
    kick(7, ADDRESS, "all");
    assert_int_equal(read(open, rest, sizeof rest), 10); /* "half of it" */
    assert_int_equal(read(open, rest, sizeof rest), 0);
    hear_end(packed);
    hear_end(local[0]);
    hear_end(local[1]);
    close(open);
}

static void test_others_stay(void **state)
{
    int local[2];
    int gone = on_local(&local[0], 7, "IMAP4rev1");
    int stays = on_local(&local[1], 7 + 4096, "IMAP4rev1"); /* same bucket */

    (void)state;
    kick(7, "other@example.net", "login");
    hear_start(gone, "* BYE");
    hear_end(gone);
    assert_true(is_silent(stays));
    say(stays, "b NOOP\r\n");
    hear(local[1], "b NOOP");
    close(stays);
    hear_end(local[1]);
    hear_end(local[0]);
}

static void test_submission_is_none_of_ours(void **state)
{
    int local;
    int client = on_local(&local, 7, "IMAP4rev1");

    (void)state;
    kick(7, ADDRESS, "submission");
    assert_true(is_silent(client));
    close(client);
    hear_end(local);
}

static void test_who_was_passed_through_is_found_by_address(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "pass", 0, 0, "none");
    legacy = legacy_lets_in(&st);
    hear_start(client, "a OK");
    kick(7, "another@example.net", "login");
    assert_true(is_silent(client));
    kick(7, ADDRESS, "login");
    hear_start(client, "* BYE");
    hear_end(client);
    hear_end(legacy);
}

static void test_a_login_under_way_asks_again(void **state)
{
    int client = imap_client(&st);
    int local;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    kick(7, ADDRESS, "login");
    hear_end(local);
    state_answer(&st, "ask", "refuse", 7, 3, "confirmed");
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    close(client);
}

/* Local has refused, legacy is being asked: both are of the account. */
static void test_a_check_under_way_ends(void **state)
{
    int client = imap_client(&st);
    int local, legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "learnt");
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L NO [AUTHENTICATIONFAILED] wrong\r\n");
    hear_end(local);
    legacy = accept_from(st.legacy_imap);
    say(legacy, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(legacy, "L LOGIN \"anna\" \"secret\"");
    kick(7, ADDRESS, "login");
    hear_end(legacy);
    hear_start(client, "a NO [UNAVAILABLE]");
    close(client);
}

static void test_who_does_not_read_is_not_waited_for(void **state)
{
    static char block[64 << 10];
    int local, size = 4096;
    int client = on_local(&local, 7, "IMAP4rev1");
    struct pollfd p = {.fd = local, .events = POLLOUT};

    (void)state;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    memset(block, 'x', sizeof block);
    while (poll(&p, 1, 300) == 1)
        assert_true(send(local, block, sizeof block, MSG_DONTWAIT) > 0);
    kick(7, ADDRESS, "login");
    p = (struct pollfd){.fd = local, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 1000), 1);
    close(local);
    close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_imap_ends_with_a_word_and_pop3_without_quit),
        TEST(test_no_word_inside_a_line_or_a_compressed_stream),
        TEST(test_others_stay),
        TEST(test_submission_is_none_of_ours),
        TEST(test_who_was_passed_through_is_found_by_address),
        TEST(test_a_login_under_way_asks_again),
        TEST(test_a_check_under_way_ends),
        TEST(test_who_does_not_read_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
