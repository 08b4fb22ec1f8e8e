/*
 * What Prometheus reads, and what a load balancer is told.
 */
#include "admin/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "admin/health.h"

static struct buf out;

static int start(void **state)
{
    (void)state;
    buf_init(&out, 1 << 20);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    buf_release(&out);
    return 0;
}

static void test_a_family_stands_together_with_its_type(void **state)
{
    json_t *series =
        json_pack("{s:i,s:i,s:i,s:f}", "sessions{protocol=\"pop3\"}", 2,
                  "sessions_total{protocol=\"imap\"}", 9,
                  "sessions{protocol=\"imap\"}", 1, "up", 1.0);

    (void)state;
    metrics_write(series, &out);
    assert_string_equal(
        buf_text(&out),
        "# HELP mailhaul_sessions Open client sessions, by protocol\n"
        "# TYPE mailhaul_sessions gauge\n"
        "mailhaul_sessions{protocol=\"imap\"} 1\n"
        "mailhaul_sessions{protocol=\"pop3\"} 2\n"
        "# HELP mailhaul_sessions_total Client sessions begun\n"
        "# TYPE mailhaul_sessions_total counter\n"
        "mailhaul_sessions_total{protocol=\"imap\"} 9\n"
        "# HELP mailhaul_up 1 if the state process answers\n"
        "# TYPE mailhaul_up gauge\n"
        "mailhaul_up 1\n");
    json_decref(series);
}

static void test_what_is_no_metric_is_left_out(void **state)
{
    json_t *series =
        json_pack("{s:i,s:i,s:i,s:i,s:s,s:i}", "a b", 1, "x{y=\"\n\"}", 1, "1x",
                  1, "x{", 1, "text", "1", "", 1);

    (void)state;
    metrics_write(series, &out);
    assert_int_equal(out.used, 0);
    json_decref(series);
}

static json_t *facts(bool is_full, bool are_peers_known, int refused,
                     const char *host)
{
    json_t *down = json_array();

    if (host)
        json_array_append_new(down, json_string(host));
    return json_pack("{s:{s:b,s:b,s:i,s:o}}", "facts", "is_full", is_full,
                     "peers_known", are_peers_known, "refused", refused,
                     "hosts_down", down);
}

static void test_health_names_every_reason(void **state)
{
    json_t *well = facts(false, true, 0, NULL);
    json_t *ill = facts(true, false, 7, "imap://old.test");

    (void)state;
    assert_true(health_judge(well, &out));
    assert_int_equal(out.used, 0);
    assert_false(health_judge(NULL, &out));
    assert_non_null(strstr(buf_text(&out), "does not answer"));
    buf_clear(&out);
    assert_false(health_judge(ill, &out));
    assert_non_null(strstr(buf_text(&out), "no room"));
    assert_non_null(strstr(buf_text(&out), "not every process"));
    assert_non_null(strstr(buf_text(&out), "7 accounts are refused"));
    assert_non_null(strstr(buf_text(&out), "imap://old.test"));
    json_decref(well);
    json_decref(ill);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_family_stands_together_with_its_type),
        TEST(test_what_is_no_metric_is_left_out),
        TEST(test_health_names_every_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
