#include "cli/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *good(const char *text)
{
    struct err err;
    json_t *list = csv_accounts(text, strlen(text), &err);

    if (!list)
        fail_msg("%s", err.text);
    return list;
}

static void assert_entry(const json_t *list, size_t index, const char *address,
                         const char *user, const char *password)
{
    const json_t *entry = json_array_get(list, index);
    const char *value;

    assert_string_equal(json_string_value(json_object_get(entry, "address")),
                        address);
    value = json_string_value(json_object_get(entry, "legacy_user"));
    assert_string_equal(value ? value : "", user);
    value = json_string_value(json_object_get(entry, "password"));
    assert_string_equal(value ? value : "", password);
}

static void assert_refused(const char *text, size_t length, const char *said)
{
    struct err err;

    assert_null(csv_accounts(text, length, &err));
    if (!strstr(err.text, said))
        fail_msg("\"%s\" is not in \"%s\"", said, err.text);
}

static void test_plain_lines_give_accounts(void **state)
{
    json_t *list = good("a@x,ua,pa\r\nb@x,,pb\nc@x");

    (void)state;
    assert_int_equal(json_array_size(list), 3);
    assert_entry(list, 0, "a@x", "ua", "pa");
    assert_entry(list, 1, "b@x", "", "pb");
    assert_entry(list, 2, "c@x", "", "");
    json_decref(list);
}

static void test_header_orders_the_columns(void **state)
{
    json_t *list = good("\xef\xbb\xbfpassword;address\npa,ss;a@x\n");

    (void)state;
    assert_int_equal(json_array_size(list), 1);
    assert_entry(list, 0, "a@x", "", "pa,ss");
    json_decref(list);
}

static void test_quoted_fields_hold_separators_and_quotes(void **state)
{
    json_t *list = good("a@x,\"u,1\",\"p\"\"w\"\n");

    (void)state;
    assert_entry(list, 0, "a@x", "u,1", "p\"w");
    json_decref(list);
}

static void test_empty_lines_are_passed_over(void **state)
{
    json_t *list = good("\n\na@x\n\r\n\n");

    (void)state;
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(list, 0), "line")),
        3);
    json_decref(list);
}

static void test_bad_lines_are_named(void **state)
{
    static const char nul[] = "a@x,u,p\nb@x,u\0,p\n";
    char wide[3000];

    (void)state;
    assert_refused("a@x,u,p,more\n", 13, "line 1: too many");
    assert_refused("a@x,u,\"p\nb@x", 12, "line 1: a quote");
    assert_refused("a@x\nb@x,\"u\"v\n", 13, "line 2: text behind");
    assert_refused("a@x,u,\xff\n", 8, "line 1: not UTF-8");
    assert_refused(",u,p\n", 5, "line 1: no address");
    assert_refused(nul, sizeof(nul) - 1, "line 2: a NUL");
    assert_refused("address,wrong\n", 14, "line 1: the columns");
    memset(wide, 'x', sizeof(wide));
    assert_refused(wide, sizeof(wide), "line 1: a field is too long");
}

static void test_every_cut_of_a_text_ends(void **state)
{
    static const char text[] = "address;password\r\n\"a@x\";\"p;\"\"\"\r\n;;\n";

    (void)state;
    for (size_t length = 0; length < sizeof(text); length++) {
        struct err err;

        json_decref(csv_accounts(text, length, &err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_lines_give_accounts),
        cmocka_unit_test(test_header_orders_the_columns),
        cmocka_unit_test(test_quoted_fields_hold_separators_and_quotes),
        cmocka_unit_test(test_empty_lines_are_passed_over),
        cmocka_unit_test(test_bad_lines_are_named),
        cmocka_unit_test(test_every_cut_of_a_text_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
