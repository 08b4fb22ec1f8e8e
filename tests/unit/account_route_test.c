#include "account/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* The law once more, written as a table of what must come out: one row for
   each input class, '*' meaning either value. */
struct rule {
    enum route_service service;
    char has_domain, is_enabled;
    char is_braked; /* frozen, not admitted or crowded */
    char has_account;
    int route; /* -1: any */
    char is_provisioned;
    enum route_answer answer;
};

static const struct rule rules[] = {
    /* the row decides, whatever the switch of the domain */
    {SERVICE_LOGIN, '1', '*', '*', '1', ROUTE_LEGACY, '*', ROUTE_TO_LEGACY},
    {SERVICE_LOGIN, '1', '*', '*', '1', ROUTE_HELD, '*', ROUTE_WAIT},
    {SERVICE_LOGIN, '1', '*', '*', '1', ROUTE_LOCAL, '1', ROUTE_TO_LOCAL},
    {SERVICE_LOGIN, '1', '*', '*', '1', ROUTE_LOCAL, '0', ROUTE_UNAVAILABLE},
    {SERVICE_LOGIN, '1', '*', '*', '1', ROUTE_COUNT, '*', ROUTE_UNAVAILABLE},
    {SERVICE_MAIL, '1', '*', '*', '1', ROUTE_LEGACY, '*', ROUTE_TO_LEGACY},
    {SERVICE_MAIL, '1', '*', '*', '1', ROUTE_HELD, '*', ROUTE_WAIT},
    {SERVICE_MAIL, '1', '*', '*', '1', ROUTE_LOCAL, '1', ROUTE_TO_LOCAL},
    {SERVICE_MAIL, '1', '*', '*', '1', ROUTE_LOCAL, '0', ROUTE_UNAVAILABLE},
    {SERVICE_MAIL, '1', '*', '*', '1', ROUTE_COUNT, '*', ROUTE_UNAVAILABLE},
    /* nobody we know */
    {SERVICE_LOGIN, '1', '1', '0', '0', -1, '*', ROUTE_PROVE},
    {SERVICE_LOGIN, '1', '1', '1', '0', -1, '*', ROUTE_PASS},
    {SERVICE_LOGIN, '1', '0', '*', '0', -1, '*', ROUTE_PASS},
    {SERVICE_MAIL, '1', '*', '*', '0', -1, '*', ROUTE_PASS},
    /* not ours */
    {SERVICE_LOGIN, '0', '*', '*', '0', -1, '*', ROUTE_REFUSE},
    {SERVICE_MAIL, '0', '*', '*', '0', -1, '*', ROUTE_REFUSE},
    /* an account without its domain */
    {SERVICE_LOGIN, '0', '*', '*', '1', -1, '*', ROUTE_UNAVAILABLE},
    {SERVICE_MAIL, '0', '*', '*', '1', -1, '*', ROUTE_UNAVAILABLE},
};

static bool fits(char wanted, bool value)
{
    return wanted == '*' || (wanted == '1') == value;
}

static bool rule_fits(const struct rule *r, const struct route_question *q)
{
    return r->service == q->service && fits(r->has_domain, q->has_domain) &&
           fits(r->is_enabled, q->is_domain_enabled) &&
           fits(r->is_braked,
                q->is_frozen || !q->is_admitted || q->is_crowded) &&
           fits(r->has_account, q->has_account) &&
           (r->route == -1 || r->route == (int)q->route) &&
           fits(r->is_provisioned, q->is_provisioned);
}

static void check_question(const struct route_question *q)
{
    int found = 0;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (!rule_fits(&rules[i], q))
            continue;
        found++;
        assert_int_equal(route_decide(q), rules[i].answer);
    }
    assert_int_equal(found, 1);
}

static void test_every_input_has_exactly_one_rule_and_obeys_it(void **state)
{
    int questions = 0;

    (void)state;
    for (unsigned bits = 0; bits < 256; bits++) {
        for (unsigned route = 0; route <= ROUTE_COUNT; route++) {
            const struct route_question q = {
                .service = bits & 1 ? SERVICE_MAIL : SERVICE_LOGIN,
                .has_domain = bits & 2,
                .is_domain_enabled = bits & 4,
                .has_account = bits & 8,
                .route = (enum account_route)route,
                .is_provisioned = bits & 16,
                .is_frozen = bits & 32,
                .is_admitted = bits & 64,
                .is_crowded = bits & 128};

            check_question(&q);
            questions++;
        }
    }
    assert_int_equal(questions, 256 * (ROUTE_COUNT + 1));
}

static void test_a_closed_domain_refuses_those_without_account(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 32; bits++) {
        for (unsigned route = 0; route <= ROUTE_COUNT; route++) {
            struct route_question q = {.service = bits & 1 ? SERVICE_MAIL
                                                           : SERVICE_LOGIN,
                                       .has_domain = bits & 2,
                                       .is_domain_enabled = bits & 4,
                                       .has_account = bits & 8,
                                       .route = (enum account_route)route,
                                       .is_provisioned = bits & 16};
            enum route_answer open = route_decide(&q);

            q.is_domain_closed = true;
            assert_int_equal(route_decide(&q),
                             q.has_account ? open : ROUTE_REFUSE);
        }
    }
}

static void test_a_lock_refuses_logins_and_changes_no_mail(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 8; bits++) {
        for (unsigned route = 0; route < ROUTE_COUNT; route++) {
            struct route_question q = {.service = bits & 1 ? SERVICE_MAIL
                                                           : SERVICE_LOGIN,
                                       .has_domain = true,
                                       .is_domain_enabled = bits & 2,
                                       .has_account = true,
                                       .route = (enum account_route)route,
                                       .is_provisioned = bits & 4};
            enum route_answer open = route_decide(&q);

            q.is_locked = true;
            assert_int_equal(route_decide(&q),
                             q.service == SERVICE_MAIL ? open : ROUTE_REFUSE);
        }
    }
}

static void test_a_service_nobody_knows_is_unavailable(void **state)
{
    const struct route_question q = {.service = (enum route_service)7,
                                     .has_domain = true};

    (void)state;
    assert_int_equal(route_decide(&q), ROUTE_UNAVAILABLE);
}

static void test_answer_names_go_there_and_back(void **state)
{
    (void)state;
    for (int i = 0; i < ROUTE_ANSWER_COUNT; i++)
        assert_int_equal(
            route_answer_named(route_answer_name((enum route_answer)i)), i);
    assert_int_equal(route_answer_named("nowhere"), -1);
    assert_int_equal(route_answer_named(NULL), -1);
    assert_string_equal(route_answer_name(ROUTE_ANSWER_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_input_has_exactly_one_rule_and_obeys_it),
        cmocka_unit_test(test_a_closed_domain_refuses_those_without_account),
        cmocka_unit_test(test_a_lock_refuses_logins_and_changes_no_mail),
        cmocka_unit_test(test_a_service_nobody_knows_is_unavailable),
        cmocka_unit_test(test_answer_names_go_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
