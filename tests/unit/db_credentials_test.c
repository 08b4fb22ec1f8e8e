#include "db/credentials.h"

#include "tests/unit/db_fixture.h"

static int64_t account_id;

static int start(void **state)
{
    if (open_control(state) == -1)
        return -1;
    account_id = add_account(add_domain("example.net"), "ann@example.net");
    return 0;
}

static struct account_seal seal_of(char letter)
{
    struct account_seal seal = {.wrapped_length = 40, .blob_length = 20};

    memset(seal.wrapped_key, letter, sizeof(seal.wrapped_key));
    memset(seal.blob, letter, sizeof(seal.blob));
    return seal;
}

static int64_t add(const char *hash, char seal_letter)
{
    struct account_seal seal = seal_of(seal_letter);
    struct credential c = {.account_id = account_id, .created_at = 5};
    struct err err;

    snprintf(c.hash, sizeof(c.hash), "%s", hash);
    snprintf(c.label, sizeof(c.label), "imap");
    if (credential_add(db, &c, seal_letter ? &seal : NULL, &err) == -1)
        fail_msg("%s", err.text);
    return c.id;
}

static void check_seal(int64_t id, char letter)
{
    struct account_seal seal;
    int found = id == 0 ? account_seal_get(db, account_id, &seal, NULL)
                        : credential_seal_get(db, id, &seal, NULL);

    assert_int_equal(found, letter != 0);
    if (letter != 0)
        assert_int_equal(seal.blob[19], letter);
}

static void test_what_is_added_is_listed_and_goes_with_the_account(void **state)
{
    struct credential_list all;
    struct account a;
    int64_t first = add("{CRYPT}x", 'a');

    (void)state;
    add("", 'b');
    assert_int_equal(credential_list(db, account_id, &all, NULL), 0);
    assert_int_equal(all.count, 2);
    assert_int_equal(all.items[0].id, first);
    assert_string_equal(all.items[0].label, "imap");
    assert_true(all.items[0].has_seal);
    assert_string_equal(all.items[1].hash, "");
    assert_int_equal(account_get(db, account_id, &a, NULL), 1);
    assert_true(a.has_hash && !a.has_seal);
    assert_int_equal(account_delete(db, account_id, NULL), 0);
    assert_int_equal(credential_list(db, account_id, &all, NULL), 0);
    assert_int_equal(all.count, 0);
}

static void test_there_is_room_for_so_many_only(void **state)
{
    struct credential c = {.account_id = account_id, .hash = "{CRYPT}x"};
    struct err err;

    (void)state;
    for (int i = 0; i < CREDENTIAL_ROWS_MAX; i++)
        add("{CRYPT}x", 0);
    assert_int_equal(credential_add(db, &c, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    /* neither hash nor seal is no password */
    c.hash[0] = '\0';
    assert_int_equal(credential_remove_others(db, account_id, 0, NULL), 0);
    assert_int_equal(credential_add(db, &c, NULL, &err), -1);
}

static void test_the_first_and_another_change_places(void **state)
{
    struct account_seal seal = seal_of('f');
    struct credential c;
    char hash[64];
    int64_t id = add("{CRYPT}other", 'o');

    (void)state;
    assert_int_equal(account_seal_set(db, account_id, &seal, NULL), 0);
    assert_int_equal(account_hash_set(db, account_id, "{CRYPT}first", NULL), 0);
    assert_int_equal(credential_swap(db, id, NULL), 0);
    assert_int_equal(account_hash_get(db, account_id, hash, sizeof(hash), NULL),
                     1);
    assert_string_equal(hash, "{CRYPT}other");
    check_seal(0, 'o');
    check_seal(id, 'f');
    assert_int_equal(credential_get(db, id, &c, NULL), 1);
    assert_string_equal(c.hash, "{CRYPT}first");
}

static void test_in_the_place_of_nothing_nothing_is_left(void **state)
{
    struct credential c;
    int64_t id = add("", 'o');

    (void)state;
    assert_int_equal(credential_swap(db, id, NULL), 0);
    check_seal(0, 'o');
    assert_int_equal(credential_get(db, id, &c, NULL), 0);
}

static void test_a_first_without_a_hash_can_change_places(void **state)
{
    struct account_seal seal = seal_of('f');
    struct credential c;
    int64_t id = add("{CRYPT}other", 0);

    (void)state;
    assert_int_equal(account_seal_set(db, account_id, &seal, NULL), 0);
    assert_int_equal(credential_swap(db, id, NULL), 0);
    check_seal(0, 0);
    check_seal(id, 'f');
    assert_int_equal(credential_get(db, id, &c, NULL), 1);
    assert_string_equal(c.hash, "");
}

static void test_local_gets_the_first_and_those_with_a_hash(void **state)
{
    struct credential_hashes hashes;

    (void)state;
    add("", 'p');
    for (char name[] = "{CRYPT}1"; name[7] <= '5'; name[7]++)
        add(name, 0);
    assert_int_equal(credential_hashes(db, account_id, &hashes, NULL), 0);
    assert_int_equal(hashes.count, 1 + CREDENTIALS_MAX);
    assert_string_equal(hashes.items[0], "");
    assert_string_equal(hashes.items[1], "{CRYPT}1");
    assert_string_equal(hashes.items[CREDENTIALS_MAX], "{CRYPT}4");
}

static void test_wiping_leaves_hashes_only(void **state)
{
    struct credential_list all;
    int64_t id = add("{CRYPT}x", 'a');

    (void)state;
    add("", 'b');
    assert_int_equal(credential_seals_wipe(db, account_id, NULL), 0);
    assert_int_equal(credential_list(db, account_id, &all, NULL), 0);
    assert_int_equal(all.count, 1);
    assert_int_equal(all.items[0].id, id);
    check_seal(id, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_added_is_listed_and_goes_with_the_account),
        TEST(test_there_is_room_for_so_many_only),
        TEST(test_the_first_and_another_change_places),
        TEST(test_in_the_place_of_nothing_nothing_is_left),
        TEST(test_a_first_without_a_hash_can_change_places),
        TEST(test_local_gets_the_first_and_those_with_a_hash),
        TEST(test_wiping_leaves_hashes_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
