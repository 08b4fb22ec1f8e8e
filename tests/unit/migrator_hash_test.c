#include "migrator/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *scheme;
    unsigned cost, other;
} schemes[] = {{"SHA512-CRYPT", 1000, 0}, {"YESCRYPT", 1, 3}, {"BCRYPT", 4, 5}};

#define SCHEMES (sizeof schemes / sizeof *schemes)

static struct secret secret_of(const char *text)
{
    struct secret s;

    secret_init(&s);
    secret_set(&s, text, strlen(text));
    return s;
}

static void test_a_hash_is_that_of_its_password_alone(void **state)
{
    struct secret right = secret_of("p\xc3\xa4ss"), wrong = secret_of("pass");
    char hash[HASH_SIZE];

    (void)state;
    for (size_t i = 0; i < SCHEMES; i++) {
        assert_int_equal(
            hash_make(schemes[i].scheme, schemes[i].cost, &right, hash, NULL),
            0);
        assert_true(hash_matches(hash, &right));
        assert_false(hash_matches(hash, &wrong));
    }
    assert_false(hash_matches("", &right));
    assert_false(hash_matches("{SSHA}xxxx", &right));
    assert_false(hash_matches("{CRYPT}", &right));
    assert_false(hash_matches("{CRYPT}*0", &right));
    assert_false(hash_matches("{PLAIN}p\xc3\xa4ss", &right));
    secret_wipe(&right);
    secret_wipe(&wrong);
}

static void test_only_scheme_and_cost_of_today_are_current(void **state)
{
    struct secret password = secret_of("0123456789");
    char hash[HASH_SIZE];

    (void)state;
    for (size_t i = 0; i < SCHEMES; i++)
        for (int again = 0; again < 5; again++) { /* salts differ */
            assert_int_equal(hash_make(schemes[i].scheme, schemes[i].cost,
                                       &password, hash, NULL),
                             0);
            for (size_t j = 0; j < SCHEMES; j++)
                assert_int_equal(
                    hash_is_current(hash, schemes[j].scheme, schemes[j].cost),
                    i == j);
            assert_false(
                hash_is_current(hash, schemes[i].scheme, schemes[i].other));
        }
    assert_false(hash_is_current("", "BCRYPT", 4));
    assert_false(hash_is_current("{CRYPT}", "BCRYPT", 4));
    assert_false(hash_is_current("{CRYPT}$2", "BCRYPT", 4));
    assert_false(hash_is_current("{SHA512-CRYPT}$6$", "SHA512-CRYPT", 0));
    secret_wipe(&password);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hash_is_that_of_its_password_alone),
        cmocka_unit_test(test_only_scheme_and_cost_of_today_are_current),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
