#include "db/closing.h"

#include "db/jobs.h"
#include "db/strangers.h"
#include "tests/unit/db_fixture.h"

#define DAY 86400000LL
#define NOW (100 * DAY)

static struct domain domain;

static int open_with_domain(void **state)
{
    if (open_control(state) == -1)
        return -1;
    memset(&domain, 0, sizeof(domain));
    snprintf(domain.name, sizeof(domain.name), "a.test");
    domain.quiet_days = 7;
    domain.rollback_days = 14;
    return domain_insert(db, &domain, NULL);
}

static struct account put(const char *address, enum account_route route,
                          enum account_copy copy, int64_t flipped_at)
{
    struct account a = {.domain_id = domain.id,
                        .route = route,
                        .copy = copy,
                        .flipped_at = flipped_at};

    snprintf(a.address, sizeof(a.address), "%s", address);
    snprintf(a.legacy_user, sizeof(a.legacy_user), "%s", address);
    assert_int_equal(account_insert(db, &a, NULL), 1);
    return a;
}

static void check_counts(int64_t legacy, int64_t held, int64_t paused,
                         int64_t aside, int64_t late)
{
    int64_t counts[CLOSING_BAR_COUNT];

    assert_int_equal(closing_count(db, &domain, NOW, counts, NULL), 0);
    assert_int_equal(counts[CLOSING_ON_LEGACY], legacy);
    assert_int_equal(counts[CLOSING_HELD], held);
    assert_int_equal(counts[CLOSING_PAUSED], paused);
    assert_int_equal(counts[CLOSING_SET_ASIDE], aside);
    assert_int_equal(counts[CLOSING_LATE_MAIL], late);
}

static int note_text(void *ctx, const char *text)
{
    char *list = ctx;
    size_t used = strlen(list);

    snprintf(list + used, 256 - used, "%s ", text);
    return 0;
}

static int note_id(void *ctx, int64_t id)
{
    int64_t *sum = ctx;

    *sum = *sum * 10 + id;
    return 0;
}

static void test_each_bar_counts_its_accounts_and_no_others(void **state)
{
    struct account a;
    char list[256] = "";

    (void)state;
    check_counts(0, 0, 0, 0, 0);
    put("done@a.test", ROUTE_LOCAL, COPY_DONE, NOW);
    put("good@a.test", ROUTE_LOCAL, COPY_TRAIL, NOW - 20 * DAY);
    check_counts(0, 0, 0, 0, 0);
    put("l@a.test", ROUTE_LEGACY, COPY_FAILED, 0);
    put("h@a.test", ROUTE_HELD, COPY_FINAL, 0);
    put("p@a.test", ROUTE_LOCAL, COPY_PAUSED, NOW - 20 * DAY);
    a = put("s@a.test", ROUTE_LOCAL, COPY_TRAIL, NOW - 20 * DAY);
    a.set_aside = 2;
    a.accepted = 1;
    assert_int_equal(account_update(db, &a, NULL), 0);
    check_counts(1, 1, 1, 1, 0);
    a.accepted = 2;
    a.late_mail_at = NOW - 6 * DAY;
    assert_int_equal(account_update(db, &a, NULL), 0);
    put("y@a.test", ROUTE_LOCAL, COPY_TRAIL, NOW - 8 * DAY);
    put("z@a.test", ROUTE_LOCAL, COPY_TRAIL, NOW - 6 * DAY);
    check_counts(1, 1, 1, 0, 2);
    assert_int_equal(closing_each_barred(db, &domain, NOW, CLOSING_LATE_MAIL, 5,
                                         note_text, list, NULL),
                     0);
    assert_string_equal(list, "s@a.test z@a.test ");
    list[0] = '\0';
    assert_int_equal(closing_each_barred(db, &domain, NOW, CLOSING_WAY_BACK, 1,
                                         note_text, list, NULL),
                     0);
    assert_string_equal(list, "y@a.test ");
}

