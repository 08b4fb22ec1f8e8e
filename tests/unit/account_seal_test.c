#include "account/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static uint8_t public_key[SEAL_KEY_SIZE];
static struct secret private_key;

static int make_keys(void **state)
{
    (void)state;
    return seal_make_keys(public_key, &private_key, NULL);
}

static int wipe_keys(void **state)
{
    (void)state;
    secret_wipe(&private_key);
    return 0;
}

static struct secret secret_of(const char *text, size_t length)
{
    struct secret s;

    secret_init(&s);
    secret_set(&s, text, length);
    return s;
}

static void close_text(const char *text, struct seal *out)
{
    struct secret password = secret_of(text, strlen(text));

    assert_int_equal(
        seal_close(public_key, "a@example.net", &password, out, NULL), 0);
    secret_wipe(&password);
}

static void check_shut(const struct secret *key, const char *address,
                       const struct seal *seal)
{
    struct secret out = secret_of("old", 3);
    struct err err = {0};

    assert_int_equal(seal_open(key, address, seal, &out, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_null(out.bytes);
}

static void test_what_was_sealed_opens(void **state)
{
    static const size_t lengths[] = {1, 15, 16, 17, 255, SEAL_SECRET_MAX};
    char bytes[SEAL_SECRET_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct secret password = secret_of(bytes, lengths[i]);
        struct secret out;
        struct seal seal;

        secret_init(&out);
        assert_int_equal(seal_close(public_key, "a", &password, &seal, NULL),
                         0);
        assert_int_equal(seal_open(&private_key, "a", &seal, &out, NULL), 0);
        assert_true(secret_equal(&password, &out));
        secret_wipe(&out);
        secret_wipe(&password);
    }
}

static void test_tampering_with_any_byte_is_refused(void **state)
{
    struct seal seal, bad;

    (void)state;
    close_text("correct horse", &seal);
    for (size_t i = 0; i < sizeof(seal.wrapped_key); i++) {
        for (int bit = 0; bit < 8; bit += 7) {
            bad = seal;
            bad.wrapped_key[i] ^= (uint8_t)(1 << bit);
            /* X25519 ignores the top bit of a public key, but the salt of the
               key derivation does not */
            check_shut(&private_key, "a@example.net", &bad);
        }
    }
    for (size_t i = 0; i < seal.blob_length; i++) {
        bad = seal;
        bad.blob[i] ^= 0x10;
        check_shut(&private_key, "a@example.net", &bad);
    }
}

static void test_cut_or_grown_blobs_are_refused(void **state)
{
    struct seal seal, bad;

    (void)state;
    close_text("secret", &seal);
    for (size_t length = 0; length <= sizeof(seal.blob) + 1; length++) {
        if (length == seal.blob_length)
            continue;
        bad = seal;
        bad.blob_length = length;
        check_shut(&private_key, "a@example.net", &bad);
    }
}

static void test_another_address_or_key_is_refused(void **state)
{
    struct secret other;
    uint8_t other_public[SEAL_KEY_SIZE];
    struct seal seal, second;

    (void)state;
    secret_init(&other);
    close_text("secret", &seal);
    close_text("secret", &second);
    check_shut(&private_key, "b@example.net", &seal);
    check_shut(&private_key, "", &seal);
    assert_int_equal(seal_make_keys(other_public, &other, NULL), 0);
    check_shut(&other, "a@example.net", &seal);
    secret_set(&other, "short", 5);
    check_shut(&other, "a@example.net", &seal);
    secret_wipe(&other);
    memcpy(seal.wrapped_key, second.wrapped_key, sizeof(seal.wrapped_key));
    check_shut(&private_key, "a@example.net", &seal);
}

static void test_every_seal_differs_in_all_its_parts(void **state)
{
    struct seal a, b;

    (void)state;
    close_text("same password", &a);
    close_text("same password", &b);
    assert_int_equal(a.blob_length, b.blob_length);
    assert_memory_not_equal(a.wrapped_key + 1, b.wrapped_key + 1, 32);
    assert_memory_not_equal(a.wrapped_key + 33, b.wrapped_key + 33, 12);
    assert_memory_not_equal(a.wrapped_key + 45, b.wrapped_key + 45, 48);
    assert_memory_not_equal(a.blob + 1, b.blob + 1, 12);
    assert_memory_not_equal(a.blob + 13, b.blob + 13, 13);
}

static void test_passwords_too_long_or_empty_are_denied(void **state)
{
    char bytes[SEAL_SECRET_MAX + 1] = {1};
    struct secret password = secret_of(bytes, sizeof(bytes));
    struct seal seal;
    struct err err;

    (void)state;
    assert_int_equal(seal_close(public_key, "a", &password, &seal, &err), -1);
    assert_int_equal(err.kind, ERR_DENIED);
    secret_set(&password, "", 0);
    assert_int_equal(seal_close(public_key, "a", &password, &seal, &err), -1);
    assert_int_equal(err.kind, ERR_DENIED);
    secret_wipe(&password);
}

static void test_the_public_key_follows_from_the_private_one(void **state)
{
    uint8_t again[SEAL_KEY_SIZE];
    struct secret bad = secret_of("x", 1);

    (void)state;
    assert_int_equal(seal_public_of(&private_key, again, NULL), 0);
    assert_memory_equal(again, public_key, SEAL_KEY_SIZE);
    assert_int_equal(seal_public_of(&bad, again, NULL), -1);
    secret_wipe(&bad);
}

static void test_a_public_key_of_small_order_is_refused(void **state)
{
    const uint8_t zero[SEAL_KEY_SIZE] = {0};
    struct secret password = secret_of("x", 1);
    struct seal seal;

    (void)state;
    assert_int_equal(seal_close(zero, "a", &password, &seal, NULL), -1);
    secret_wipe(&password);
}

static void test_fingerprints_tell_pairs_apart(void **state)
{
    uint8_t key[SEAL_KEY_SIZE], one[SEAL_PRINT_SIZE], two[SEAL_PRINT_SIZE];
    struct secret bc = secret_of("bc", 2), c = secret_of("c", 1);
    struct secret none;

    (void)state;
    secret_init(&none);
    seal_random(key, sizeof(key));
    seal_fingerprint(key, "a", &bc, one);
    seal_fingerprint(key, "a", &bc, two);
    assert_memory_equal(one, two, sizeof(one));
    seal_fingerprint(key, "ab", &c, two);
    assert_memory_not_equal(one, two, sizeof(one));
    seal_fingerprint(key, "a", &none, two);
    assert_memory_not_equal(one, two, sizeof(one));
    key[0] ^= 1;
    seal_fingerprint(key, "a", &bc, two);
    assert_memory_not_equal(one, two, sizeof(one));
    secret_wipe(&bc);
    secret_wipe(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_sealed_opens),
        cmocka_unit_test(test_tampering_with_any_byte_is_refused),
        cmocka_unit_test(test_cut_or_grown_blobs_are_refused),
        cmocka_unit_test(test_another_address_or_key_is_refused),
        cmocka_unit_test(test_every_seal_differs_in_all_its_parts),
        cmocka_unit_test(test_passwords_too_long_or_empty_are_denied),
        cmocka_unit_test(test_the_public_key_follows_from_the_private_one),
        cmocka_unit_test(test_a_public_key_of_small_order_is_refused),
        cmocka_unit_test(test_fingerprints_tell_pairs_apart),
    };

    return cmocka_run_group_tests(tests, make_keys, wipe_keys);
}
