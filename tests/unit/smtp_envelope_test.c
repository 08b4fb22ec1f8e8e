#include "smtp-proxy/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "smtp-proxy/address.h"
#include "smtp-proxy/trace.h"

/* What became of a recipient: nothing yet, had it before, or a code. */
enum { NOTHING = 0, BEFORE = 1 };

static void begin(struct envelope *e)
{
    struct smtp_command mail;

    smtp_command_parse("MAIL FROM:<s@x.example>", 23, &mail);
    envelope_init(e);
    envelope_begin(e, &mail);
}

static int answer(const int *fates, size_t count)
{
    struct envelope e;
    struct smtp_reply reply;
    char text[40];

    begin(&e);
    for (size_t i = 0; i < count; i++) {
        envelope_add(&e, "a@b.example", "a@b.example", 1, NULL);
        e.recipients[i].was_taken = fates[i] == BEFORE;
        snprintf(text, sizeof(text), "%d.0.0 x", fates[i] / 100);
        if (fates[i] > BEFORE)
            envelope_judge(&e.recipients[i], fates[i], text);
    }
    envelope_answer(&e, &reply);
    envelope_release(&e);
    return reply.code;
}

/* 250 exactly if all have it; never 5xx while a recipient could still be
   served; always temporary when a repetition must follow. */
static void test_one_answer_for_all_over_every_mixture(void **state)
{
    static const int fate[] = {NOTHING, BEFORE, 250, 421, 452, 550, 554};
    const int n = sizeof(fate) / sizeof(fate[0]);

    (void)state;
    for (int i = 0; i < n * n * n; i++) {
        int fates[3] = {fate[i % n], fate[i / n % n], fate[i / n / n]};
        int taken = 0;
        int taken_now = 0;
        int permanent = 0;
        int code = answer(fates, 3);

        for (int k = 0; k < 3; k++) {
            taken += fates[k] == BEFORE || fates[k] == 250;
            taken_now += fates[k] == 250;
            permanent += fates[k] >= 500;
        }
        if (taken == 3)
            assert_int_equal(code, 250);
        else if (taken_now > 0)
            assert_int_equal(code, 451);
        else if (taken + permanent == 3)
            assert_int_equal(code / 100, 5);
        else
            assert_int_equal(code / 100, 4);
        assert_int_not_equal(code, 421);
    }
}

static void test_the_first_refusal_speaks_for_the_like(void **state)
{
    (void)state;
    assert_int_equal(answer((int[]){550, 554}, 2), 550);
    assert_int_equal(answer((int[]){550, 452, 450}, 3), 452);
}

static void test_recipients_at_the_hop_keep_their_order(void **state)
{
    struct envelope e;
    char path[40];

    (void)state;
    begin(&e);
    for (int i = 0; i < 9; i++) {
        snprintf(path, sizeof(path), "r%d@a.example", i);
        envelope_add(&e, path, path, i, NULL);
        e.recipients[i].is_at_hop = i % 3 == 1;
    }
    assert_string_equal(envelope_at_hop(&e, 0)->path, "r1@a.example");
    assert_string_equal(envelope_at_hop(&e, 2)->path, "r7@a.example");
    assert_null(envelope_at_hop(&e, 3));
    assert_true(envelope_has_account(&e, 8));
    assert_false(envelope_has_account(&e, 9));
    envelope_release(&e);
}

static void test_a_trace_is_counted_in_the_headers_alone(void **state)
{
    static const char text[] = "Received: a\r\n\tX-Mailhaul-Hop: mx\r\n"
                               "x-mailhaul-hop:MX \r\nX-Mailhaul-Hop: mx2\r\n"
                               "received:b\r\n\r\nX-Mailhaul-Hop: mx\r\n";

    (void)state;
    for (size_t step = 1; step < sizeof(text); step++) {
        struct trace trace;

        trace_init(&trace, "mx");
        for (size_t at = 0; at < sizeof(text) - 1; at += step) {
            size_t left = sizeof(text) - 1 - at;

            trace_read(&trace, text + at, left < step ? left : step);
        }
        assert_int_equal(trace.received_count, 2);
        assert_int_equal(trace.hop_count, 1);
        assert_false(trace_is_loop(&trace));
    }
}

static void test_a_hello_cannot_leave_its_header_line(void **state)
{
    struct trace_origin origin = {"a)\r\nX: y(", "::1", "ESMTP", "id", 0};
    struct trace trace;
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    trace_init(&trace, "mx");
    trace_write(&trace, &origin, &out);
    assert_string_equal(buf_text(&out),
                        "Received: from a???X:?y? ([IPv6:::1])\r\n"
                        "\tby mx with ESMTP id id;\r\n"
                        "\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
                        "X-Mailhaul-Hop: mx\r\n");
    buf_release(&out);
}

static bool reads(const char *line, struct address *out)
{
    struct smtp_command command;

    smtp_command_parse(line, strlen(line), &command);
    assert_int_equal(command.fault, SMTP_GOOD);
    return address_read(&command.path, "mx1.a.example", out);
}

static void test_addresses_that_might_be_routed_on_are_nobody(void **state)
{
    struct address a;

    (void)state;
    assert_true(reads("RCPT TO:<@r.example:Ann+T@A.Example>", &a));
    assert_string_equal(a.hop_path, "Ann+T@A.Example");
    assert_string_equal(a.canonical, "ann@a.example");
    assert_true(reads("RCPT TO:<POSTMASTER>", &a));
    assert_string_equal(a.hop_path, "postmaster@a.example");
    assert_false(reads("RCPT TO:<ann>", &a));
    assert_false(reads("RCPT TO:<ann@[192.0.2.1]>", &a));
    assert_false(reads("RCPT TO:<x!ann@a.example>", &a));
    assert_false(reads("RCPT TO:<ann%x@a.example>", &a));
    assert_false(reads("RCPT TO:<\"ann@x\"@a.example>", &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_answer_for_all_over_every_mixture),
        cmocka_unit_test(test_the_first_refusal_speaks_for_the_like),
        cmocka_unit_test(test_recipients_at_the_hop_keep_their_order),
        cmocka_unit_test(test_a_trace_is_counted_in_the_headers_alone),
        cmocka_unit_test(test_a_hello_cannot_leave_its_header_line),
        cmocka_unit_test(test_addresses_that_might_be_routed_on_are_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
