#include "cli/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *good(const char *text)
{
    json_t *list = json_array(), *problems = json_array();
    struct err err;

    if (csv_accounts(text, strlen(text), CSV_UTF8, list, problems, &err) == -1)
        fail_msg("%s", err.text);
    assert_int_equal(json_array_size(problems), 0);
    json_decref(problems);
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
    json_t *list = json_array(), *problems = json_array();
    struct err err = {.text = ""};
    char told[600];

    if (csv_accounts(text, length, CSV_UTF8, list, problems, &err) == -1) {
        snprintf(told, sizeof(told), "%s", err.text);
    } else {
        const json_t *first = json_array_get(problems, 0);

        assert_non_null(first);
        snprintf(told, sizeof(told), "line %d: %s",
                 (int)json_integer_value(json_object_get(first, "line")),
                 json_string_value(json_object_get(first, "error")));
    }
    if (!strstr(told, said))
        fail_msg("\"%s\" is not in \"%s\"", said, told);
    json_decref(list);
    json_decref(problems);
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
    char wide[9000];

    (void)state;
    assert_refused("a@x,u,p,more\n", 13, "line 1: too many");
    assert_refused("a@x,u,\"p\nb@x", 12, "line 1: a quote");
    assert_refused("a@x\nb@x,\"u\"v\n", 13, "line 2: text behind");
    assert_refused("a@x,u,\xff\n", 8, "line 1: not UTF-8");
    assert_refused(",u,p\n", 5, "line 1: no address");
    assert_refused(nul, sizeof(nul) - 1, "line 2: a NUL");
    assert_refused("address,wrong\n", 14, "line 1: no such column: wrong");
    memset(wide, 'x', sizeof(wide));
    assert_refused(wide, sizeof(wide), "line 1: a field is too long");
}

static void test_every_cut_of_a_text_ends(void **state)
{
    static const char text[] = "address;password\r\n\"a@x\";\"p;\"\"\"\r\n;;\n";

    (void)state;
    for (size_t length = 0; length < sizeof(text); length++) {
        json_t *list = json_array(), *problems = json_array();

        csv_accounts(text, length, CSV_UTF8, list, problems, NULL);
        json_decref(list);
        json_decref(problems);
    }
}

static json_t *read_as(const char *text, enum csv_encoding encoding,
                       json_t **problems_out)
{
    json_t *list = json_array();

    *problems_out = json_array();
    assert_int_equal(
        csv_accounts(text, strlen(text), encoding, list, *problems_out, NULL),
        0);
    return list;
}

static void test_lists_quotas_and_dashes_are_values(void **state)
{
    json_t *list = good("address;names;quota;aliases;forward;owner;group\n"
                        "a@x;u1  u2;10g;i@x;-;Müller;business\n"
                        "b@x;-;-;-;;-;-\n");
    const json_t *a = json_array_get(list, 0), *b = json_array_get(list, 1);

    (void)state;
    assert_int_equal(json_array_size(json_object_get(a, "names")), 2);
    assert_int_equal(json_integer_value(json_object_get(a, "quota")),
                     10LL << 30);
    assert_int_equal(json_array_size(json_object_get(a, "forward")), 0);
    assert_non_null(json_object_get(a, "forward"));
    assert_string_equal(json_string_value(json_object_get(a, "owner")),
                        "Müller");
    assert_int_equal(json_array_size(json_object_get(b, "names")), 0);
    assert_int_equal(json_integer_value(json_object_get(b, "quota")), 0);
    assert_non_null(json_object_get(b, "quota"));
    assert_null(json_object_get(b, "forward"));
    assert_string_equal(json_string_value(json_object_get(b, "group")), "");
    json_decref(list);
}

static void test_windows_1252_is_read_where_it_is_named(void **state)
{
    static const char text[] = "address,owner\na@x,M\xfcller \x80\n"
                               "b@x,\x81\n";
    json_t *problems, *list = read_as(text, CSV_WINDOWS_1252, &problems);
    const json_t *a = json_array_get(list, 0);

    (void)state;
    assert_string_equal(json_string_value(json_object_get(a, "owner")),
                        "Müller €");
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(json_array_size(problems), 1);
    json_decref(list);
    json_decref(problems);
    list = read_as(text, CSV_UTF8, &problems);
    assert_int_equal(json_array_size(list), 0);
    assert_int_equal(json_array_size(problems), 2);
    json_decref(list);
    json_decref(problems);
}

static void test_lines_behind_a_bad_one_are_read(void **state)
{
    json_t *problems, *list = read_as("address,quota\na@x,1\nb@x,2,3\n"
                                      "c@x,\"4\nd@x,5x\ne@x,-1\n"
                                      "f@x,99999999T\ng@x,7\n",
                                      CSV_UTF8, &problems);
    const int bad[] = {3, 4, 5, 6, 7};

    (void)state;
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_array_size(problems), 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(json_integer_value(json_object_get(
                             json_array_get(problems, i), "line")),
                         bad[i]);
    json_decref(list);
    json_decref(problems);
}

static void test_a_dash_is_no_password(void **state)
{
    (void)state;
    assert_refused("address;password\na@b.test;-\n", 29,
                   "line 2: password: a list cannot remove it");
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
        cmocka_unit_test(test_lists_quotas_and_dashes_are_values),
        cmocka_unit_test(test_windows_1252_is_read_where_it_is_named),
        cmocka_unit_test(test_a_dash_is_no_password),
        cmocka_unit_test(test_lines_behind_a_bad_one_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
