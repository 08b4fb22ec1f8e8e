/* POP3 clients before and at their login. */
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

static int pop3_lets_in(const char *greeting)
{
    int legacy = accept_from(st.legacy_pop3);

    say(legacy, "+OK legacy\r\n");
    hear(legacy, "USER anna");
    say(legacy, "+OK\r\n");
    hear(legacy, "PASS secret word");
    say(legacy, greeting);
    return legacy;
}

static void test_first_login_is_answered_at_once_and_proven_beside(void **state)
{
    int client = pop3_client(&st);
    int legacy;
    int proof;

    (void)state;
    say(client, "USER anna\r\nPASS secret word\r\nSTAT\r\n");
    hear_start(client, "+OK");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = pop3_lets_in("+OK in\r\n");
    hear(client, "+OK in");
    hear(legacy, "STAT");
    proof = accept_from(st.legacy_imap);
    say(proof, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(proof, "L LOGIN \"anna\" \"secret word\"");
    say(proof, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    legacy_is_proven(proof);
    hear_start(proof, "Q LOGOUT");
    close(proof);
    state_answer(&st, "learn", "legacy", 7, 1, "learnt");
    say(client, "QUIT\r\n");
    hear(legacy, "QUIT");
    say(legacy, "+OK bye\r\n");
    hear(client, "+OK bye");
    close(legacy);
    hear_end(client);
}

static void test_a_client_that_left_is_learnt_nevertheless(void **state)
{
    int client = pop3_client(&st);
    int legacy;
    int proof;
    json_t *learnt;

    (void)state;
    say(client, "USER anna\r\nPASS secret word\r\n");
    hear_start(client, "+OK");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = pop3_lets_in("+OK in\r\n");
    hear(client, "+OK in");
    close(client);
    hear_end(legacy);
    proof = accept_from(st.legacy_imap);
    say(proof, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(proof, "L LOGIN \"anna\" \"secret word\"");
    say(proof, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    legacy_is_proven(proof);
    learnt = state_hear(&st, "learn");
    assert_string_equal(wire_text(learnt, "via"), "pop3");
    assert_string_equal(wire_text(learnt, "prefix"), "INBOX.");
    json_decref(learnt);
    close(proof);
}

static void test_without_legacy_imap_stat_is_the_proof(void **state)
{
    int client = pop3_client(&st);
    json_t *asked;
    char pop3[64];
    int legacy;

    (void)state;
    say(client, "USER anna\r\nPASS secret word\r\n");
    hear_start(client, "+OK");
    asked = state_hear(&st, "ask");
    snprintf(pop3, sizeof pop3, "pop3://127.0.0.1:%u", port_of(st.legacy_pop3));
    state_say(&st, json_pack("{s:s, s:I, s:s, s:s, s:s, s:s}", "m", "answer",
                             "id", (json_int_t)wire_int(asked, "id", -1),
                             "answer", "prove", "address", ADDRESS,
                             "legacy_user", "anna", "pop3", pop3));
    json_decref(asked);
    legacy = pop3_lets_in("+OK in\r\n");
    hear(legacy, "STAT");
    say(legacy, "+OK 0 0\r\n");
    state_answer(&st, "learn", "legacy", 7, 1, "learnt");
    hear(client, "+OK in");
    close(legacy);
    hear_end(client);
}

static void test_every_way_of_saying_the_password(void **state)
{
    static const char *const ways[][3] = {
        {"user anna\n", "pass secret word\n", NULL},
        {"AUTH PLAIN AGFubmEAc2VjcmV0IHdvcmQ=\r\n", NULL, NULL},
        {"AUTH PLAIN\r\n", "AGFubmEAc2VjcmV0IHdvcmQ=\r\n", NULL},
        {"AUTH LOGIN\r\n", "YW5uYQ==\r\n", "c2VjcmV0IHdvcmQ=\r\n"},
        {"AUTH LOGIN YW5uYQ==\r\n", "c2VjcmV0IHdvcmQ=\r\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int client = pop3_client(&st);
        int legacy;

        for (int k = 0; k < 3 && ways[i][k] != NULL; k++) {
            if (k > 0)
                hear_start(client, "+");
            say(client, ways[i][k]);
        }
        state_answer(&st, "ask", "pass", 0, 0, "none");
        legacy = pop3_lets_in("+OK in\r\n");
        hear(client, "+OK in");
        close(legacy);
        hear_end(client);
    }
}

static void test_before_the_login(void **state)
{
    int client = pop3_client(&st);
    char line[4096];
    bool has_sasl = false;

    (void)state;
    say(client, "CAPA\r\n");
    hear_start(client, "+OK");
    while (read_line(client, line) == 0 && strcmp(line, ".") != 0)
        has_sasl = has_sasl || strcmp(line, "SASL PLAIN LOGIN") == 0;
    assert_true(has_sasl);
    say(client, "NOOP\r\nPASS x\r\nSTAT\r\nSTLS\r\nUSER\r\nAUTH FOO\r\n\r\n");
    hear_start(client, "+OK");
    for (int i = 0; i < 6; i++)
        hear_start(client, "-ERR");
    say(client, "AUTH PLAIN\r\n");
    hear(client, "+ ");
    say(client, "*\r\n");
    hear_start(client, "-ERR");
    say(client, "QUIT\r\n");
    hear_start(client, "+OK");
    hear_end(client);
    state_is_silent(&st);
}

static void test_refusals_keep_their_kind(void **state)
{
    static const struct {
        const char *said;
        const char *told;
    } rows[] = {
        {"-ERR wrong\r\n", "-ERR [AUTH]"},
        {"-ERR [AUTH] wrong\r\n", "-ERR [AUTH]"},
        {"-ERR [IN-USE] locked\r\n", "-ERR [IN-USE]"},
        {"-ERR Unable to lock maildrop: it is locked\r\n", "-ERR [IN-USE]"},
        {"-ERR Mailbox already in use\r\n", "-ERR [IN-USE]"},
        {"-ERR Temporary failure of authentication\r\n", "-ERR [SYS/TEMP]"},
        {"-ERR [LOGIN-DELAY] wait\r\n", "-ERR [LOGIN-DELAY]"},
        {"-ERR [SYS/TEMP] trouble\r\n", "-ERR [SYS/TEMP]"},
        {"-ERR [SYS/PERM] trouble\r\n", "-ERR [SYS/TEMP]"},
        {"what?\r\n", "-ERR [SYS/TEMP]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int client = pop3_client(&st);
        int legacy;

        say(client, "USER anna\r\nPASS secret word\r\n");
        hear_start(client, "+OK");
        state_answer(&st, "ask", "prove", 0, 0, "none");
        legacy = pop3_lets_in(rows[i].said);
        hear_start(client, rows[i].told);
        hear_end(legacy);
        close(client);
    }
    state_is_silent(&st);
}

static void test_a_server_without_user_is_tried_with_plain(void **state)
{
    int client = pop3_client(&st);
    int legacy;

    (void)state;
    say(client, "USER anna\r\nPASS secret word\r\n");
    hear_start(client, "+OK");
    state_answer(&st, "ask", "pass", 0, 0, "none");
    legacy = accept_from(st.legacy_pop3);
    say(legacy, "+OK legacy\r\n");
    hear(legacy, "USER anna");
    say(legacy, "-ERR no such command\r\n");
    hear(legacy, "AUTH PLAIN");
    say(legacy, "+ \r\n");
    hear(legacy, "AGFubmEAc2VjcmV0IHdvcmQ=");
    say(legacy, "+OK in\r\n");
    hear(client, "+OK in");
    close(legacy);
    hear_end(client);
}

static void test_dangerous_names_reach_nobody(void **state)
{
    static const char *const logins[] = {
        "AUTH PLAIN AGFubmEAc2VjDQpyZXQ=\r\n", /* CR LF in the password */
        "AUTH PLAIN AGFuDQpuYQBzZWNyZXQ=\r\n", /* CR LF in the name */
    };

    (void)state;
    for (size_t i = 0; i < sizeof logins / sizeof logins[0]; i++) {
        int client = pop3_client(&st);

        say(client, logins[i]);
        hear_start(client, "-ERR [AUTH]");
        close(client);
    }
    state_is_silent(&st);
}

/* Only the login map may have it; state says, and no server hears of it. */
static void test_a_name_that_is_no_address_is_asked_of_state_alone(void **state)
{
    int client = pop3_client(&st);

    (void)state;
    say(client, "USER ../x\r\nPASS secret\r\n");
    hear_start(client, "+OK");
    state_answer(&st, "ask", "refuse", 0, 0, "none");
    hear_start(client, "-ERR [AUTH]");
    close(client);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_first_login_is_answered_at_once_and_proven_beside),
        T(test_a_client_that_left_is_learnt_nevertheless),
        T(test_without_legacy_imap_stat_is_the_proof),
        T(test_every_way_of_saying_the_password),
        T(test_before_the_login),
        T(test_refusals_keep_their_kind),
        T(test_a_server_without_user_is_tried_with_plain),
        T(test_dangerous_names_reach_nobody),
        T(test_a_name_that_is_no_address_is_asked_of_state_alone),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
