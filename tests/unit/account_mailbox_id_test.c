#include "account/mailbox_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const uint8_t digest[MAILBOX_ID_DIGEST_SIZE] = {0,    1,    0x7f, 0x80,
                                                       0xff, 0xab, 0xcd, 0x10};

static void test_an_id_is_uidvalidity_and_oldest_message(void **state)
{
    char id[MAILBOX_ID_SIZE];

    (void)state;
    mailbox_id_format(4294967295u, digest, id);
    assert_string_equal(id, "4294967295-00017f80ffabcd10");
    assert_int_equal(mailbox_id_uidvalidity(id), 4294967295u);
    mailbox_id_format(7, NULL, id);
    assert_string_equal(id, "7-");
    assert_int_equal(mailbox_id_uidvalidity(id), 7);
    assert_int_equal(mailbox_id_uidvalidity(""), 0);
}

static void test_an_empty_inbox_is_told_by_its_uidvalidity(void **state)
{
    (void)state;
    assert_true(mailbox_id_is_accepted("7-aa", "7-aa"));
    assert_true(mailbox_id_is_accepted("7-", "7-aa"));
    /* what was remembered is no mailbox that is just being made anew */
    assert_false(mailbox_id_is_accepted("7-aa", "7-"));
    assert_false(mailbox_id_is_accepted("7-aa", "7-ab"));
    assert_false(mailbox_id_is_accepted("7-aa", "8-aa"));
    assert_false(mailbox_id_is_accepted("7-", "8-"));
}

static void test_what_is_not_known_is_nobody(void **state)
{
    (void)state;
    assert_false(mailbox_id_is_accepted("", ""));
    assert_false(mailbox_id_is_accepted("", "7-aa"));
    assert_false(mailbox_id_is_accepted("7-aa", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id_is_uidvalidity_and_oldest_message),
        cmocka_unit_test(test_an_empty_inbox_is_told_by_its_uidvalidity),
        cmocka_unit_test(test_what_is_not_known_is_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
