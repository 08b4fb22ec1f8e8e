/* Repeated logins to local by its master user. */
#include "tests/unit/login_stage.h"

/* anna@example.net, boss, top */
#define BY_MASTER "YW5uYUBleGFtcGxlLm5ldABib3NzAHRvcA=="

static struct stage st;
static struct secret boss;
static int fd = -1;

static int setup(void **state)
{
    static const uint8_t key[SEAL_KEY_SIZE] = {7};

    (void)state;
    memset(&st, 0, sizeof st);
    secret_set(&boss, "top", 3);
    fd = verified_make_fd(NULL);
    st.options.verified = verified_open(fd, key, 10, NULL);
    st.options.local_master = "boss";
    st.options.local_master_password = &boss;
    st.version = 5;
    stage_open(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&st);
    verified_close(&st.options.verified);
    close(fd);
    secret_wipe(&boss);
    return 0;
}

static int asked(const char *password)
{
    int client = imap_client(&st);
    char line[128];

    snprintf(line, sizeof line, "a LOGIN anna %s\r\n", password);
    say(client, line);
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    return client;
}

static int local_greets(void)
{
    int local = accept_from(st.local_imap);

    say(local, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] local\r\n");
    return local;
}

static void let_in(int local, int client)
{
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(client, "a OK");
    close(client);
    hear_end(local);
}

static void in_by_himself(void)
{
    int client = asked("secret");
    int local = local_greets();

    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    let_in(local, client);
}

static void in_by_master(void)
{
    int client = asked("secret");
    int local = local_greets();

    hear(local, "L AUTHENTICATE PLAIN " BY_MASTER);
    let_in(local, client);
}

static void test_the_second_login_is_by_the_master_user(void **state)
{
    (void)state;
    in_by_himself();
    in_by_master();
    in_by_master();
}

static void test_pop3_is_let_in_the_same_way(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    client = pop3_client(&st);
    say(client, "USER anna\r\nPASS secret\r\n");
    hear(client, "+OK");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    local = accept_from(st.local_pop3);
    say(local, "+OK local\r\n");
    hear(local, "AUTH PLAIN " BY_MASTER);
    say(local, "+OK in\r\n");
    hear_start(client, "+OK");
    close(client);
    hear_end(local);
}

static void test_another_password_goes_to_local_itself(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    client = asked("guessed");
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"guessed\"");
    say(local, "L NO [AUTHENTICATIONFAILED] wrong\r\n");
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    hear_end(local);
    close(client);
    in_by_master();
}

static void test_changed_passwords_end_it(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    in_by_master();
    st.version = 6;
    client = asked("secret");
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L NO [AUTHENTICATIONFAILED] wrong\r\n");
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    hear_end(local);
    close(client);
}

static void test_without_a_version_nobody_is_remembered(void **state)
{
    (void)state;
    st.version = 0;
    in_by_himself();
    in_by_himself();
}

static void forget(const char *what)
{
    state_say(&st, json_pack("{s:s,s:i,s:s,s:s,s:s}", "m", what, "account", 7,
                             "address", ADDRESS, "service", "login", "reason",
                             "test"));
}

static void test_what_is_to_be_forgotten_is(void **state)
{
    (void)state;
    in_by_himself();
    forget("forget");
    in_by_himself();
    in_by_master();
    forget("kick");
    in_by_himself();
    in_by_master();
}

static void test_when_the_master_is_refused_the_user_gets_in(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    client = asked("secret");
    local = local_greets();
    hear(local, "L AUTHENTICATE PLAIN " BY_MASTER);
    say(local, "L NO [AUTHENTICATIONFAILED] who are you?\r\n");
    hear_end(local);
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    let_in(local, client);
    in_by_himself(); /* the master rests */
}

static void test_when_both_are_refused_the_master_does_not_rest(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    client = asked("secret");
    local = local_greets();
    hear(local, "L AUTHENTICATE PLAIN " BY_MASTER);
    say(local, "L NO [AUTHORIZATIONFAILED] not her\r\n");
    hear_end(local);
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L NO [AUTHENTICATIONFAILED] not her\r\n");
    hear_end(local);
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    close(client);
    in_by_master();
}

static void test_a_local_without_plain_gets_the_password(void **state)
{
    int client, local;

    (void)state;
    in_by_himself();
    client = asked("secret");
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear_end(local);
    local = accept_from(st.local_imap);
    say(local, "* OK [CAPABILITY IMAP4rev1] local\r\n");
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    let_in(local, client);
}

/* Two at once: the second waits, and enters by the master user. */
static void test_one_at_a_time_is_verified(void **state)
{
    int first = asked("secret");
    int local = local_greets();
    int second, third, other;

    (void)state;
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    second = asked("secret");
    third = asked("guessed"); /* another pair waits for nobody */
    other = local_greets();
    hear(other, "L LOGIN \"" ADDRESS "\" \"guessed\"");
    say(other, "L NO [AUTHENTICATIONFAILED] no\r\n");
    hear_start(third, "a NO [AUTHENTICATIONFAILED]");
    close(third);
    hear_end(other);
    assert_true(is_silent(st.local_imap));
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(first, "a OK");
    close(first);
    hear_end(local);
    local = local_greets();
    hear(local, "L AUTHENTICATE PLAIN " BY_MASTER);
    let_in(local, second);
}

static void test_when_the_first_is_refused_the_others_try(void **state)
{
    int first = asked("wrong");
    int local = local_greets();
    int second;

    (void)state;
    hear(local, "L LOGIN \"" ADDRESS "\" \"wrong\"");
    second = asked("wrong");
    assert_true(is_silent(st.local_imap));
    say(local, "L NO [AUTHENTICATIONFAILED] no\r\n");
    hear_start(first, "a NO [AUTHENTICATIONFAILED]");
    close(first);
    hear_end(local);
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"wrong\"");
    say(local, "L NO [AUTHENTICATIONFAILED] no\r\n");
    hear_start(second, "a NO [AUTHENTICATIONFAILED]");
    close(second);
    hear_end(local);
}

static void test_who_is_told_to_ask_again_waits_for_nobody(void **state)
{
    int client[2] = {asked("secret"), -1};
    int local = local_greets();

    (void)state;
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    client[1] = asked("secret");
    assert_true(is_silent(st.local_imap));
    forget("kick");
    hear_end(local);
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    local = local_greets();
    hear(local, "L LOGIN \"" ADDRESS "\" \"secret\"");
    assert_true(is_silent(st.local_imap));
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    close(local);
    local = local_greets();
    hear(local, "L AUTHENTICATE PLAIN " BY_MASTER);
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    for (int i = 0; i < 2; i++) {
        hear_start(client[i], "a OK");
        close(client[i]);
    }
    hear_end(local);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_second_login_is_by_the_master_user),
        TEST(test_pop3_is_let_in_the_same_way),
        TEST(test_another_password_goes_to_local_itself),
        TEST(test_changed_passwords_end_it),
        TEST(test_without_a_version_nobody_is_remembered),
        TEST(test_what_is_to_be_forgotten_is),
        TEST(test_when_the_master_is_refused_the_user_gets_in),
        TEST(test_when_both_are_refused_the_master_does_not_rest),
        TEST(test_one_at_a_time_is_verified),
        TEST(test_when_the_first_is_refused_the_others_try),
        TEST(test_who_is_told_to_ask_again_waits_for_nobody),
        TEST(test_a_local_without_plain_gets_the_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
