#include "db/names.h"

#include "db/profiles.h"
#include "tests/unit/db_fixture.h"

static int count_names(void *ctx, const struct login_name *name)
{
    (void)name;
    ++*(int *)ctx;
    return 0;
}

static int count_aliases(void *ctx, const char *alias)
{
    (void)alias;
    ++*(int *)ctx;
    return 0;
}

static void
test_a_name_leads_to_its_address_until_it_is_given_away(void **state)
{
    struct login_name name = {.name = "u123", .address = "a@example.net"};
    struct login_name got;
    int count = 0;

    (void)state;
    assert_int_equal(name_find(db, "u123", &got, NULL), 0);
    assert_int_equal(name_put(db, &name, NULL), 0);
    assert_int_equal(name_find(db, "u123", &got, NULL), 1);
    assert_string_equal(got.address, "a@example.net");
    assert_string_equal(got.legacy_user, "");
    snprintf(name.address, sizeof(name.address), "b@example.net");
    snprintf(name.legacy_user, sizeof(name.legacy_user), "old-b");
    assert_int_equal(name_put(db, &name, NULL), 0);
    assert_int_equal(name_find(db, "u123", &got, NULL), 1);
    assert_string_equal(got.address, "b@example.net");
    assert_string_equal(got.legacy_user, "old-b");
    name_each(db, "a@example.net", count_names, &count, NULL);
    assert_int_equal(count, 0);
    name_each(db, NULL, count_names, &count, NULL);
    assert_int_equal(count, 1);
    assert_int_equal(name_remove(db, "u123", NULL), 1);
    assert_int_equal(name_remove(db, "u123", NULL), 0);
}

static int64_t new_account(const char *address)
{
    struct domain d = {.name = "example.net", .cutover = CUTOVER_AUTO};
    struct account a = {.epoch = 1, .route = ROUTE_LEGACY};

    if (domain_find(db, d.name, &d, NULL) == 0)
        assert_int_equal(domain_insert(db, &d, NULL), 0);
    a.domain_id = d.id;
    snprintf(a.address, sizeof(a.address), "%s", address);
    assert_int_equal(account_insert(db, &a, NULL), 1);
    return a.id;
}

static void test_an_alias_has_one_owner(void **state)
{
    int64_t a = new_account("a@example.net"), b = new_account("b@example.net");
    int64_t found;
    struct err err;
    int count = 0;

    (void)state;
    assert_int_equal(alias_put(db, "info@example.net", a, NULL), 0);
    assert_int_equal(alias_put(db, "info@example.net", a, NULL), 0);
    assert_int_equal(alias_put(db, "info@example.net", b, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(alias_find(db, "info@example.net", &found, NULL), 1);
    assert_int_equal(found, a);
    alias_each(db, a, count_aliases, &count, NULL);
    assert_int_equal(count, 1);
    assert_int_equal(account_delete(db, a, NULL), 0);
    assert_int_equal(alias_find(db, "info@example.net", &found, NULL), 0);
}

static void test_a_profile_comes_back_and_goes_with_its_account(void **state)
{
    struct profile p = {.quota_bytes = 5000000000, .owner = "C-17"}, got;
    int64_t a = new_account("a@example.net");

    (void)state;
    assert_int_equal(profile_get(db, a, &got, NULL), 0);
    assert_int_equal(got.quota_bytes, 0);
    snprintf(p.forward, sizeof(p.forward), "x@example.org y@example.org");
    snprintf(p.group, sizeof(p.group), "business");
    assert_int_equal(profile_put(db, a, &p, NULL), 0);
    assert_int_equal(profile_get(db, a, &got, NULL), 1);
    assert_int_equal(got.quota_bytes, p.quota_bytes);
    assert_string_equal(got.forward, p.forward);
    assert_string_equal(got.owner, p.owner);
    assert_string_equal(got.group, p.group);
    assert_int_equal(account_delete(db, a, NULL), 0);
    assert_int_equal(profile_get(db, a, &got, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_name_leads_to_its_address_until_it_is_given_away,
            open_control, close_control),
        cmocka_unit_test_setup_teardown(test_an_alias_has_one_owner,
                                        open_control, close_control),
        cmocka_unit_test_setup_teardown(
            test_a_profile_comes_back_and_goes_with_its_account, open_control,
            close_control),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
