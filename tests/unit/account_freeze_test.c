#include "account/freeze.h"

#include "db/admitted.h"
#include "db/jobs.h"
#include "tests/unit/db_fixture.h"

static int64_t net, org; /* example.net, example.org */

static struct domain domain_named(const char *name)
{
    struct domain d;

    assert_int_equal(domain_find(db, name, &d, NULL), 1);
    return d;
}

static int start(void **state)
{
    struct domain d;

    if (open_control(state) == -1)
        return -1;
    net = add_domain("example.net");
    org = add_domain("example.org");
    d = domain_named("example.org");
    snprintf(d.imap_url, sizeof(d.imap_url), "imaps://mail.example.org:993");
    snprintf(d.smtp_url, sizeof(d.smtp_url), "smtp://mx.example.org:25");
    assert_int_equal(domain_update(db, &d, NULL), 0);
    return 0;
}

static void freeze(enum freeze_kind kind, const char *name, int64_t since)
{
    struct freeze f = {.kind = kind, .since = since};

    snprintf(f.name, sizeof(f.name), "%s", name);
    snprintf(f.actor, sizeof(f.actor), "uid 0 (root)");
    snprintf(f.reason, sizeof(f.reason), "the old server is slow");
    assert_int_equal(freeze_put(db, &f, NULL), 1);
    assert_int_equal(freeze_refresh(db, NULL), 0);
}

static void thaw(enum freeze_kind kind, const char *name)
{
    assert_int_equal(freeze_remove(db, kind, name, NULL), 1);
    assert_int_equal(freeze_refresh(db, NULL), 0);
}

static bool is_frozen(const char *name)
{
    return domain_named(name).is_frozen;
}

static void test_freeze_covers_its_domain_its_host_or_all(void **state)
{
    (void)state;
    freeze(FREEZE_DOMAIN, "example.net", 1);
    assert_true(is_frozen("example.net"));
    assert_false(is_frozen("example.org"));
    freeze(FREEZE_HOST, "mx.example.org", 2);
    assert_true(is_frozen("example.org"));
    thaw(FREEZE_HOST, "mx.example.org");
    assert_false(is_frozen("example.org"));
    freeze(FREEZE_HOST, "MAIL.example.org", 2);
    assert_true(is_frozen("example.org"));
    thaw(FREEZE_HOST, "MAIL.example.org");
    freeze(FREEZE_HOST, "example.org", 2);
    assert_false(is_frozen("example.org"));
    freeze(FREEZE_ALL, "", 3);
    assert_true(is_frozen("example.org"));
    thaw(FREEZE_ALL, "");
    assert_false(is_frozen("example.org"));
    assert_true(is_frozen("example.net"));
}

static void test_freeze_stays_as_it_was_first_asked_for(void **state)
{
    struct freeze again = {.kind = FREEZE_ALL, .since = 9};
    struct freeze f;
    struct domain d;

    (void)state;
    freeze(FREEZE_ALL, "", 3);
    assert_int_equal(freeze_put(db, &again, NULL), 0);
    d = domain_named("example.net");
    assert_int_equal(freeze_of_domain(db, &d, &f, NULL), 1);
    assert_int_equal(f.since, 3);
    assert_string_equal(f.actor, "uid 0 (root)");
    assert_int_equal(freeze_remove(db, FREEZE_HOST, "nowhere", NULL), 0);
}

static void test_refusal_names_the_freeze(void **state)
{
    struct domain d = domain_named("example.net");
    struct err err;

    (void)state;
    assert_int_equal(freeze_refuse(db, &d, &err), 0);
    freeze(FREEZE_DOMAIN, "example.net", 1795305600000);
    d = domain_named("example.net");
    assert_int_equal(freeze_refuse(db, &d, &err), -1);
    assert_string_equal(err.text,
                        "example.net is frozen (domain example.net) since "
                        "2026-11-22 00:00:00 UTC by uid 0 (root): the old "
                        "server is slow");
}

/* --- what waits */

static void queue(int64_t account_id, enum job_kind kind)
{
    struct job j = {.account_id = account_id,
                    .kind = kind,
                    .epoch = 1,
                    .due_at = 100,
                    .priority = 10};

    assert_int_equal(job_queue(db, &j, NULL), 0);
}

