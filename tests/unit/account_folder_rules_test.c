#include "account/folder_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_patterns_and_names(void **state)
{
    static const struct {
        const char *rules, *name;
        bool is_left_out;
    } rows[] = {
        {"", "Virtual", false},
        {"Virtual", "Virtual", true},
        {"Virtual", "Virtual/All", true},
        {"Virtual", "Virtually", false},
        {"Virtual", "virtual", false},
        {"Virtual", "Old/Virtual", false},
        {"Virtual/*", "Virtual", false},
        {"Virtual/*", "Virtual/All", true},
        {"Virtual/*", "Virtual/All/2019", true},
        {" A , B/C ,D", "A", true},
        {" A , B/C ,D", "B", false},
        {" A , B/C ,D", "B/C/x", true},
        {" A , B/C ,D", "D", true},
        {"*.tmp", "x.tmp", true},
        {"*.tmp", "a/b.tmp/c", true},
        {"*.tmp", "x.tmpl", false},
        {"*a*b*", "xaybz", true},
        {"*a*b*", "xbya", false},
        {"[Gmail]/All Mail", "[Gmail]/All Mail", true},
        {"Entw\xc3\xbcrfe", "Entw\xc3\xbcrfe", true},
        {"INBOX/Old", "INBOX/Old", true},
        {"INBOX*x", "INBOX", false},
        {"*x", "Inbox", false},
        {"a,,b", "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (folder_rules_leave_out(rows[i].rules, rows[i].name) !=
            rows[i].is_left_out)
            fail_msg("\"%s\" and \"%s\"", rows[i].rules, rows[i].name);
}

static void test_many_stars_do_not_take_for_ever(void **state)
{
    char name[4000];

    (void)state;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_false(folder_rules_leave_out(
        "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", name));
}

static void test_rules_that_cannot_be_meant_are_refused(void **state)
{
    static const char *const bad[] = {"*",  "INBOX", "I*X", "a,",
                                      ",a", " , ",   "a\tb"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (folder_rules_check(bad[i], &err) != -1 || err.kind != ERR_SETUP)
            fail_msg("\"%s\"", bad[i]);
    assert_int_equal(folder_rules_check("", &err), 0);
    assert_int_equal(folder_rules_check("Virtual, *.tmp, INBOX/Old", &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns_and_names),
        cmocka_unit_test(test_many_stars_do_not_take_for_ever),
        cmocka_unit_test(test_rules_that_cannot_be_meant_are_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
