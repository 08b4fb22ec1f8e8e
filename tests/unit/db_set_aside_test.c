#include "db/set_aside.h"

#include "tests/unit/db_fixture.h"

static int64_t ann, bob;

static int start(void **state)
{
    int64_t domain;

    if (open_control(state) == -1)
        return -1;
    domain = add_domain("example.net");
    ann = add_account(domain, "ann@example.net");
    bob = add_account(domain, "bob@example.net");
    return 0;
}

static void name(int64_t account, const char *item, int64_t now)
{
    assert_int_equal(set_aside_put(db, account, item, "refused", now, NULL), 0);
}

static int64_t accepted(int64_t account, int64_t named_at)
{
    int64_t count;

    assert_int_equal(set_aside_accepted(db, account, named_at, &count, NULL),
                     0);
    return count;
}

static int count_row(void *ctx, const struct set_aside *row)
{
    assert_string_equal(row->reason, "refused");
    (*(int *)ctx)++;
    return 0;
}

static int count(int64_t account)
{
    int rows = 0;

    assert_int_equal(set_aside_each(db, account, count_row, &rows, NULL), 0);
    return rows;
}

static int accept_item(int64_t account, const char *item, int64_t now)
{
    return set_aside_accept(db, account, item, "uid 0", now, NULL);
}

static void test_what_a_pass_does_not_name_is_forgotten(void **state)
{
    (void)state;
    name(ann, "INBOX/1/2", 100);
    name(ann, "INBOX/1/3", 100);
    name(bob, "INBOX/1/2", 100);
    /* also when the clock has been put back */
    name(ann, "INBOX/1/3", 90);
    assert_int_equal(set_aside_forget(db, ann, 90, NULL), 0);
    assert_int_equal(count(ann), 1);
    assert_int_equal(count(bob), 1);
}

static int is_first(void *ctx, const struct set_aside *row)
{
    *(struct set_aside *)ctx = *row;
    return 1;
}

static void test_what_is_accepted_stays_so_while_it_is_named(void **state)
{
    struct set_aside row;

    (void)state;
    name(ann, "Entw\xc3\xbcrfe/1/2", 100);
    assert_int_equal(accept_item(ann, "Entw/1/2", 110), 0);
    assert_int_equal(accept_item(bob, "Entw\xc3\xbcrfe/1/2", 110), 0);
    assert_int_equal(accept_item(ann, "Entw\xc3\xbcrfe/1/2", 110), 1);
    name(ann, "Entw\xc3\xbcrfe/1/2", 200);
    name(ann, "INBOX/1/4", 200);
    assert_int_equal(set_aside_forget(db, ann, 200, NULL), 0);
    assert_int_equal(accepted(ann, 200), 1);
    assert_int_equal(accepted(ann, 100), 0);
    /* who accepted it first is remembered */
    assert_int_equal(accept_item(ann, "Entw\xc3\xbcrfe/1/2", 300), 1);
    assert_int_equal(set_aside_each(db, ann, is_first, &row, NULL), 0);
    assert_int_equal(row.accepted_at, 110);
    assert_int_equal(row.seen_at, 100);
    assert_string_equal(row.accepted_by, "uid 0");
    /* gone and come again, it is new */
    assert_int_equal(set_aside_forget(db, ann, 400, NULL), 0);
    name(ann, "Entw\xc3\xbcrfe/1/2", 500);
    assert_int_equal(accepted(ann, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_what_a_pass_does_not_name_is_forgotten, start, close_control),
        cmocka_unit_test_setup_teardown(
            test_what_is_accepted_stays_so_while_it_is_named, start,
            close_control),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
