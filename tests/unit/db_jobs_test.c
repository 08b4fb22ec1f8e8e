#include "db/jobs.h"

#include "db/counts.h"

#include "tests/unit/db_fixture.h"

#define MANY 100

static int64_t domain_id;
static int64_t ann, bob, cid;

static int start(void **state)
{
    if (open_control(state) == -1)
        return -1;
    domain_id = add_domain("example.net");
    ann = add_account(domain_id, "ann@example.net");
    bob = add_account(domain_id, "bob@example.net");
    cid = add_account(domain_id, "cid@example.net");
    return 0;
}

static int priority_of(enum job_kind kind)
{
    return kind == JOB_FINAL ? 40 : kind == JOB_HASH ? 30 : 10;
}

static int64_t queue_at(int64_t account, enum job_kind kind, int64_t due_at,
                        const char *host)
{
    struct job j = {.account_id = account,
                    .kind = kind,
                    .epoch = due_at,
                    .due_at = due_at,
                    .priority = priority_of(kind)};

    snprintf(j.host, sizeof(j.host), "%s", host);
    assert_int_equal(job_queue(db, &j, NULL), 0);
    return j.id;
}

static int64_t queue(int64_t account, enum job_kind kind, int64_t due_at)
{
    return queue_at(account, kind, due_at, "imap://a");
}

/* The id of the leased job, 0 if none is due. */
static int64_t lease(int64_t now, unsigned per_host)
{
    struct job j;
    int result = job_lease(db, "me", now, now + 60000, per_host, &j, NULL);

    assert_int_not_equal(result, -1);
    if (result == 1) {
        assert_string_equal(j.lease_owner, "me");
        assert_int_equal(j.lease_until, now + 60000);
    }
    return result == 1 ? j.id : 0;
}

static struct job find(int64_t account, enum job_kind kind)
{
    struct job j = {0};

    assert_int_equal(job_find(db, account, kind, &j, NULL), 1);
    return j;
}

static void test_kind_names_go_there_and_back(void **state)
{
    (void)state;
    for (int i = 0; i < JOB_KIND_COUNT; i++)
        assert_int_equal(job_kind_named(job_kind_name((enum job_kind)i)), i);
    assert_int_equal(job_kind_named("dance"), -1);
    assert_int_equal(job_kind_named(NULL), -1);
}

static void test_nothing_due_leases_nothing(void **state)
{
    (void)state;
    assert_int_equal(lease(1000, 8), 0);
    queue(ann, JOB_INITIAL, 1001);
    assert_int_equal(lease(1000, 8), 0);
    assert_int_not_equal(lease(1001, 8), 0);
    assert_int_equal(lease(1001, 8), 0);
}

static void test_priority_goes_before_waiting_time(void **state)
{
    int64_t old = queue(ann, JOB_INITIAL, 1);
    int64_t older = queue(bob, JOB_DELTA, 0);
    int64_t hash = queue(bob, JOB_HASH, 50);
    int64_t final = queue(cid, JOB_FINAL, 60);

    (void)state;
    assert_int_equal(lease(55, 8), hash);
    assert_int_equal(lease(60, 8), final);
    assert_int_equal(lease(60, 8), older);
    assert_int_equal(lease(60, 8), old);
}

static void test_a_host_has_a_limit_that_a_final_passes(void **state)
{
    int64_t a = queue_at(ann, JOB_INITIAL, 1, "imap://a");
    int64_t b = queue_at(bob, JOB_INITIAL, 2, "imap://a");
    int64_t c = queue_at(cid, JOB_INITIAL, 3, "imap://b");
    int64_t final;

    (void)state;
    assert_int_equal(lease(10, 1), a);
    assert_int_equal(lease(10, 1), c); /* a full host delays nobody else */
    assert_int_equal(lease(10, 1), 0);
    final = queue_at(bob, JOB_FINAL, 4, "imap://a");
    assert_int_equal(lease(10, 1), final);
    assert_int_equal(job_end(db, final, NULL), 0);
    assert_int_equal(lease(10, 1), 0);
    assert_int_equal(lease(10, 2), b);
}

static void test_jobs_without_a_host_have_no_limit(void **state)
{
    int64_t a = queue_at(ann, JOB_VERIFY, 2, "");
    int64_t b = queue_at(bob, JOB_VERIFY, 1, "");

    (void)state;
    assert_int_equal(lease(10, 1), b);
    assert_int_equal(lease(10, 1), a);
    assert_int_equal(lease(10, 1), 0);
}

static void test_the_best_of_all_hosts_goes_first(void **state)
{
    int64_t late = queue_at(ann, JOB_DELTA, 9, "imap://a");
    int64_t first = queue_at(bob, JOB_DELTA, 3, "imap://c");
    int64_t then = queue_at(cid, JOB_DELTA, 5, "imap://b");

    (void)state;
    assert_int_equal(lease(10, 8), first);
    assert_int_equal(lease(10, 8), then);
    assert_int_equal(lease(10, 8), late);
}

