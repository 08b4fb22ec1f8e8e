#include "account/username.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *typed, struct username *out)
{
    struct err err;

    return username_parse(typed, strlen(typed), out, &err);
}

static void check_refused(const char *typed, size_t length)
{
    struct username name;
    struct err err = {0};

    if (username_parse(typed, length, &name, &err) != -1)
        fail_msg("accepted: %s", typed);
    assert_int_equal(err.kind, ERR_DENIED);
}

static void check_parts(const char *typed, const char *local,
                        const char *domain, const char *address)
{
    struct username name;

    if (parse(typed, &name) == -1)
        fail_msg("refused: %s", typed);
    assert_string_equal(name.local, local);
    assert_string_equal(name.domain, domain);
    assert_string_equal(name.address, address);
}

static void test_spellings_of_one_user_become_one_address(void **state)
{
    (void)state;
    check_parts("Alice@Example.NET", "alice", "example.net",
                "alice@example.net");
    check_parts("alice+shop@example.net", "alice", "example.net",
                "alice@example.net");
    check_parts("ALICE+a+b@example.net.", "alice", "example.net",
                "alice@example.net");
    check_parts("alice", "alice", "", "alice");
    check_parts("Alice+x", "alice", "", "alice");
    check_parts("a.b-c_d'e=f@x-1.example", "a.b-c_d'e=f", "x-1.example",
                "a.b-c_d'e=f@x-1.example");
}

static void test_non_ascii_letters_stay_as_they_are(void **state)
{
    (void)state;
    check_parts("J\xc3\x9cRGEN@b\xc3\xbc"
                "cher.example",
                "j\xc3\x9crgen",
                "b\xc3\xbc"
                "cher.example",
                "j\xc3\x9crgen@b\xc3\xbc"
                "cher.example");
    check_parts("\xf0\x9f\x98\x80@example.net", "\xf0\x9f\x98\x80",
                "example.net", "\xf0\x9f\x98\x80@example.net");
}

static void test_a_leading_dot_is_part_of_a_name(void **state)
{
    static const char *const good[] = {".dot@example.net", "..a@example.net",
                                       "...@example.net"};
    struct username name;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(username_parse(good[i], strlen(good[i]), &name, &err),
                         0);
        assert_string_equal(name.address, good[i]);
    }
}

static void test_what_is_no_user_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "@",
                                      "@example.net",
                                      "alice@",
                                      "alice@.",
                                      "alice@..",
                                      "+tag",
                                      "+tag@example.net",
                                      ".",
                                      "..",
                                      ".@example.net",
                                      "..@example.net",
                                      "..+x@example.net",
                                      ".+x@example.net",
                                      "a/b@example.net",
                                      "../../etc@example.net",
                                      "a@../etc",
                                      "a@ex/ample.net",
                                      "alice*master@example.net",
                                      "alice@exam*ple.net",
                                      "al%ice@example.net",
                                      "alice@exam%ple.net",
                                      "alice@b@example.net",
                                      "alice@@example.net",
                                      "a\rb@example.net",
                                      "a\nb@example.net",
                                      "a\tb@example.net",
                                      "alice@exam\r\nple.net",
                                      "alice@example.net\n",
                                      "a\x7f@example.net",
                                      "a b@example.net",
                                      " alice@example.net",
                                      "alice@example.net ",
                                      "\"alice\"@example.net",
                                      "a\"b",
                                      "a\\b@example.net",
                                      "a:LAYOUT=fs@example.net",
                                      "a,b@example.net",
                                      "a;b@example.net",
                                      "<alice@example.net>",
                                      "(alice)@example.net",
                                      "alice@[192.0.2.1]",
                                      "alice@.example.net",
                                      "alice@example..net",
                                      "alice@-example.net",
                                      "alice@example.net..",
                                      "alice@exa+mple.net",
                                      "alice+t\nag@example.net",
                                      "alice+/@example.net"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_refused(bad[i], strlen(bad[i]));
}

static void test_an_embedded_nul_is_seen(void **state)
{
    (void)state;
    check_refused("alice\0x@example.net", 19);
    check_refused("\0", 1);
    check_refused("alice@example.net\0", 18);
    check_refused("alice@exam\0ple.net", 18);
}

static void test_bytes_that_are_no_utf8_are_refused(void **state)
{
    static const char *const bad[] = {"a\x80",
                                      "a\xc3",
                                      "a\xc3(",
                                      "a\xc0\xaf",
                                      "a\xc1\x81",
                                      "a\xe0\x80\xaf",
                                      "a\xed\xa0\x80",
                                      "a\xf0\x80\x80\xaf",
                                      "a\xf4\x90\x80\x80",
                                      "a\xf5\x80\x80\x80",
                                      "a\xff",
                                      "a\xfe",
                                      "a\xe2\x82",
                                      "a\xc2\x85",
                                      "a\xf0\x9f\x98"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char domain[64] = "x@";

        check_refused(bad[i], strlen(bad[i]));
        memcpy(domain + 2, bad[i], strlen(bad[i]) + 1);
        check_refused(domain, strlen(domain));
    }
}

static void test_every_single_byte_is_judged_alike_everywhere(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        struct username name;
        char local[] = "a_b@example.net", domain[] = "ab@exam_ple.net";
        const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                               "UVWXYZ0123456789-_.";
        int is_letter = c != 0 && strchr(letters, c) != NULL;
        int is_atext =
            is_letter || (c != 0 && strchr("!#$&'+=?^`{|}~", c) != NULL);

        local[1] = domain[7] = (char)c;
        if (c == '@')
            is_atext = 0;
        assert_int_equal(username_parse(local, 15, &name, NULL),
                         is_atext ? 0 : -1);
        assert_int_equal(username_parse(domain, 15, &name, NULL),
                         is_letter ? 0 : -1);
    }
}

