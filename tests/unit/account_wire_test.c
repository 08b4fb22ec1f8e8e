#include "account/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_fields_are_read_by_their_type(void **state)
{
    json_t *m = json_pack("{s:s, s:I, s:b, s:n}", "text", "x", "int",
                          (json_int_t)1 << 40, "bool", 1, "null");

    (void)state;
    assert_string_equal(wire_text(m, "text"), "x");
    assert_null(wire_text(m, "int"));
    assert_null(wire_text(m, "null"));
    assert_null(wire_text(m, "absent"));
    assert_true(wire_int(m, "int", -1) == (int64_t)1 << 40);
    assert_int_equal(wire_int(m, "text", -1), -1);
    assert_int_equal(wire_int(m, "absent", 7), 7);
    assert_true(wire_bool(m, "bool"));
    assert_false(wire_bool(m, "int"));
    assert_false(wire_bool(m, "absent"));
    json_decref(m);
    assert_null(wire_text(NULL, "text"));
}

static void test_base64_is_that_of_rfc_4648(void **state)
{
    static const char *const words[] = {
        "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

    (void)state;
    for (size_t length = 0; length <= 6; length++) {
        json_t *m = json_object();
        char out[6];

        wire_put_bytes(m, "b", "foobar", length);
        assert_string_equal(wire_text(m, "b"), words[length]);
        assert_int_equal(wire_bytes(m, "b", out, sizeof(out)), length);
        assert_memory_equal(out, "foobar", length);
        json_decref(m);
    }
}

static void test_all_bytes_of_all_lengths_come_back(void **state)
{
    uint8_t bytes[300], out[300];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t length = 0; length <= sizeof(bytes); length++) {
        json_t *m = json_object();

        wire_put_bytes(m, "b", bytes, length);
        assert_int_equal(wire_bytes(m, "b", out, length), length);
        assert_memory_equal(out, bytes, length);
        if (length > 0)
            assert_int_equal(wire_bytes(m, "b", out, length - 1), -1);
        json_decref(m);
    }
}

static void test_malformed_base64_is_refused(void **state)
{
    static const char *const bad[] = {"Z",        "Zg",   "Zg=",       "=",
                                      "====",     "Z===", "Zg==Zg==",  "Zm9v=",
                                      "Zm 9v===", "Zm-_", "Zm\xc3\xa9"};
    char out[16];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *m = json_pack("{s:s}", "b", bad[i]);

        assert_int_equal(wire_bytes(m, "b", out, sizeof(out)), -1);
        json_decref(m);
    }
    assert_int_equal(wire_bytes(NULL, "b", out, sizeof(out)), -1);
}

static void test_seals_travel_whole(void **state)
{
    struct seal seal = {.blob_length = 40}, out;
    json_t *m = json_object();
    struct err err;

    (void)state;
    memset(seal.wrapped_key, 0xa5, sizeof(seal.wrapped_key));
    memset(seal.blob, 0x5a, seal.blob_length);
    wire_put_seal(m, &seal);
    assert_int_equal(wire_seal(m, &out, NULL), 0);
    assert_memory_equal(&out, &seal, sizeof(seal));
    wire_put_bytes(m, "key", seal.wrapped_key, sizeof(seal.wrapped_key) - 1);
    assert_int_equal(wire_seal(m, &out, &err), -1);
    assert_int_equal(err.kind, ERR_PEER);
    json_object_del(m, "key");
    assert_int_equal(wire_seal(m, &out, NULL), -1);
    json_decref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_read_by_their_type),
        cmocka_unit_test(test_base64_is_that_of_rfc_4648),
        cmocka_unit_test(test_all_bytes_of_all_lengths_come_back),
        cmocka_unit_test(test_malformed_base64_is_refused),
        cmocka_unit_test(test_seals_travel_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