static void test_an_account_has_one_job_at_a_time(void **state)
{
    int64_t first = queue(ann, JOB_INITIAL, 1);
    int64_t second = queue(ann, JOB_VERIFY, 2);
    int64_t final = queue(ann, JOB_FINAL, 100);

    (void)state;
    assert_int_equal(lease(10, 8), first);
    assert_int_equal(lease(200, 8), 0); /* not even its final */
    assert_int_equal(job_end(db, first, NULL), 0);
    assert_int_equal(lease(200, 8), final);
    assert_int_equal(job_end(db, final, NULL), 0);
    assert_int_equal(lease(200, 8), second);
}

static void test_a_hash_waits_for_nobody_and_hinders_nobody(void **state)
{
    int64_t copy = queue(ann, JOB_INITIAL, 1);
    int64_t hash, other;

    (void)state;
    assert_int_equal(lease(10, 1), copy);
    hash = queue(ann, JOB_HASH, 2);
    assert_int_equal(lease(10, 1), hash);
    assert_int_equal(job_end(db, copy, NULL), 0);
    other = queue(ann, JOB_DELTA, 3);
    assert_int_equal(lease(10, 1), other);
}

static void test_the_same_job_is_queued_once_and_pulled_forward(void **state)
{
    int64_t id = queue(ann, JOB_DELTA, 500);

    (void)state;
    assert_int_equal(queue(ann, JOB_DELTA, 900), id);
    assert_int_equal(find(ann, JOB_DELTA).due_at, 500);
    assert_int_equal(find(ann, JOB_DELTA).epoch, 900);
    assert_int_equal(queue(ann, JOB_DELTA, 100), id);
    assert_int_equal(find(ann, JOB_DELTA).due_at, 100);
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_end(db, id, NULL), 0);
    assert_int_equal(lease(1000, 8), 0);
}

static void test_a_job_asked_for_while_leased_runs_again(void **state)
{
    int64_t id = queue(ann, JOB_TRAIL, 100);

    (void)state;
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(queue(ann, JOB_TRAIL, 700), id);
    assert_int_equal(queue(ann, JOB_TRAIL, 600), id);
    assert_int_equal(queue(ann, JOB_TRAIL, 800), id);
    assert_int_equal(find(ann, JOB_TRAIL).epoch, 100);
    assert_int_equal(lease(900, 8), 0);
    assert_int_equal(job_end(db, id, NULL), 0);
    assert_int_equal(find(ann, JOB_TRAIL).due_at, 600);
    assert_int_equal(find(ann, JOB_TRAIL).epoch, 800);
    assert_int_equal(find(ann, JOB_TRAIL).attempts, 0);
    assert_int_equal(lease(599, 8), 0);
    assert_int_equal(lease(600, 8), id);
    assert_int_equal(job_end(db, id, NULL), 0);
    assert_int_equal(lease(9999, 8), 0);
}

static void test_retry_counts_and_waits(void **state)
{
    int64_t id = queue(ann, JOB_DELTA, 100);

    (void)state;
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_retry(db, id, 500, NULL), 0);
    assert_int_equal(find(ann, JOB_DELTA).attempts, 1);
    assert_string_equal(find(ann, JOB_DELTA).lease_owner, "");
    assert_int_equal(lease(499, 8), 0);
    assert_int_equal(lease(500, 8), id);
    queue(ann, JOB_DELTA, 600); /* an operator asks for it meanwhile */
    assert_int_equal(job_retry(db, id, 900, NULL), 0);
    assert_int_equal(find(ann, JOB_DELTA).due_at, 600);
    assert_int_equal(find(ann, JOB_DELTA).attempts, 2);
}

static void test_leases_are_freed_by_owner_and_by_time(void **state)
{
    int64_t id = queue(ann, JOB_DELTA, 100);
    struct err err;

    (void)state;
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_free_leases(db, "other", NULL), 0);
    assert_int_equal(lease(100, 8), 0);
    assert_int_equal(job_free_leases(db, "me", NULL), 0);
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_free_leases(db, "", NULL), 0);
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_heartbeat(db, id, 90000, NULL), 0);
    assert_int_equal(find(ann, JOB_DELTA).lease_until, 90000);
    assert_int_equal(job_free_leases(db, "me", NULL), 0);
    assert_int_equal(job_heartbeat(db, id, 99000, &err), -1);
    assert_int_equal(err.kind, ERR_ITEM);
    assert_int_equal(lease(100, 8), id);
}

