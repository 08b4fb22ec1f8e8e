#include "smtp-proxy/recipient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct mail_url local = {MAIL_LMTP, TLS_NONE, "lda.example", 24};
static const struct mail_url old_a = {MAIL_SMTP, TLS_NONE, "a.example", 25};
static const struct mail_url old_b = {MAIL_SMTP, TLS_NONE, "b.example", 25};
static const struct mail_url nowhere = {MAIL_SMTP, TLS_NONE, "", 0};

struct binding {
    enum recipient_side side;
    unsigned accepted_count;
    const struct mail_url *bound;
};

/* every state a transaction can be in */
static const struct binding bindings[] = {
    {SIDE_NONE, 0, NULL},     {SIDE_LEGACY, 0, &old_a},
    {SIDE_LEGACY, 1, &old_a}, {SIDE_LEGACY, 999, &old_a},
    {SIDE_LEGACY, 1, &old_b}, {SIDE_LOCAL, 0, &local},
    {SIDE_LOCAL, 1, &local},  {SIDE_LOCAL, 999, &local},
};
#define BINDING_COUNT (sizeof(bindings) / sizeof(bindings[0]))

static enum recipient_verdict decide(const struct binding *b,
                                     enum route_answer answer,
                                     const struct mail_url *legacy,
                                     const struct mail_url *lda)
{
    struct recipient_question q = {
        b->side, b->accepted_count, b->bound, answer, legacy, lda};

    return recipient_decide(&q);
}

/* one row a binding, in the order above */
static const enum recipient_verdict to_legacy_a[BINDING_COUNT] = {
    RECIPIENT_ASK_LEGACY, RECIPIENT_ASK_LEGACY, RECIPIENT_ASK_LEGACY,
    RECIPIENT_ASK_LEGACY, RECIPIENT_OTHER_HOP,  RECIPIENT_ASK_LEGACY,
    RECIPIENT_OTHER_HOP,  RECIPIENT_OTHER_HOP};
static const enum recipient_verdict to_legacy_b[BINDING_COUNT] = {
    RECIPIENT_ASK_LEGACY, RECIPIENT_ASK_LEGACY, RECIPIENT_OTHER_HOP,
    RECIPIENT_OTHER_HOP,  RECIPIENT_ASK_LEGACY, RECIPIENT_ASK_LEGACY,
    RECIPIENT_OTHER_HOP,  RECIPIENT_OTHER_HOP};
static const enum recipient_verdict to_local[BINDING_COUNT] = {
    RECIPIENT_ASK_LOCAL, RECIPIENT_ASK_LOCAL, RECIPIENT_OTHER_HOP,
    RECIPIENT_OTHER_HOP, RECIPIENT_OTHER_HOP, RECIPIENT_ASK_LOCAL,
    RECIPIENT_ASK_LOCAL, RECIPIENT_ASK_LOCAL};

static void test_the_first_accepted_hop_binds(void **state)
{
    (void)state;
    for (size_t i = 0; i < BINDING_COUNT; i++) {
        const struct binding *b = &bindings[i];

        assert_int_equal(decide(b, ROUTE_TO_LEGACY, &old_a, &local),
                         to_legacy_a[i]);
        assert_int_equal(decide(b, ROUTE_PASS, &old_a, &local), to_legacy_a[i]);
        assert_int_equal(decide(b, ROUTE_TO_LEGACY, &old_b, &local),
                         to_legacy_b[i]);
        assert_int_equal(decide(b, ROUTE_PASS, &old_b, &local), to_legacy_b[i]);
        assert_int_equal(decide(b, ROUTE_TO_LOCAL, &old_a, &local),
                         to_local[i]);
        assert_int_equal(decide(b, ROUTE_TO_LOCAL, &nowhere, &local),
                         to_local[i]);
    }
}

static void test_who_is_not_ours_or_not_known_now_asks_nobody(void **state)
{
    static const enum recipient_verdict verdict[] = {
        [ROUTE_REFUSE] = RECIPIENT_NOT_OURS,
        [ROUTE_UNAVAILABLE] = RECIPIENT_UNAVAILABLE,
        [ROUTE_WAIT] = RECIPIENT_UNAVAILABLE,
        [ROUTE_PROVE] = RECIPIENT_UNAVAILABLE,
        [ROUTE_ANSWER_COUNT] = RECIPIENT_UNAVAILABLE,
    };
    static const enum route_answer answers[] = {ROUTE_REFUSE, ROUTE_UNAVAILABLE,
                                                ROUTE_WAIT, ROUTE_PROVE,
                                                ROUTE_ANSWER_COUNT};

    (void)state;
    for (size_t i = 0; i < BINDING_COUNT; i++)
        for (size_t a = 0; a < sizeof(answers) / sizeof(answers[0]); a++)
            assert_int_equal(decide(&bindings[i], answers[a], &old_a, &local),
                             verdict[answers[a]]);
}

static void test_a_side_without_a_server_is_temporary(void **state)
{
    (void)state;
    for (size_t i = 0; i < BINDING_COUNT; i++) {
        const struct binding *b = &bindings[i];

        assert_int_equal(decide(b, ROUTE_TO_LEGACY, &nowhere, &local),
                         RECIPIENT_NO_HOP);
        assert_int_equal(decide(b, ROUTE_PASS, NULL, &local), RECIPIENT_NO_HOP);
        assert_int_equal(decide(b, ROUTE_TO_LOCAL, &old_a, &nowhere),
                         RECIPIENT_NO_HOP);
    }
}

static void test_hops_differ_in_any_part(void **state)
{
    struct mail_url other = old_a;

    (void)state;
    other.host[0] = 'A';
    assert_true(recipient_same_hop(&old_a, &other));
    other.port = 26;
    assert_false(recipient_same_hop(&old_a, &other));
    other = old_a;
    other.tls = TLS_STARTTLS;
    assert_false(recipient_same_hop(&old_a, &other));
    other = old_a;
    other.protocol = MAIL_LMTP;
    assert_false(recipient_same_hop(&old_a, &other));
}

static void test_every_verdict_that_asks_nobody_has_its_reply(void **state)
{
    static const int code[RECIPIENT_VERDICT_COUNT] = {
        [RECIPIENT_OTHER_HOP] = 452,
        [RECIPIENT_NOT_OURS] = 550,
        [RECIPIENT_UNAVAILABLE] = 451,
        [RECIPIENT_NO_HOP] = 451};

    (void)state;
    for (int v = 0; v < RECIPIENT_VERDICT_COUNT; v++) {
        const char *text;

        assert_int_equal(recipient_reply((enum recipient_verdict)v, &text),
                         code[v]);
        if (code[v] != 0)
            assert_int_equal(text[0], '0' + code[v] / 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_accepted_hop_binds),
        cmocka_unit_test(test_who_is_not_ours_or_not_known_now_asks_nobody),
        cmocka_unit_test(test_a_side_without_a_server_is_temporary),
        cmocka_unit_test(test_hops_differ_in_any_part),
        cmocka_unit_test(test_every_verdict_that_asks_nobody_has_its_reply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
