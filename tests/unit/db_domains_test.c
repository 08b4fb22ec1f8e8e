#include "db/domains.h"

#include "tests/unit/db_fixture.h"

static struct domain sample(void)
{
    struct domain d;

    memset(&d, 0, sizeof(d));
    snprintf(d.name, sizeof(d.name), "example.net");
    snprintf(d.imap_url, sizeof(d.imap_url), "imaps://mail.example.net");
    snprintf(d.pop3_url, sizeof(d.pop3_url), "pop3://mail.example.net");
    snprintf(d.smtp_url, sizeof(d.smtp_url), "smtp://mx.example.net");
    snprintf(d.submission_url, sizeof(d.submission_url), "smtp://s:587");
    snprintf(d.sieve_url, sizeof(d.sieve_url), "sieve://s");
    snprintf(d.username_template, sizeof(d.username_template), "{local}");
    snprintf(d.master_user, sizeof(d.master_user), "master");
    snprintf(d.on_flip, sizeof(d.on_flip), "/usr/local/bin/forward");
    d.is_enabled = true;
    d.cutover = CUTOVER_MANUAL;
    d.hold_seconds = 30;
    d.created_at = 1700000000;
    return d;
}

static void check_same(const struct domain *a, const struct domain *b)
{
    assert_int_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->is_enabled, b->is_enabled);
    assert_string_equal(a->imap_url, b->imap_url);
    assert_string_equal(a->pop3_url, b->pop3_url);
    assert_string_equal(a->smtp_url, b->smtp_url);
    assert_string_equal(a->submission_url, b->submission_url);
    assert_string_equal(a->sieve_url, b->sieve_url);
    assert_string_equal(a->username_template, b->username_template);
    assert_string_equal(a->master_user, b->master_user);
    assert_string_equal(a->on_flip, b->on_flip);
    assert_int_equal(a->cutover, b->cutover);
    assert_int_equal(a->hold_seconds, b->hold_seconds);
    assert_int_equal(a->created_at, b->created_at);
}

static void test_a_domain_comes_back_as_it_was_written(void **state)
{
    struct domain d = sample(), got;

    (void)state;
    assert_int_equal(domain_insert(db, &d, NULL), 0);
    assert_int_not_equal(d.id, 0);
    assert_int_equal(domain_find(db, "example.net", &got, NULL), 1);
    check_same(&got, &d);
    assert_int_equal(domain_get(db, d.id, &got, NULL), 1);
    check_same(&got, &d);
    assert_int_equal(domain_find(db, "example.org", &got, NULL), 0);
    assert_int_equal(domain_get(db, 99, &got, NULL), 0);
}

static void test_a_change_is_written_whole(void **state)
{
    struct domain d = sample(), got;

    (void)state;
    assert_int_equal(domain_insert(db, &d, NULL), 0);
    snprintf(d.name, sizeof(d.name), "example.org");
    d.imap_url[0] = d.pop3_url[0] = d.smtp_url[0] = 'x';
    d.submission_url[0] = d.sieve_url[0] = d.username_template[0] = 'x';
    d.master_user[0] = d.on_flip[0] = '\0';
    d.is_enabled = false;
    d.cutover = CUTOVER_AUTO;
    d.hold_seconds = 5;
    d.created_at = 1;
    assert_int_equal(domain_update(db, &d, NULL), 0);
    assert_int_equal(domain_get(db, d.id, &got, NULL), 1);
    check_same(&got, &d);
    d.id = 99;
    assert_int_equal(domain_update(db, &d, NULL), -1);
}

static void test_a_taken_name_is_refused(void **state)
{
    struct domain d = sample(), second = sample();
    struct err err;

    (void)state;
    assert_int_equal(domain_insert(db, &d, NULL), 0);
    assert_int_equal(domain_insert(db, &second, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_non_null(strstr(err.text, "exists"));
    snprintf(second.name, sizeof(second.name), "example.org");
    assert_int_equal(domain_insert(db, &second, NULL), 0);
    snprintf(second.name, sizeof(second.name), "example.net");
    assert_int_equal(domain_update(db, &second, &err), -1);
    assert_non_null(strstr(err.text, "exists"));
}

static void test_a_domain_with_accounts_stays(void **state)
{
    int64_t id = add_domain("example.net");
    int64_t account = add_account(id, "ann@example.net");
    struct domain got;
    struct err err;

    (void)state;
    assert_int_equal(domain_delete(db, id, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(account_delete(db, account, NULL), 0);
    assert_int_equal(domain_delete(db, id, NULL), 0);
    assert_int_equal(domain_find(db, "example.net", &got, NULL), 0);
}

static char seen[512];

static int note_name(void *ctx, const struct domain *d)
{
    size_t used = strlen(seen);

    snprintf(seen + used, sizeof(seen) - used, "%.63s ", d->name);
    return ctx != NULL;
}

static void test_each_goes_by_name(void **state)
{
    (void)state;
    add_domain("b.example");
    add_domain("a.example");
    seen[0] = '\0';
    assert_int_equal(domain_each(db, note_name, NULL, NULL), 0);
    assert_string_equal(seen, "a.example b.example ");
    seen[0] = '\0';
    assert_int_equal(domain_each(db, note_name, seen, NULL), 0);
    assert_string_equal(seen, "a.example ");
}

#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, open_control, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_domain_comes_back_as_it_was_written),
        TEST(test_a_change_is_written_whole),
        TEST(test_a_taken_name_is_refused),
        TEST(test_a_domain_with_accounts_stays),
        TEST(test_each_goes_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
