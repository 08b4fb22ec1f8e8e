/* What login processes remember of pairs that local has accepted. */
#include "login-proxy/verified.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t key[SEAL_KEY_SIZE] = "a key of thirty-two bytes at all";
static struct verified *one, *other; /* two processes, so to speak */
static int fd;
static struct secret password;

static int start(void **state)
{
    (void)state;
    fd = verified_make_fd(NULL);
    one = verified_open(fd, key, 10, NULL);
    other = verified_open(fd, key, 10, NULL);
    secret_init(&password);
    secret_set(&password, "secret", 6);
    return fd == -1 || one == NULL || other == NULL;
}

static int stop(void **state)
{
    (void)state;
    secret_wipe(&password);
    verified_close(&one);
    verified_close(&other);
    close(fd);
    return 0;
}

static struct verified_pair anna(void)
{
    return (struct verified_pair){.account_id = 7,
                                  .epoch = 3,
                                  .version = 99,
                                  .address = "anna@example.net",
                                  .password = &password};
}

static void test_what_one_process_has_seen_the_other_knows(void **state)
{
    struct verified_pair pair = anna();

    (void)state;
    assert_false(verified_has(other, &pair));
    verified_put(one, &pair);
    assert_true(verified_has(other, &pair));
    verified_forget(other, 7);
    assert_false(verified_has(one, &pair));
}

static void test_a_pair_is_that_pair_alone(void **state)
{
    struct verified_pair pair = anna();

    (void)state;
    verified_put(one, &pair);
    pair.version = 100; /* the password was changed */
    assert_false(verified_has(one, &pair));
    pair = anna();
    pair.epoch = 4;
    assert_false(verified_has(one, &pair));
    pair = anna();
    pair.account_id = 8;
    assert_false(verified_has(one, &pair));
    pair = anna();
    pair.address = "anna@example.org";
    assert_false(verified_has(one, &pair));
    pair = anna();
    secret_set(&password, "secreu", 6);
    assert_false(verified_has(one, &pair));
    secret_set(&password, "secre", 5);
    assert_false(verified_has(one, &pair));
    secret_set(&password, "secret", 6);
    assert_true(verified_has(one, &pair));
}

static void test_without_a_version_nothing_is_remembered(void **state)
{
    struct verified_pair pair = anna();

    (void)state;
    pair.version = 0;
    verified_put(one, &pair);
    assert_false(verified_has(one, &pair));
    pair = anna();
    pair.account_id = 0;
    verified_put(one, &pair);
    assert_false(verified_has(one, &pair));
}

static void test_another_key_knows_nobody(void **state)
{
    struct verified_pair pair = anna();
    uint8_t new_key[SEAL_KEY_SIZE] = {1};
    struct verified *later = verified_open(fd, new_key, 10, NULL);

    (void)state;
    verified_put(one, &pair);
    assert_false(verified_has(later, &pair));
    verified_close(&later);
}

static void test_many_passwords_of_one_are_bounded(void **state)
{
    struct verified_pair pair = anna();
    char text[16];
    int known = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "app-%d", i);
        secret_set(&password, text, strlen(text));
        verified_put(one, &pair);
        assert_true(verified_has(one, &pair));
    }
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "app-%d", i);
        secret_set(&password, text, strlen(text));
        known += verified_has(one, &pair);
    }
    assert_int_equal(known, 8);
    verified_forget(one, 7);
    assert_false(verified_has(one, &pair));
}

static void test_no_minutes_no_memory(void **state)
{
    struct verified_pair pair = anna();
    struct verified *never = verified_open(fd, key, 0, NULL);

    (void)state;
    verified_put(never, &pair);
    assert_false(verified_has(one, &pair));
    verified_close(&never);
}

static void test_a_strange_file_is_refused(void **state)
{
    struct err err;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    assert_null(verified_open(pipes[0], key, 10, &err));
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(ftruncate(fd, 100), -1); /* it keeps its size */
    close(pipes[0]);
    close(pipes[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_one_process_has_seen_the_other_knows),
        TEST(test_a_pair_is_that_pair_alone),
        TEST(test_without_a_version_nothing_is_remembered),
        TEST(test_another_key_knows_nobody),
        TEST(test_many_passwords_of_one_are_bounded),
        TEST(test_no_minutes_no_memory),
        TEST(test_a_strange_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
