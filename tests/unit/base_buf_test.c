#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/log.h"
#include "base/secret.h"

static void test_what_passes_the_ceiling_is_refused_whole(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 5);
    assert_int_equal(buf_append_text(&b, "abc"), 0);
    assert_int_equal(buf_append_text(&b, "def"), -1);
    assert_int_equal(buf_printf(&b, "%d", 123), -1);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_string_equal(buf_text(&b), "abc");
    assert_int_equal(buf_printf(&b, "%d", 12), 0);
    assert_string_equal(buf_text(&b), "abc12");
    buf_release(&b);
    assert_null(b.bytes);
    assert_int_equal(buf_append_text(&b, "again"), 0);
    buf_wipe(&b);
    assert_string_equal(buf_text(&b), "");
}

static void test_consuming_keeps_the_rest(void **state)
{
    struct buf b;
    char *stolen;
    int i;

    (void)state;
    buf_init(&b, 1000);
    for (i = 0; i < 2000; i++) {
        assert_int_equal(buf_append(&b, "0123456789", 10), 0);
        buf_consume(&b, 7);
        if (b.used > 900)
            buf_consume(&b, b.used - 1);
        assert_int_equal(b.bytes[b.used - 1], '9');
    }
    buf_consume(&b, b.used - 3);
    assert_string_equal(buf_text(&b), "789");
    stolen = buf_steal(&b);
    assert_string_equal(stolen, "789");
    assert_int_equal(b.used, 0);
    free(stolen);
    buf_append_text(&b, "x");
    buf_consume(&b, 100);
    assert_int_equal(b.used, 0);
    buf_release(&b);
    stolen = buf_steal(&b);
    assert_string_equal(stolen, "");
    free(stolen);
}

static void test_reserved_room_is_there(void **state)
{
    struct buf b;
    char *room;

    (void)state;
    buf_init(&b, 100000);
    buf_append_text(&b, "ab");
    buf_consume(&b, 1);
    room = buf_reserve(&b, 99999);
    assert_non_null(room);
    memset(room, 'x', 99999);
    b.used += 99999;
    assert_int_equal(strlen(buf_text(&b)), 100000);
    buf_release(&b);
}

static void test_errors_take_prefixes_and_are_cut(void **state)
{
    struct err err = {0};
    char big[400];

    (void)state;
    assert_int_equal(err_set(&err, ERR_ITEM, "%s", "part"), -1);
    assert_int_equal(err_prefix(&err, "file %d", 7), -1);
    assert_string_equal(err.text, "file 7: part");
    err_set(&err, ERR_PEER, "again: %s", err.text);
    assert_string_equal(err.text, "again: file 7: part");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_prefix(&err, "%s", big);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_set(&err, ERR_PEER, "short");
    big[sizeof err.text - 5] = '\0';
    err_prefix(&err, "%s", big);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_clear(&err);
    assert_int_equal(err.kind, ERR_NONE);
    assert_int_equal(err_set(NULL, ERR_PEER, "x"), -1);
    assert_string_equal(err_kind_name(ERR_SETUP), "setup");
    assert_int_equal(err_kind_named("denied"), ERR_DENIED);
    assert_int_equal(err_kind_named("what"), ERR_RETRY);
}

static void test_text_of_a_peer_is_made_safe(void **state)
{
    char big[500];

    (void)state;
    assert_string_equal(log_safe("joe@example.net"), "joe@example.net");
    assert_string_equal(log_safe("a\r\n\"b\\\xfc\x7f"),
                        "a\\x0d\\x0a\\x22b\\x5c\\xfc\\x7f");
    memset(big, '\n', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(strlen(log_safe(big)), 128 * 4);
    assert_int_equal(log_level_named("trace"), LOG_LEVEL_TRACE);
    assert_int_equal(log_level_named("loud"), -1);
}

static void test_secrets_are_copied_and_compared(void **state)
{
    struct secret a, b;
    char text[] = "pass";

    (void)state;
    secret_init(&a);
    secret_init(&b);
    secret_set(&a, text, 4);
    text[0] = 'X';
    assert_string_equal(a.bytes, "pass");
    secret_set(&b, "pasT", 4);
    assert_false(secret_equal(&a, &b));
    secret_set(&b, a.bytes, a.length);
    assert_true(secret_equal(&a, &b));
    secret_set(&a, a.bytes, 3); /* from itself */
    assert_string_equal(a.bytes, "pas");
    secret_set(&b, "", 0);
    assert_string_equal(b.bytes, "");
    secret_wipe(&a);
    secret_wipe(&b);
    assert_null(a.bytes);
    assert_true(secret_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_passes_the_ceiling_is_refused_whole),
        cmocka_unit_test(test_consuming_keeps_the_rest),
        cmocka_unit_test(test_reserved_room_is_there),
        cmocka_unit_test(test_errors_take_prefixes_and_are_cut),
        cmocka_unit_test(test_text_of_a_peer_is_made_safe),
        cmocka_unit_test(test_secrets_are_copied_and_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
