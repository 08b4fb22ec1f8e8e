#include "account/keyring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ADDRESS "a@example.net"

static char path[64];
static struct keyring ring;

static int open_ring(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/mailhaul-keys-%d", (int)getpid());
    keyring_init(&ring);
    return keyring_add(&ring, NULL);
}

static int close_ring(void **state)
{
    (void)state;
    unlink(path);
    keyring_release(&ring);
    return 0;
}

static void close_seal(struct seal *seal)
{
    uint8_t public_key[SEAL_KEY_SIZE];
    struct secret password;

    secret_init(&password);
    secret_set(&password, "geheim", 6);
    assert_int_equal(keyring_public(&ring, public_key, NULL), 0);
    assert_int_equal(seal_close(public_key, ADDRESS, &password, seal, NULL), 0);
    secret_wipe(&password);
}

static int opens(const struct keyring *keys, const struct seal *seal,
                 struct err *err)
{
    struct secret password;
    int rc;

    secret_init(&password);
    rc = keyring_open(keys, ADDRESS, seal, &password, err);
    if (rc == 0)
        assert_string_equal(password.bytes, "geheim");
    secret_wipe(&password);
    return rc;
}

static void test_an_older_key_opens_until_it_is_dropped(void **state)
{
    struct seal seal;
    struct err err;

    (void)state;
    close_seal(&seal);
    assert_int_equal(keyring_add(&ring, NULL), 0);
    assert_int_equal(opens(&ring, &seal, &err), 0);
    keyring_keep_newest(&ring);
    assert_int_equal(opens(&ring, &seal, &err), -1);
    assert_int_equal(err.kind, ERR_DENIED);
}

static void test_a_seal_wrapped_anew_opens_with_the_newest_alone(void **state)
{
    struct seal seal, before;
    struct keyring old;
    struct err err;

    (void)state;
    close_seal(&seal);
    keyring_init(&old);
    keyring_copy(&old, &ring);
    assert_int_equal(keyring_add(&ring, NULL), 0);
    before = seal;
    assert_int_equal(keyring_rewrap(&ring, ADDRESS, &seal, &err), 1);
    assert_int_equal(keyring_rewrap(&ring, ADDRESS, &seal, &err), 0);
    assert_memory_equal(seal.blob, before.blob, seal.blob_length);
    keyring_keep_newest(&ring);
    assert_int_equal(opens(&ring, &seal, &err), 0);
    /* and the copy made before does not, with the keys that remain */
    assert_int_equal(opens(&ring, &before, &err), -1);
    assert_int_equal(opens(&old, &seal, &err), -1);
    assert_int_equal(keyring_rewrap(&ring, ADDRESS, &before, &err), -1);
    assert_int_equal(err.kind, ERR_DENIED);
    keyring_release(&old);
}

static void test_a_file_keeps_the_keys_and_their_order(void **state)
{
    struct keyring read;
    struct seal seal;
    struct stat st;
    struct err err;

    (void)state;
    close_seal(&seal);
    assert_int_equal(keyring_add(&ring, NULL), 0);
    assert_int_equal(keyring_write(&ring, path, NULL), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    keyring_init(&read);
    assert_int_equal(keyring_read(&read, path, &err), 0);
    assert_int_equal(read.count, 2);
    assert_true(secret_equal(&read.keys[0], &ring.keys[0]));
    assert_int_equal(opens(&read, &seal, &err), 0);
    keyring_keep_newest(&read);
    assert_int_equal(keyring_write(&read, path, NULL), 0);
    assert_int_equal(keyring_read(&read, path, &err), 0);
    assert_int_equal(read.count, 1);
    keyring_release(&read);
}

static void test_what_is_no_key_file_is_refused(void **state)
{
    static const char *const texts[] = {"", "\n\n", "abc\n", "AAAA\n",
                                        "not base64 at all, but long enough!!"};
    struct keyring read;
    struct err err;

    (void)state;
    keyring_init(&read);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(keyring_parse(&read, texts[i], strlen(texts[i]), &err),
                         -1);
        assert_int_equal(err.kind, ERR_SETUP);
    }
    assert_int_equal(keyring_read(&read, "/no/such/file", &err), -1);
    keyring_release(&read);
}

static void test_two_do_not_change_the_file_at_once(void **state)
{
    struct err err;
    int lock = keyring_lock(path, true, &err);

    (void)state;
    assert_true(lock >= 0);
    assert_int_equal(keyring_lock(path, false, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    close(lock);
    lock = keyring_lock(path, false, &err);
    assert_true(lock >= 0);
    close(lock);
}

static void expect_published(void)
{
    uint8_t wanted[SEAL_KEY_SIZE], found[SEAL_KEY_SIZE + 1];
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof(found), file), SEAL_KEY_SIZE);
    fclose(file);
    assert_int_equal(keyring_public(&ring, wanted, NULL), 0);
    assert_memory_equal(wanted, found, sizeof(wanted));
}

static void test_the_newest_is_published(void **state)
{
    (void)state;
    assert_int_equal(keyring_publish(&ring, path, NULL), 0);
    expect_published();
    assert_int_equal(keyring_add(&ring, NULL), 0);
    assert_int_equal(keyring_publish(&ring, path, NULL), 0);
    expect_published();
    assert_int_equal(keyring_publish(&ring, path, NULL), 0);
    expect_published();
}

static void test_there_are_only_so_many_keys(void **state)
{
    struct err err;

    (void)state;
    for (int i = 1; i < KEYRING_MAX; i++)
        assert_int_equal(keyring_add(&ring, NULL), 0);
    assert_int_equal(keyring_add(&ring, &err), -1);
    assert_int_equal(keyring_write(&ring, path, NULL), 0);
    assert_int_equal(keyring_read(&ring, path, NULL), 0);
    assert_int_equal(ring.count, KEYRING_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_an_older_key_opens_until_it_is_dropped, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(
            test_a_seal_wrapped_anew_opens_with_the_newest_alone, open_ring,
            close_ring),
        cmocka_unit_test_setup_teardown(
            test_a_file_keeps_the_keys_and_their_order, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_what_is_no_key_file_is_refused,
                                        open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_two_do_not_change_the_file_at_once,
                                        open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_the_newest_is_published, open_ring,
                                        close_ring),
        cmocka_unit_test_setup_teardown(test_there_are_only_so_many_keys,
                                        open_ring, close_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
