#include "account/foreign_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "account/master_name.h"

#define D22 "1234567890123456789012"
#define D43 "1234567890123456789012345678901234567890123"
#define D53 D43 "1234567890"
#define D86 D43 D43

static void good(const char *text, const char *stored)
{
    char out[256];
    struct err err;

    assert_true(foreign_hash_is_meant(text));
    if (foreign_hash_check(text, out, sizeof(out), &err) == -1)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(out, stored);
}

static void bad(const char *text, const char *why)
{
    char out[256];
    struct err err;

    assert_int_equal(foreign_hash_check(text, out, sizeof(out), &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s: \"%s\" does not say %s", text, err.text, why);
}

static void test_the_schemes_of_other_systems_are_taken(void **state)
{
    (void)state;
    good("{SSHA}W1Kd1JWhGVUmQ2ICbZRnc6PbiTYxMjM0",
         "{SSHA}W1Kd1JWhGVUmQ2ICbZRnc6PbiTYxMjM0");
    good("{md5-crypt}$1$salt$" D22, "{MD5-CRYPT}$1$salt$" D22);
    good("{BLF-CRYPT}$2y$05$" D53, "{BLF-CRYPT}$2y$05$" D53);
    good("{SHA256-CRYPT}$5$salt$" D43, "{SHA256-CRYPT}$5$salt$" D43);
    good("{SHA512-CRYPT}$6$rounds=5000$salt$" D86,
         "{SHA512-CRYPT}$6$rounds=5000$salt$" D86);
    good("{CRYPT}abJnggxhB/yWI", "{CRYPT}abJnggxhB/yWI");
    good("{CRYPT}$6$salt$" D86, "{CRYPT}$6$salt$" D86);
    good("{CRYPT}$y$j9T$salt$" D43, "{CRYPT}$y$j9T$salt$" D43);
}

static void test_others_are_refused_by_name(void **state)
{
    (void)state;
    bad("{PLAIN}secret", "{PLAIN}");
    bad("{PBKDF2}$1$x", "{PBKDF2}");
    bad("{SSHA512}xxxx", "{SSHA512}");
    bad("{SSHA.HEX}00", "{SSHA.HEX}");
    bad("no scheme", "no {SCHEME}");
    bad("{SSHA}", "no {SCHEME}");
}

static void test_what_is_malformed_or_dear_is_refused(void **state)
{
    (void)state;
    bad("{SSHA}tooshort", "not a hash");
    bad("{SSHA}no base64!", "not a hash");
    bad("{MD5-CRYPT}$6$salt$" D86, "not a hash");
    bad("{SHA512-CRYPT}$6$salt$" D43, "not a hash");
    bad("{SHA512-CRYPT}$6$" D22 "$" D86, "not a hash"); /* salt too long */
    bad("{SHA512-CRYPT}$6$rounds=x$salt$" D86, "not a hash");
    bad("{SHA512-CRYPT}$6$rounds=999999999$salt$" D86, "rounds");
    bad("{BLF-CRYPT}$2y$31$" D53, "cost");
    bad("{BLF-CRYPT}$2x$05$" D53, "not a hash");
    bad("{BLF-CRYPT}$2", "not a hash");
    bad("{CRYPT}$9$x", "not a hash");
    bad("{CRYPT}$y$j", "not a hash");
    bad("{CRYPT}$y$jzT$salt$" D43, "not a hash");
}

static void test_a_refusal_does_not_tell_the_hash(void **state)
{
    char out[256];
    struct err err;

    (void)state;
    assert_int_equal(
        foreign_hash_check("{MD5-CRYPT}$1$very$secret", out, sizeof(out), &err),
        -1);
    assert_null(strstr(err.text, "secret"));
}

static void test_a_password_may_begin_with_a_brace(void **state)
{
    (void)state;
    assert_false(foreign_hash_is_meant("{"));
    assert_false(foreign_hash_is_meant("{}x"));
    assert_false(foreign_hash_is_meant("{hello world}x"));
    assert_false(foreign_hash_is_meant("secret{X}"));
}

static void test_a_master_logs_in_by_a_name_with_the_user_in_it(void **state)
{
    char out[32];
    struct err err;

    (void)state;
    assert_int_equal(master_name_fill("", "ann", "boss", out, 32, &err), 0);
    assert_string_equal(out, "ann*boss");
    assert_int_equal(
        master_name_fill("{master}/{user}/x", "ann", "boss", out, 32, &err), 0);
    assert_string_equal(out, "boss/ann/x");
    assert_int_equal(master_name_fill("{master}", "ann", "b", out, 32, &err),
                     -1);
    assert_int_equal(master_name_fill("{user}{x}", "ann", "b", out, 32, &err),
                     -1);
    assert_int_equal(master_name_fill("", "ann", "boss", out, 8, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_schemes_of_other_systems_are_taken),
        cmocka_unit_test(test_others_are_refused_by_name),
        cmocka_unit_test(test_what_is_malformed_or_dear_is_refused),
        cmocka_unit_test(test_a_refusal_does_not_tell_the_hash),
        cmocka_unit_test(test_a_password_may_begin_with_a_brace),
        cmocka_unit_test(test_a_master_logs_in_by_a_name_with_the_user_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