static void test_next_due_looks_at_waiting_jobs_only(void **state)
{
    int64_t due, id;

    (void)state;
    assert_int_equal(job_next_due(db, &due, NULL), 0);
    assert_true(due == INT64_MAX);
    id = queue(ann, JOB_DELTA, 100);
    queue(bob, JOB_DELTA, 300);
    assert_int_equal(job_next_due(db, &due, NULL), 0);
    assert_int_equal(due, 100);
    assert_int_equal(lease(100, 8), id);
    assert_int_equal(job_next_due(db, &due, NULL), 0);
    assert_int_equal(due, 300);
}

static void test_cancelled_jobs_do_not_come_back(void **state)
{
    int64_t id = queue(ann, JOB_DELTA, 100);
    int64_t queued, leased;
    struct job j;

    (void)state;
    queue(ann, JOB_VERIFY, 200);
    queue(ann, JOB_HASH, 900);
    queue(bob, JOB_DELTA, 900);
    assert_int_equal(lease(100, 8), id);
    queue(ann, JOB_DELTA, 300);
    assert_int_equal(job_count(db, &queued, &leased, NULL), 0);
    assert_int_equal(queued, 3);
    assert_int_equal(leased, 1);
    assert_int_equal(job_cancel(db, ann, JOB_VERIFY, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_VERIFY, &j, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_HASH, &j, NULL), 1);
    assert_int_equal(job_cancel(db, ann, -1, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_HASH, &j, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_DELTA, &j, NULL), 1);
    assert_int_equal(job_end(db, id, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_DELTA, &j, NULL), 0);
    assert_int_equal(job_find(db, bob, JOB_DELTA, &j, NULL), 1);
}

static void test_jobs_go_with_their_account(void **state)
{
    struct job j;

    (void)state;
    queue(ann, JOB_DELTA, 100);
    assert_int_equal(account_delete(db, ann, NULL), 0);
    assert_int_equal(job_find(db, ann, JOB_DELTA, &j, NULL), 0);
    j = (struct job){.account_id = ann, .kind = JOB_DELTA};
    assert_int_equal(job_queue(db, &j, NULL), -1);
}

static void test_many_jobs_are_each_leased_once(void **state)
{
    bool is_seen[4 * MANY] = {false};
    int64_t id;
    int leases = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        char address[64];

        snprintf(address, sizeof(address), "u%d@example.net", i);
        queue_at(add_account(domain_id, address), JOB_INITIAL, i % 7,
                 i % 2 ? "imap://a" : "imap://b");
    }
    while ((id = lease(10, MANY)) != 0) {
        assert_in_range(id, 1, 4 * MANY - 1);
        assert_false(is_seen[id]);
        is_seen[id] = true;
        leases++;
    }
    assert_int_equal(leases, MANY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

static void test_waiting_and_running_are_counted(void **state)
{
    struct job_counts counts;
    int64_t id;

    (void)state;
    queue(ann, JOB_INITIAL, 5);
    queue(bob, JOB_INITIAL, 6);
    id = lease(10, 8);
    assert_int_equal(job_heartbeat(db, id, 99, NULL), 0);
    assert_int_equal(job_counts_read(db, &counts, NULL), 0);
    assert_int_equal(counts.waiting[JOB_INITIAL], 1);
    assert_int_equal(counts.running[JOB_INITIAL], 1);
    assert_int_equal(job_free_leases(db, "", NULL), 0);
    assert_int_equal(job_counts_read(db, &counts, NULL), 0);
    assert_int_equal(counts.waiting[JOB_INITIAL], 2);
    assert_int_equal(counts.running[JOB_INITIAL], 0);
    assert_int_equal(job_cancel(db, ann, -1, NULL), 0);
    assert_int_equal(job_counts_read(db, &counts, NULL), 0);
    assert_int_equal(counts.waiting[JOB_INITIAL], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kind_names_go_there_and_back),
        TEST(test_nothing_due_leases_nothing),
        TEST(test_priority_goes_before_waiting_time),
        TEST(test_a_host_has_a_limit_that_a_final_passes),
        TEST(test_jobs_without_a_host_have_no_limit),
        TEST(test_the_best_of_all_hosts_goes_first),
        TEST(test_an_account_has_one_job_at_a_time),
        TEST(test_a_hash_waits_for_nobody_and_hinders_nobody),
        TEST(test_the_same_job_is_queued_once_and_pulled_forward),
        TEST(test_a_job_asked_for_while_leased_runs_again),
        TEST(test_retry_counts_and_waits),
        TEST(test_leases_are_freed_by_owner_and_by_time),
        TEST(test_next_due_looks_at_waiting_jobs_only),
        TEST(test_cancelled_jobs_do_not_come_back),
        TEST(test_jobs_go_with_their_account),
        TEST(test_many_jobs_are_each_leased_once),
        TEST(test_waiting_and_running_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
