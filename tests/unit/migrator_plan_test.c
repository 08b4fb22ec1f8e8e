/* What a pass over a folder does: see migrator/plan.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrator/plan.h"

/* A folder that was copied and has not changed since. */
static struct plan_folder quiet(void)
{
    return (struct plan_folder){.uidvalidity = 7,
                                .uidnext = 101,
                                .messages = 50,
                                .has_messages = true,
                                .modseq = 900,
                                .has_condstore = true,
                                .has_qresync = true,
                                .known_uidvalidity = 7,
                                .known_uidnext = 101,
                                .known_messages = 50,
                                .known_modseq = 900,
                                .is_complete = true};
}

static void test_nothing_new_is_skipped(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    assert_int_equal(plan_folder(&f), PLAN_SKIP);
}

static void test_any_sign_of_change_is_looked_at(void **state)
{
    struct plan_folder f;

    (void)state;
    f = quiet(), f.modseq = 901;
    assert_int_equal(plan_folder(&f), PLAN_CHANGES);
    f = quiet(), f.uidnext = 102;
    assert_int_equal(plan_folder(&f), PLAN_CHANGES);
    f = quiet(), f.messages = 49;
    assert_int_equal(plan_folder(&f), PLAN_CHANGES);
    f = quiet(), f.has_messages = false;
    assert_int_equal(plan_folder(&f), PLAN_CHANGES);
}

static void test_without_modseq_nothing_is_ever_skipped(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    f.modseq = f.known_modseq = 0;
    f.has_condstore = f.has_qresync = false;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
    f = quiet(), f.known_modseq = 0; /* CONDSTORE came with an update */
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
    f = quiet(), f.uidnext = 0; /* not told */
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
}

static void test_condstore_alone_compares_uids(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    f.has_qresync = false;
    assert_int_equal(plan_folder(&f), PLAN_SKIP);
    f.modseq++;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
}

static void test_a_pass_cut_off_or_doubted_compares_all(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    f.is_complete = false;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
    f = quiet(), f.must_check = true;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
}

static void test_a_mailbox_restored_from_backup_compares_all(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    f.modseq = 500;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
    f = quiet(), f.uidnext = 90;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
}

static void test_another_uidvalidity_renews_whatever_else_is_said(void **state)
{
    (void)state;
    for (int bits = 0; bits < 32; bits++) {
        struct plan_folder f = quiet();

        f.uidvalidity = 8;
        f.is_complete = bits & 1;
        f.must_check = bits & 2;
        f.modseq = bits & 4 ? 900 : 0;
        f.has_qresync = bits & 8;
        f.uidnext = bits & 16 ? 101 : 0;
        assert_int_equal(plan_folder(&f), PLAN_RENEW);
    }
}

static void
test_a_new_folder_is_compared_and_no_uidvalidity_refused(void **state)
{
    struct plan_folder f = quiet();

    (void)state;
    f.known_uidvalidity = 0;
    assert_int_equal(plan_folder(&f), PLAN_COMPARE);
    f = quiet(), f.uidvalidity = 0;
    assert_int_equal(plan_folder(&f), PLAN_REFUSE);
}

/* Every combination of signs: SKIP only if all of them are equal and known. */
static void test_skip_is_never_given_lightly(void **state)
{
    (void)state;
    for (int bits = 0; bits < 1024; bits++) {
        struct plan_folder f = quiet();
        bool all_quiet;

        f.uidvalidity = bits & 1 ? 7 : 8;
        f.uidnext = bits & 2 ? 101 : 102;
        f.messages = bits & 4 ? 50 : 51;
        f.has_messages = bits & 8;
        f.modseq = bits & 16 ? 900 : 901;
        f.known_modseq = bits & 32 ? 900 : 0;
        f.is_complete = bits & 64;
        f.must_check = !(bits & 128);
        f.known_uidvalidity = bits & 256 ? 7 : 0;
        f.has_qresync = bits & 512;
        all_quiet = (bits & 511) == 511;
        assert_int_equal(plan_folder(&f) == PLAN_SKIP, all_quiet);
    }
}

/* All subsets of {1..5} against all subsets. */
static void test_every_pair_of_sets_is_told_apart(void **state)
{
    (void)state;
    for (unsigned there = 0; there < 32; there++)
        for (unsigned here = 0; here < 32; here++) {
            uint32_t t[5], h[5], news[5], gone[5];
            size_t t_count = 0, h_count = 0;
            unsigned new_bits = 0, gone_bits = 0;
            struct plan_difference d = {.new_uids = news, .gone_uids = gone};

            for (unsigned i = 0; i < 5; i++) {
                if (there >> i & 1)
                    t[t_count++] = i + 1;
                if (here >> i & 1)
                    h[h_count++] = i + 1;
            }
            plan_compare(t, t_count, h, h_count, &d);
            for (size_t i = 0; i < d.new_count; i++)
                new_bits |= 1u << (news[i] - 1);
            for (size_t i = 0; i < d.gone_count; i++)
                gone_bits |= 1u << (gone[i] - 1);
            assert_int_equal(new_bits, there & ~here);
            assert_int_equal(gone_bits, here & ~there);
        }
}

static void test_a_mailbox_of_somebody_else_is_noticed(void **state)
{
    (void)state;
    assert_false(plan_is_stranger(&(struct plan_identity){0, 0}));
    assert_false(plan_is_stranger(&(struct plan_identity){3, 0}));
    assert_false(plan_is_stranger(&(struct plan_identity){3, 2}));
    assert_true(plan_is_stranger(&(struct plan_identity){3, 3}));
    assert_true(plan_is_stranger(&(struct plan_identity){1, 1}));
    assert_true(plan_is_same_mail(100, 100));
    assert_true(plan_is_same_mail(50, 100));
    assert_false(plan_is_same_mail(49, 100));
    assert_true(plan_is_same_mail(2, 3));
    assert_false(plan_is_same_mail(1, 3));
    assert_false(plan_is_same_mail(0, 1));
    assert_false(plan_is_same_mail(0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_new_is_skipped),
        cmocka_unit_test(test_any_sign_of_change_is_looked_at),
        cmocka_unit_test(test_without_modseq_nothing_is_ever_skipped),
        cmocka_unit_test(test_condstore_alone_compares_uids),
        cmocka_unit_test(test_a_pass_cut_off_or_doubted_compares_all),
        cmocka_unit_test(test_a_mailbox_restored_from_backup_compares_all),
        cmocka_unit_test(test_another_uidvalidity_renews_whatever_else_is_said),
        cmocka_unit_test(
            test_a_new_folder_is_compared_and_no_uidvalidity_refused),
        cmocka_unit_test(test_skip_is_never_given_lightly),
        cmocka_unit_test(test_every_pair_of_sets_is_told_apart),
        cmocka_unit_test(test_a_mailbox_of_somebody_else_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
