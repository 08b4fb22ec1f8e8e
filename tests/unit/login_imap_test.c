/* IMAP clients before and at their login, against servers of every kind. */
#include "tests/unit/login_stage.h"

static struct stage st;

static int setup(void **state)
{
    (void)state;
    memset(&st, 0, sizeof st);
    st.options.learn_ms = 400;
    stage_open(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&st);
    return 0;
}

static void check_learnt(const char *via, const char *prefix,
                         const char *password)
{
    json_t *learnt = state_hear(&st, "learn");
    struct secret opened;
    struct seal seal;
    struct err err;
    const char *got = wire_text(learnt, "prefix");

    assert_string_equal(wire_text(learnt, "name"), "Anna+tag@example.net");
    assert_string_equal(wire_text(learnt, "legacy_user"), "anna");
    assert_string_equal(wire_text(learnt, "via"), via);
    if (prefix != NULL)
        assert_string_equal(got, prefix);
    assert_int_equal(wire_seal(learnt, &seal, &err), 0);
    secret_init(&opened);
    assert_int_equal(seal_open(&st.private_key, ADDRESS, &seal, &opened, &err),
                     0);
    assert_string_equal(opened.bytes, password);
    secret_wipe(&opened);
    state_say(&st, json_pack("{s:s, s:I, s:s, s:i, s:i, s:s}", "m", "answer",
                             "id", (json_int_t)wire_int(learnt, "id", -1),
                             "answer", "legacy", "account", 7, "epoch", 1,
                             "password_state", "learnt"));
    json_decref(learnt);
}

static void test_first_login_is_proven_learnt_and_spliced(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a1 LOGIN Anna+tag@example.net \"secret\"\r\na2 NOOP\r\n");
    say(client, "a3 LIST \"\" *\r\n");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = legacy_lets_in(&st);
    legacy_is_proven(legacy);
    check_learnt("imap", "INBOX.", "secret");
    hear(client, "a1 OK [CAPABILITY IMAP4rev1 IDLE] in");
    hear(legacy, "a2 NOOP");
    hear(legacy, "a3 LIST \"\" *");
    say(legacy, "a2 OK\r\n");
    hear(client, "a2 OK");
    close(client);
    hear_end(legacy);
}

static void test_a_slow_state_process_does_not_keep_the_client(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a1 LOGIN anna secret\r\n");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = legacy_lets_in(&st);
    legacy_is_proven(legacy);
    hear_start(client, "a1 OK");
    /* its answer comes late: from then on the session is known */
    state_answer(&st, "learn", "legacy", 7, 1, "learnt");
    usleep(100000);
    state_order(&st, "hold", 2);
    hear_start(client, "* BYE");
    close(legacy);
    hear_end(client);
    json_decref(state_hear(&st, "quiet"));
}

static void test_known_password_is_taught_once_only(void **state)
{
    int client;
    int legacy;

    (void)state;
    for (int i = 0; i < 2; i++) {
        client = imap_client(&st);
        say(client, "a1 LOGIN anna secret\r\n");
        state_answer(&st, "ask", "legacy", 7, 1, "learnt");
        legacy = legacy_lets_in(&st);
        if (i == 0) {
            legacy_is_proven(legacy);
            state_answer(&st, "learn", "legacy", 7, 1, "learnt");
        }
        hear_start(client, "a1 OK");
        close(client);
        hear_end(legacy);
    }
    state_is_silent(&st);
}