static void
test_trails_of_closed_domains_end_but_for_a_waiting_hash(void **state)
{
    struct job job = {.kind = JOB_HASH};
    int64_t ids = 0;

    (void)state;
    put("one@a.test", ROUTE_LOCAL, COPY_TRAIL, 1);
    put("two@a.test", ROUTE_LOCAL, COPY_PAUSED, 1);
    put("old@a.test", ROUTE_LOCAL, COPY_DONE, 1);
    put("leg@a.test", ROUTE_LEGACY, COPY_PAUSED, 0);
    assert_int_equal(closing_has_unended(db, NULL), 0);
    domain.closed_at = NOW;
    assert_int_equal(domain_update(db, &domain, NULL), 0);
    job.account_id = 2;
    assert_int_equal(job_queue(db, &job, NULL), 0);
    assert_int_equal(closing_each_unended(db, 9, note_id, &ids, NULL), 0);
    assert_int_equal(ids, 1);
    assert_int_equal(closing_has_unended(db, NULL), 1);
    ids = 0;
    assert_int_equal(
        closing_each_trail(db, domain.id, 0, 9, note_id, &ids, NULL), 0);
    assert_int_equal(ids, 12);
    assert_int_equal(closing_count_trails(db, domain.id, &ids, NULL), 0);
    assert_int_equal(ids, 2);
}

static void note(const char *address, int64_t mails, int64_t at, int64_t most)
{
    struct stranger s = {.mails = mails, .first_at = at, .last_at = at};

    snprintf(s.address, sizeof(s.address), "%s", address);
    assert_int_equal(stranger_note(db, domain.id, &s, most, NULL), 0);
}

static int note_stranger(void *ctx, const struct stranger *s)
{
    char *list = ctx;
    size_t used = strlen(list);

    snprintf(list + used, 256 - used, "%s=%d(%d-%d) ", s->address,
             (int)s->mails, (int)s->first_at, (int)s->last_at);
    return 0;
}

static void check_strangers(const char *expected, int64_t addresses,
                            int64_t unlisted)
{
    struct stranger_totals totals;
    char list[256] = "";

    assert_int_equal(stranger_each(db, domain.id, 9, note_stranger, list, NULL),
                     0);
    assert_string_equal(list, expected);
    assert_int_equal(stranger_totals(db, domain.id, &totals, NULL), 0);
    assert_int_equal(totals.addresses, addresses);
    assert_int_equal(totals.unlisted_mails, unlisted);
}

static void test_strangers_are_bounded_and_leave_as_accounts(void **state)
{
    (void)state;
    check_strangers("", 0, 0);
    note("x@a.test", 1, 10, 2);
    note("y@a.test", 5, 11, 2);
    note("x@a.test", 2, 12, 2);
    note("z@a.test", 7, 13, 2);
    check_strangers("y@a.test=5(11-11) x@a.test=3(10-12) ", 2, 7);
    put("y@a.test", ROUTE_LEGACY, COPY_INITIAL, 0);
    check_strangers("x@a.test=3(10-12) ", 1, 7);
    note("y@a.test", 1, 14, 2); /* counted before it became one */
    check_strangers("x@a.test=3(10-12) ", 1, 7);
    note("z@a.test", 1, 15, 2);
    check_strangers("x@a.test=3(10-12) z@a.test=1(15-15) ", 2, 7);
}

static void test_known_addresses_come_in_pages(void **state)
{
    char list[256] = "";

    (void)state;
    put("b@a.test", ROUTE_LOCAL, COPY_TRAIL, 1);
    put("d@a.test", ROUTE_LEGACY, COPY_DELTA, 0);
    note("c@a.test", 1, 1, 9);
    note("a@a.test", 1, 1, 9);
    assert_int_equal(
        closing_each_address(db, domain.id, "", 3, note_text, list, NULL), 0);
    assert_string_equal(list, "a@a.test b@a.test c@a.test ");
    list[0] = '\0';
    assert_int_equal(closing_each_address(db, domain.id, "c@a.test", 3,
                                          note_text, list, NULL),
                     0);
    assert_string_equal(list, "d@a.test ");
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, open_with_domain, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_bar_counts_its_accounts_and_no_others),
        TEST(test_trails_of_closed_domains_end_but_for_a_waiting_hash),
        TEST(test_strangers_are_bounded_and_leave_as_accounts),
        TEST(test_known_addresses_come_in_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
