#include "cli/trace_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "2026-03-01T12:00:00.123Z "

static struct trace_line line;

static void parse(const char *text)
{
    static char kept[TRACE_LINE_MAX];

    snprintf(kept, sizeof(kept), "%s", text);
    assert_true(trace_line_parse(kept, &line));
}

static void tells(const char *words)
{
    char told[TRACE_LINE_MAX];

    trace_line_tell(&line, told, sizeof(told));
    assert_string_equal(told, words);
}

static void test_a_mail_is_told(void **state)
{
    (void)state;
    parse(HEAD "smtp[7] info smtp 6a-7-1 message mail=2 from=<a@b.test> "
               "message_id=<x@b.test> recipients=1 taken=1 unknown=0 "
               "side=legacy hop=mx size=812 code=250 ms=3");
    assert_int_equal(line.at, 1772366400123);
    assert_string_equal(line.role, "smtp");
    assert_string_equal(line.session, "6a-7-1");
    assert_int_equal(line.mail, 2);
    assert_true(trace_line_names(&line, "A@b.test"));
    assert_false(trace_line_names(&line, "a@b.tes"));
    tells("mail from <a@b.test>, Message-ID x@b.test, 812 bytes, to the old "
          "server: answered 250");
    parse(HEAD "smtp[7] info smtp 6a-7-1 recipient mail=2 to=<c@d.test> "
               "side=local code=250 answer=\"2.0.0 <c@d.test> queued as 5\"");
    tells("  for <c@d.test>, the new server said: 250 2.0.0 <c@d.test> queued "
          "as 5");
}

static void test_a_login_is_told(void **state)
{
    (void)state;
    parse(HEAD "login[9] info login refused session=8-1 protocol=imap "
               "ip=192.0.2.1 port=5 route=none reason=denied user=\"ann\" "
               "address=\"ann@d.test\" text=\"no\"");
    assert_string_equal(line.session, "8-1");
    assert_true(trace_line_names(&line, "ann@d.test"));
    tells("imap login of ann from 192.0.2.1 failed, denied: no");
}

static void test_an_account_is_named_whole(void **state)
{
    (void)state;
    parse(HEAD "state[9] info account ann@d.test flip route=local epoch=3");
    assert_true(trace_line_names(&line, "ann@d.test"));
    assert_false(trace_line_names(&line, "ann@d.tes"));
    assert_false(trace_line_names(&line, "ann@d.test2"));
    tells("account ann@d.test flip route=local epoch=3");
}

static void test_what_is_no_line_is_passed_over(void **state)
{
    static const char *const bad[] = {"",
                                      "==1==ERROR",
                                      "2026-03-01",
                                      "2026-03-01T12:00:00Z x[1] info a",
                                      HEAD,
                                      HEAD "login",
                                      HEAD "login[1",
                                      HEAD "login[1] ",
                                      HEAD "[1] info a"};
    char value[TRACE_VALUE_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(trace_line_parse(bad[i], &line));
    assert_false(trace_line_value("a b= c=\"open", "d", value));
    assert_true(trace_line_value("a b= c=\"open", "c", value));
    assert_string_equal(value, "open");
    assert_true(trace_line_value("to=\"a b\" x=1", "x", value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mail_is_told),
        cmocka_unit_test(test_a_login_is_told),
        cmocka_unit_test(test_an_account_is_named_whole),
        cmocka_unit_test(test_what_is_no_line_is_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