static void test_every_way_of_saying_the_password(void **state)
{
    static const char *const ways[][3] = {
        {"a LOGIN {4}\r\n", "anna {6}\r\n", "secret\r\n"},
        {"a LOGIN {4+}\r\nanna {6+}\r\nsecret\r\n", NULL, NULL},
        {"a LOGIN {4-}\r\nanna \"secret\"\r\n", NULL, NULL},
        {"a login \"anna\" secret\r\n", NULL, NULL},
        {"a AUTHENTICATE PLAIN\r\n", "AGFubmEAc2VjcmV0\r\n", NULL},
        {"a AUTHENTICATE PLAIN AGFubmEAc2VjcmV0\r\n", NULL, NULL},
        {"a authenticate plain YW5uYQBhbm5hAHNlY3JldA==\r\n", NULL, NULL},
        {"a AUTHENTICATE LOGIN\r\n", "YW5uYQ==\r\n", "c2VjcmV0\r\n"},
        {"a AUTHENTICATE LOGIN YW5uYQ==\r\n", "c2VjcmV0\r\n", NULL},
        {"a AUTHENTICATE PLAIN\n", "AGFubmEAc2VjcmV0\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        int client = imap_client(&st);
        int legacy;

        for (int k = 0; k < 3 && ways[i][k] != NULL; k++) {
            if (k > 0)
                hear_start(client, "+ ");
            say(client, ways[i][k]);
        }
        state_answer(&st, "ask", "pass", 0, 0, "none");
        legacy = legacy_lets_in(&st);
        hear_start(client, "a OK");
        close(legacy);
        hear_end(client);
    }
}

static void test_before_the_login(void **state)
{
    int client = imap_client(&st);

    (void)state;
    say(client, "1 CAPABILITY\r\n");
    hear_start(client, "* CAPABILITY IMAP4rev1");
    hear_start(client, "1 OK");
    say(client, "2 ID (\"name\" \"x\" \"version\" NIL)\r\n");
    hear(client, "* ID NIL");
    hear_start(client, "2 OK");
    say(client, "3 NOOP\r\n4 SELECT INBOX\r\n\r\n5 LOGIN a\r\n");
    hear_start(client, "3 OK");
    hear_start(client, "4 BAD");
    hear_start(client, "* BAD");
    hear_start(client, "5 BAD");
    say(client, "6 STARTTLS\r\n");
    hear_start(client, "6 BAD");
    say(client, "7 AUTHENTICATE PLAIN\r\n");
    hear(client, "+ ");
    say(client, "*\r\n");
    hear_start(client, "7 BAD");
    say(client, "8 AUTHENTICATE PLAIN Ym9iAGFubmEAc2VjcmV0\r\n");
    hear_start(client, "8 BAD"); /* bob as anna */
    say(client, "9 AUTHENTICATE CRAM-MD5\r\n");
    hear_start(client, "9 NO");
    say(client, "10 LOGOUT\r\n");
    hear_start(client, "* BYE");
    hear_start(client, "10 OK");
    hear_end(client);
    state_is_silent(&st);
}

static void test_wrong_password_three_times(void **state)
{
    int client = imap_client(&st);

    (void)state;
    for (int i = 0; i < 3; i++) {
        int legacy;

        say(client, "a LOGIN anna wrong\r\n");
        state_answer(&st, "ask", "prove", 0, 0, "none");
        legacy = accept_from(st.legacy_imap);
        say(legacy, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
        hear(legacy, "L LOGIN \"anna\" \"wrong\"");
        say(legacy, "L NO [AUTHENTICATIONFAILED] no\r\n");
        hear_start(client, "a NO [AUTHENTICATIONFAILED]");
        hear_end(legacy);
    }
    hear_start(client, "* BYE");
    hear_end(client);
    state_is_silent(&st);
}

static void test_trouble_is_never_called_a_wrong_password(void **state)
{
    static const char *const troubles[] = {
        "* BYE too many connections\r\n",
        "* OK [CAPABILITY IMAP4rev1] x\r\nL NO [UNAVAILABLE] later\r\n",
        "* OK [CAPABILITY IMAP4rev1] x\r\nL NO [LIMIT] later\r\n",
        "* OK [CAPABILITY IMAP4rev1] x\r\nL BAD what?\r\n",
        "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        int client = imap_client(&st);
        int legacy;

        say(client, "a LOGIN anna secret\r\n");
        state_answer(&st, "ask", "prove", 0, 0, "none");
        legacy = accept_from(st.legacy_imap);
        say(legacy, troubles[i]);
        shutdown(legacy, SHUT_WR);
        hear_start(client, "a NO [UNAVAILABLE]");
        close(legacy);
        close(client);
    }
    state_is_silent(&st);
}

static void test_what_the_state_process_says_no_to(void **state)
{
    int client = imap_client(&st);

    (void)state;
    say(client, "a LOGIN x@elsewhere.example secret\r\n");
    state_answer(&st, "ask", "refuse", 0, 0, "none");
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    say(client, "b LOGIN anna secret\r\n");
    state_answer(&st, "ask", "unavailable", 7, 1, "none");
    hear_start(client, "b NO [UNAVAILABLE]");
    close(client);
}

static void test_dangerous_names_reach_nobody(void **state)
{
    static const char *const logins[] = {
        "a LOGIN {9+}\r\nanna\r\nx y {6+}\r\nsecret\r\n",
        "a LOGIN anna {8+}\r\nsec\r\nret\r\n",
        "a LOGIN \"\" secret\r\n",
        "a LOGIN anna \"\"\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof logins / sizeof logins[0]; i++) {
        int client = imap_client(&st);

        say(client, logins[i]);
        hear_start(client, "a NO [AUTHENTICATIONFAILED]");
        close(client);
    }
    state_is_silent(&st);
}

/* Only the login map may have them; state says, and no server hears of it. */
static void
test_names_that_are_no_address_are_asked_of_state_alone(void **state)
{
    static const char *const logins[] = {
        "a LOGIN ../../etc/passwd secret\r\n",
        "a LOGIN \"anna@a@b\" secret\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof logins / sizeof logins[0]; i++) {
        int client = imap_client(&st);

        say(client, logins[i]);
        state_answer(&st, "ask", "refuse", 0, 0, "none");
        hear_start(client, "a NO [AUTHENTICATIONFAILED]");
        close(client);
    }
}

static void test_a_client_that_sends_too_much_is_shown_out(void **state)
{
    static char line[20000];
    int client = imap_client(&st);

    (void)state;
    say(client, "a LOGIN anna {99999999999999999999}\r\n");
    hear_start(client, "* BYE");
    hear_end(client);
    client = imap_client(&st);
    memset(line, 'x', sizeof line - 1);
    say(client, line);
    hear_start(client, "* BYE");
    close(client);
    client = imap_client(&st);
    memset(line, 'x', 9000);
    memcpy(line, "a NOOP ", 7);
    line[8998] = '\r';
    line[8999] = '\n';
    line[9000] = '\0';
    for (int i = 0; i < 7; i++) {
        say(client, line);
        hear_start(client, "a ");
    }
    say(client, line);
    hear_start(client, "* BYE");
    close(client);
}

static void test_servers_that_offer_little(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    /* 8-bit password: PLAIN without initial response */
    say(client, "a LOGIN anna {7+}\r\ngeh\xc3\xa4im\r\n");
    state_answer(&st, "ask", "pass", 0, 0, "none");
    legacy = accept_from(st.legacy_imap);
    say(legacy, "* OK legacy\r\n");
    hear(legacy, "C CAPABILITY");
    say(legacy, "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nC OK\r\n");
    hear(legacy, "L AUTHENTICATE PLAIN");
    say(legacy, "+ \r\n");
    hear(legacy, "AGFubmEAZ2Vow6RpbQ==");
    say(legacy, "* OK welcome\r\n* 1 FOO {3}\r\nbar\r\nL OK in\r\n");
    /* it does not say what it can do now: asked for the client's sake */
    hear(legacy, "C CAPABILITY");
    say(legacy, "* CAPABILITY IMAP4rev1 IDLE\r\nC OK\r\n");
    hear(client, "* OK welcome");
    hear(client, "* CAPABILITY IMAP4rev1 IDLE");
    hear(client, "a OK in");
    close(legacy);
    hear_end(client);

    /* and literals that wait where there is no PLAIN either */
    client = imap_client(&st);
    say(client, "a LOGIN anna {7+}\r\ngeh\xc3\xa4im\r\n");
    state_answer(&st, "ask", "pass", 0, 0, "none");
    legacy = accept_from(st.legacy_imap);
    say(legacy, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(legacy, "L LOGIN {4}");
    say(legacy, "+ go\r\n");
    hear(legacy, "anna {7}");
    say(legacy, "+ go\r\n");
    hear(legacy, "geh\xc3\xa4im");
    say(legacy, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(client, "a OK");
    close(legacy);
    hear_end(client);
}

static void test_a_mailbox_that_cannot_be_opened_is_not_taken_in(void **state)
{
    int client = imap_client(&st);
    int legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "prove", 0, 0, "none");
    legacy = legacy_lets_in(&st);
    hear(legacy, "P1 NAMESPACE");
    say(legacy, "P1 BAD unknown\r\n");
    hear(legacy, "P2 LIST \"\" \"\"");
    say(legacy, "* LIST (\\Noselect) \"/\" \"\"\r\nP2 OK\r\n");
    hear(legacy, "P3 EXAMINE INBOX");
    say(legacy, "P3 NO User is authenticated but not connected\r\n");
    hear_start(client, "a OK");
    state_is_silent(&st);
    close(legacy);
    hear_end(client);
}

static int local_lets_in(const char *user_line)
{
    int local = accept_from(st.local_imap);

    say(local, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] local\r\n");
    hear(local, user_line);
    return local;
}

static void test_local_serves_who_has_moved(void **state)
{
    int client = imap_client(&st);
    int local;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "learnt");
    local = local_lets_in("L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L OK [CAPABILITY IMAP4rev1 MOVE] in\r\n");
    hear(client, "a OK [CAPABILITY IMAP4rev1 MOVE] in");
    json_decref(state_hear(&st, "confirm"));
    close(local);
    hear_end(client);

    client = imap_client(&st);
    say(client, "a LOGIN anna wrong\r\n");
    state_answer(&st, "ask", "local", 7, 3, "confirmed");
    local = local_lets_in("L LOGIN \"" ADDRESS "\" \"wrong\"");
    say(local, "L NO [AUTHENTICATIONFAILED] no\r\n");
    hear_start(client, "a NO [AUTHENTICATIONFAILED]");
    close(local);
    close(client);
}

static void test_a_refusal_by_local_is_asked_of_legacy(void **state)
{
    int client = imap_client(&st);
    int local;
    int legacy;

    (void)state;
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "learnt");
    local = local_lets_in("L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L NO [AUTHENTICATIONFAILED] no\r\n");
    legacy = legacy_lets_in(&st);
    close(local);
    legacy_is_proven(legacy);
    state_answer(&st, "learn", "local", 7, 3, "learnt");
    state_answer(&st, "ask", "local", 7, 3, "learnt");
    local = local_lets_in("L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L OK [CAPABILITY IMAP4rev1] in\r\n");
    hear_start(client, "a OK");
    json_decref(state_hear(&st, "confirm"));
    close(legacy);
    close(local);
    hear_end(client);

    /* legacy is down: nobody can tell */
    client = imap_client(&st);
    say(client, "a LOGIN anna secret\r\n");
    state_answer(&st, "ask", "local", 7, 3, "learnt");
    local = local_lets_in("L LOGIN \"" ADDRESS "\" \"secret\"");
    say(local, "L NO [AUTHENTICATIONFAILED] no\r\n");
    legacy = accept_from(st.legacy_imap);
    close(legacy);
    hear_start(client, "a NO [UNAVAILABLE]");
    close(local);
    close(client);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_first_login_is_proven_learnt_and_spliced),
        T(test_a_slow_state_process_does_not_keep_the_client),
        T(test_known_password_is_taught_once_only),
        T(test_every_way_of_saying_the_password),
        T(test_before_the_login),
        T(test_wrong_password_three_times),
        T(test_trouble_is_never_called_a_wrong_password),
        T(test_what_the_state_process_says_no_to),
        T(test_dangerous_names_reach_nobody),
        T(test_names_that_are_no_address_are_asked_of_state_alone),
        T(test_a_client_that_sends_too_much_is_shown_out),
        T(test_servers_that_offer_little),
        T(test_a_mailbox_that_cannot_be_opened_is_not_taken_in),
        T(test_local_serves_who_has_moved),
        T(test_a_refusal_by_local_is_asked_of_legacy),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