static int lease(int64_t now, struct job *out)
{
    return job_lease(db, "me", now, now + 60000, 8, out, NULL);
}

static void follow(int limit)
{
    int64_t last = 0;

    do
        assert_int_equal(job_follow_freezes(db, last, limit, &last, NULL), 0);
    while (last != 0);
}

static void test_only_copies_of_frozen_domains_sleep(void **state)
{
    int64_t ann = add_account(net, "ann@example.net");
    int64_t bob = add_account(org, "bob@example.org");
    int64_t due_at;
    struct job j;

    (void)state;
    queue(ann, JOB_DELTA);
    queue(ann, JOB_TRAIL);
    queue(bob, JOB_INITIAL);
    freeze(FREEZE_DOMAIN, "example.net", 1);
    follow(1);
    assert_int_equal(lease(200, &j), 1);
    assert_true(j.account_id == ann ? j.kind == JOB_TRAIL
                                    : j.kind == JOB_INITIAL);
    assert_int_equal(lease(200, &j), 1);
    assert_true(j.kind != JOB_DELTA);
    assert_int_equal(lease(200, &j), 0);
    assert_int_equal(job_next_due(db, &due_at, NULL), 0);
    assert_true(due_at == INT64_MAX);
    /* asked for meanwhile: it sleeps on */
    queue(ann, JOB_DELTA);
    assert_int_equal(job_find(db, ann, JOB_TRAIL, &j, NULL), 1);
    assert_int_equal(job_end(db, j.id, NULL), 0);
    assert_int_equal(lease(200, &j), 0);
    thaw(FREEZE_DOMAIN, "example.net");
    follow(1000);
    assert_int_equal(lease(200, &j), 1);
    assert_int_equal(j.kind, JOB_DELTA);
    assert_int_equal(j.attempts, 0);
}

static void test_lease_given_back_to_a_freeze_is_no_attempt(void **state)
{
    int64_t ann = add_account(net, "ann@example.net");
    struct job j;

    (void)state;
    queue(ann, JOB_INITIAL);
    assert_int_equal(lease(200, &j), 1);
    assert_int_equal(job_give_back(db, j.id, true, NULL), 0);
    assert_int_equal(lease(200, &j), 0);
    follow(1000); /* its domain is not frozen */
    assert_int_equal(lease(200, &j), 1);
    assert_int_equal(j.attempts, 0);
    assert_int_equal(j.due_at, 100);
    assert_int_equal(job_give_back(db, j.id, false, NULL), 0);
    assert_int_equal(lease(200, &j), 1);
}

/* --- who is named */

static int count_text(void *ctx, const char *address)
{
    (void)address;
    ++*(int *)ctx;
    return 0;
}

static void test_admitted_are_of_one_domain(void **state)
{
    int64_t count;
    int seen = 0;

    (void)state;
    assert_int_equal(admitted_add(db, net, "ann@example.net", NULL), 1);
    assert_int_equal(admitted_add(db, net, "ann@example.net", NULL), 0);
    assert_int_equal(admitted_add(db, net, "bob@example.net", NULL), 1);
    assert_int_equal(admitted_has(db, net, "ann@example.net", NULL), 1);
    assert_int_equal(admitted_has(db, org, "ann@example.net", NULL), 0);
    assert_int_equal(admitted_count(db, net, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_int_equal(admitted_each(db, net, count_text, &seen, NULL), 0);
    assert_int_equal(seen, 2);
    assert_int_equal(admitted_remove(db, net, "ann@example.net", NULL), 1);
    assert_int_equal(admitted_remove(db, net, "ann@example.net", NULL), 0);
    assert_int_equal(admitted_has(db, net, "ann@example.net", NULL), 0);
    /* they go with their domain */
    assert_int_equal(domain_delete(db, net, NULL), 0);
    assert_int_equal(admitted_count(db, net, &count, NULL), 0);
    assert_int_equal(count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_freeze_covers_its_domain_its_host_or_all),
        TEST(test_freeze_stays_as_it_was_first_asked_for),
        TEST(test_refusal_names_the_freeze),
        TEST(test_only_copies_of_frozen_domains_sleep),
        TEST(test_lease_given_back_to_a_freeze_is_no_attempt),
        TEST(test_admitted_are_of_one_domain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
