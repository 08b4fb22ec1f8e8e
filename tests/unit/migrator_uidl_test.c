/* Matching POP3's list with INBOX: see migrator/uidl.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "migrator/uidl.h"

#define MOST 64

struct table {
    struct uidl_listed listed[MOST];
    struct uidl_message messages[MOST];
    size_t listed_count, message_count;
};

/* Sizes of both sides; 0 ends. */
static void fill(struct table *t, const int *listed, const int *messages)
{
    memset(t, 0, sizeof *t);
    for (; listed[t->listed_count] != 0; t->listed_count++)
        t->listed[t->listed_count].size_bytes = listed[t->listed_count];
    for (; messages[t->message_count] != 0; t->message_count++)
        t->messages[t->message_count] = (struct uidl_message){
            (uint32_t)t->message_count + 1, messages[t->message_count], -1};
}

/* wanted: index into the listed ones, one a message. */
static void check(struct table *t, const int *wanted)
{
    uidl_match(t->listed, t->listed_count, t->messages, t->message_count);
    for (size_t i = 0; i < t->message_count; i++)
        assert_int_equal(t->messages[i].matched, wanted[i]);
}

static void test_equal_lists_match_one_to_one(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 6, 7, 0}, (int[]){5, 6, 7, 0});
    check(&t, (int[]){0, 1, 2});
    assert_false(uidl_is_reordered(t.messages, t.message_count));
}

static void test_equal_sizes_match_in_order(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 5, 5, 5, 0}, (int[]){5, 5, 5, 5, 0});
    check(&t, (int[]){0, 1, 2, 3});
}

static void test_a_message_that_only_pop3_has_is_skipped(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 9, 6, 5, 5, 0}, (int[]){5, 6, 5, 5, 0});
    check(&t, (int[]){0, 2, 3, 4});
}

static void test_a_message_that_only_imap_has_stays_without(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 6, 7, 0}, (int[]){5, 6, 9, 7, 8, 0});
    check(&t, (int[]){0, 1, -1, 2, -1});
}

static void test_new_mail_at_the_end_is_not_matched_by_position(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 6, 70, 0}, (int[]){5, 6, 80, 0});
    check(&t, (int[]){0, 1, -1});
}

static void test_octets_counted_otherwise_go_by_position(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 61, 62, 7, 0}, (int[]){5, 51, 52, 7, 0});
    check(&t, (int[]){0, 1, 2, 3});
}

static void test_a_backward_list_is_matched_backward(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){9, 5, 5, 8, 7, 0}, (int[]){7, 8, 5, 5, 9, 0});
    check(&t, (int[]){4, 3, 2, 1, 0});
    assert_true(uidl_is_reordered(t.messages, t.message_count));
}

static void test_a_shuffled_list_goes_by_size(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){3, 1, 4, 2, 6, 5, 9, 0}, (int[]){1, 2, 3, 4, 5, 6, 8, 0});
    check(&t, (int[]){1, 3, 0, 2, 5, 4, -1});
    assert_true(uidl_is_reordered(t.messages, t.message_count));
}

static void
test_one_of_an_equal_size_out_of_order_is_still_matched(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){50, 51, 52, 26, 26, 26, 32, 33, 34, 35, 36, 0},
         (int[]){50, 51, 52, 26, 26, 32, 26, 33, 34, 35, 36, 0});
    check(&t, (int[]){0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10});
    fill(&t, (int[]){50, 51, 52, 26, 26, 26, 32, 32, 32, 33, 0},
         (int[]){50, 51, 52, 26, 26, 32, 26, 32, 32, 33, 0});
    uidl_match(t.listed, t.listed_count, t.messages, t.message_count);
    for (size_t i = 0; i < t.message_count; i++)
        assert_int_not_equal(t.messages[i].matched, -1);
    fill(&t, (int[]){50, 51, 52, 53, 54, 55, 26, 26, 26, 32, 32, 32, 33, 0},
         (int[]){50, 51, 52, 53, 54, 55, 26, 26, 32, 26, 32, 32, 33, 0});
    uidl_match(t.listed, t.listed_count, t.messages, t.message_count);
    for (size_t i = 0; i < t.message_count; i++)
        assert_int_not_equal(t.messages[i].matched, -1);
}