static void test_lengths_are_bounded_exactly(void **state)
{
    char typed[ADDRESS_MAX + 8];
    struct username name;

    (void)state;
    memset(typed, 'a', sizeof(typed));
    assert_int_equal(username_parse(typed, 255, &name, NULL), 0);
    assert_int_equal(strlen(name.local), 255);
    check_refused(typed, 256);
    check_refused(typed, ADDRESS_MAX);
    check_refused(typed, ADDRESS_MAX + 1);
    typed[64] = '@';
    typed[100] = '.';
    assert_int_equal(username_parse(typed, 65 + 253, &name, NULL), 0);
    assert_int_equal(strlen(name.address), 65 + 253);
    check_refused(typed, 65 + 254);
    typed[64] = '+'; /* a long tag is no harm */
    assert_int_equal(username_parse(typed, ADDRESS_MAX - 1, &name, NULL), 0);
    assert_int_equal(strlen(name.address), 64);
}

static void test_random_bytes_never_give_a_dangerous_name(void **state)
{
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        char typed[24];
        struct username name;
        size_t length = 1 + (size_t)(rand_r(&seed) % 20);

        for (size_t i = 0; i < length; i++)
            typed[i] = (char)(rand_r(&seed) % 4 == 0
                                  ? rand_r(&seed)
                                  : "aB.@+/%*\n:\"1"[rand_r(&seed) % 12]);
        if (username_parse(typed, length, &name, NULL) == -1)
            continue;
        assert_null(strpbrk(name.address, "/%*+:\"\\ \r\n\t"));
        assert_true(name.local[0] != '\0');
        assert_true(strcmp(name.local, ".") != 0);
        assert_true(strcmp(name.local, "..") != 0);
        assert_true(name.domain[0] != '.');
    }
}

static void test_templates_are_filled(void **state)
{
    struct username name;
    char out[64];

    (void)state;
    assert_int_equal(parse("Bob@Example.net", &name), 0);
    assert_int_equal(username_fill("{address}", &name, out, 64, NULL), 0);
    assert_string_equal(out, "bob@example.net");
    assert_int_equal(
        username_fill("/v/{domain}/{local}/Maildir", &name, out, 64, NULL), 0);
    assert_string_equal(out, "/v/example.net/bob/Maildir");
    assert_int_equal(username_fill("", &name, out, 64, NULL), 0);
    assert_string_equal(out, "");
    assert_int_equal(parse("{domain}@example.net", &name), 0);
    assert_int_equal(username_fill("{local}", &name, out, 64, NULL), 0);
    assert_string_equal(out, "{domain}"); /* filled once, not again */
}

static void test_bad_templates_are_our_mistake(void **state)
{
    static const char *const bad[] = {"{user}", "{local",    "{",
                                      "{}",     "x{localx}", "{ local}"};
    struct username name;
    struct err err;
    char out[16];

    (void)state;
    assert_int_equal(parse("bob@example.net", &name), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(username_fill(bad[i], &name, out, 16, &err), -1);
        assert_int_equal(err.kind, ERR_SETUP);
    }
    assert_int_equal(username_fill("{address}", &name, out, 16, &err), 0);
    assert_int_equal(username_fill("{address}", &name, out, 15, &err), -1);
    assert_int_equal(username_fill("x{address}", &name, out, 16, &err), -1);
}

static void test_login_names_are_addresses_or_what_was_typed(void **state)
{
    static const struct {
        const char *typed, *name; /* NULL: refused */
    } cases[] = {{"Anna+x@Example.NET.", "anna@example.net"},
                 {"Anna", "anna"},
                 {"CORP\\Anna", "corp\\anna"},
                 {"anna%example.net", "anna%example.net"},
                 {"a/../B", "a/../b"},
                 {"J\xc3\x96RG x", "j\xc3\x96rg x"},
                 {"", NULL},
                 {"a\nb", NULL},
                 {"a\x7f", NULL},
                 {"a\\\xff", NULL}};
    char out[ADDRESS_MAX], longest[ADDRESS_MAX + 1];
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc = username_login_name(cases[i].typed, strlen(cases[i].typed),
                                     out, &err);

        assert_int_equal(rc, cases[i].name ? 0 : -1);
        if (cases[i].name)
            assert_string_equal(out, cases[i].name);
    }
    assert_int_equal(username_login_name("a\\\0b", 4, out, &err), -1);
    memset(longest, '%', sizeof(longest));
    assert_int_equal(username_login_name(longest, ADDRESS_MAX, out, &err), -1);
    assert_int_equal(username_login_name(longest, ADDRESS_MAX - 1, out, &err),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings_of_one_user_become_one_address),
        cmocka_unit_test(test_non_ascii_letters_stay_as_they_are),
        cmocka_unit_test(test_a_leading_dot_is_part_of_a_name),
        cmocka_unit_test(test_what_is_no_user_is_refused),
        cmocka_unit_test(test_an_embedded_nul_is_seen),
        cmocka_unit_test(test_bytes_that_are_no_utf8_are_refused),
        cmocka_unit_test(test_every_single_byte_is_judged_alike_everywhere),
        cmocka_unit_test(test_lengths_are_bounded_exactly),
        cmocka_unit_test(test_random_bytes_never_give_a_dangerous_name),
        cmocka_unit_test(test_login_names_are_addresses_or_what_was_typed),
        cmocka_unit_test(test_templates_are_filled),
        cmocka_unit_test(test_bad_templates_are_our_mistake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