static void test_known_pairs_stay_and_guide_the_rest(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, 5, 5, 5, 0}, (int[]){5, 5, 5, 0});
    t.messages[1].matched = 2;
    check(&t, (int[]){0, 2, 3});
}

static void test_empty_lists_match_nothing(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){0}, (int[]){5, 0});
    check(&t, (int[]){-1});
    fill(&t, (int[]){5, 0}, (int[]){0});
    check(&t, (int[]){0});
}

static void test_an_untold_size_matches_only_by_position(void **state)
{
    struct table t;

    (void)state;
    fill(&t, (int[]){5, -1, 7, 0}, (int[]){5, 6, 7, 0});
    check(&t, (int[]){0, 1, 2});
}

/* The same numbers in every run. */
static uint32_t next_number(void)
{
    static uint32_t number = 7;

    number = number * 1664525u + 1013904223u;
    return number >> 8;
}

static void test_no_listed_message_is_given_twice(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct table t = {0};
        bool is_seen[MOST] = {false};

        t.listed_count = (size_t)((int)(next_number() % 1000) % MOST);
        t.message_count = (size_t)((int)(next_number() % 1000) % MOST);
        for (size_t i = 0; i < t.listed_count; i++)
            t.listed[i].size_bytes =
                (int)(next_number() % 1000) % (1 + round % 90);
        for (size_t i = 0; i < t.message_count; i++)
            t.messages[i] = (struct uidl_message){
                (uint32_t)i + 1, (int)(next_number() % 1000) % (1 + round % 90),
                -1};
        uidl_match(t.listed, t.listed_count, t.messages, t.message_count);
        for (size_t i = 0; i < t.message_count; i++) {
            int64_t at = t.messages[i].matched;

            assert_in_range(at + 1, 0, t.listed_count);
            if (at == -1)
                continue;
            assert_false(is_seen[at]);
            is_seen[at] = true;
        }
    }
}

static void test_a_large_box_is_matched_in_bounded_time(void **state)
{
    enum { COUNT = 200000 };
    struct uidl_listed *listed = mem_alloc(COUNT * sizeof *listed);
    struct uidl_message *messages = mem_alloc(COUNT * sizeof *messages);

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        listed[i].size_bytes = (int64_t)(i % 3);
        messages[i] = (struct uidl_message){(uint32_t)i + 1,
                                            (int64_t)(i % 3 + i % 2), -1};
    }
    assert_true(uidl_match(listed, COUNT, messages, COUNT) <= COUNT);
    free(listed);
    free(messages);
}

static void test_valid_ids_are_printable_and_short(void **state)
{
    char text[80];

    (void)state;
    assert_true(uidl_is_valid("a"));
    assert_true(uidl_is_valid("!~"));
    assert_false(uidl_is_valid(""));
    assert_false(uidl_is_valid("a b"));
    assert_false(uidl_is_valid("a\x7f"));
    assert_false(uidl_is_valid("\xc3\xbc"));
    memset(text, 'x', sizeof text);
    text[70] = '\0';
    assert_true(uidl_is_valid(text));
    text[70] = 'x';
    text[71] = '\0';
    assert_false(uidl_is_valid(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_lists_match_one_to_one),
        cmocka_unit_test(test_equal_sizes_match_in_order),
        cmocka_unit_test(test_a_message_that_only_pop3_has_is_skipped),
        cmocka_unit_test(test_a_message_that_only_imap_has_stays_without),
        cmocka_unit_test(test_new_mail_at_the_end_is_not_matched_by_position),
        cmocka_unit_test(test_octets_counted_otherwise_go_by_position),
        cmocka_unit_test(test_a_backward_list_is_matched_backward),
        cmocka_unit_test(test_a_shuffled_list_goes_by_size),
        cmocka_unit_test(
            test_one_of_an_equal_size_out_of_order_is_still_matched),
        cmocka_unit_test(test_known_pairs_stay_and_guide_the_rest),
        cmocka_unit_test(test_empty_lists_match_nothing),
        cmocka_unit_test(test_an_untold_size_matches_only_by_position),
        cmocka_unit_test(test_no_listed_message_is_given_twice),
        cmocka_unit_test(test_a_large_box_is_matched_in_bounded_time),
        cmocka_unit_test(test_valid_ids_are_printable_and_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
