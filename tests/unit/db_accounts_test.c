#include "db/accounts.h"

#include "db/audit.h"
#include "db/counts.h"
#include "tests/unit/db_fixture.h"

/* the rest of the array too, since whole rows are compared */
#define SET(array, text)                                                       \
    memcpy(array, (char[sizeof(array)]){text}, sizeof(array))

static int64_t domain_id, other_id;

static int start(void **state)
{
    if (open_control(state) == -1)
        return -1;
    domain_id = add_domain("example.net");
    other_id = add_domain("example.org");
    return 0;
}

static struct account get(int64_t id)
{
    struct account a;

    assert_int_equal(account_get(db, id, &a, NULL), 1);
    return a;
}

static void update(const struct account *a)
{
    assert_int_equal(account_update(db, a, NULL), 0);
}

static void test_state_names_go_there_and_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROUTE_COUNT; i++)
        assert_int_equal(account_route_named(account_route_name(i)), i);
    for (unsigned i = 0; i < COPY_COUNT; i++)
        assert_int_equal(account_copy_named(account_copy_name(i)), i);
    for (unsigned i = 0; i < PASSWORD_COUNT; i++)
        assert_int_equal(password_state_named(password_state_name(i)), i);
    for (unsigned i = 0; i < CUTOVER_COUNT; i++)
        assert_int_equal(domain_cutover_named(domain_cutover_name(i)), i);
    assert_int_equal(account_route_named("unknown"), -1);
    assert_int_equal(account_copy_named(NULL), -1);
    assert_string_equal(account_copy_name(COPY_COUNT), "unknown");
}

static void test_the_control_db_has_one_opener(void **state)
{
    struct db *second;
    struct err err;

    (void)state;
    assert_int_equal(
        control_open("sqlite:control.db", folder, false, &second, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    db_close(&db);
    assert_int_equal(
        control_open("sqlite:control.db", folder, false, &db, NULL), 0);
    assert_int_equal(
        account_find(db, "x@example.net", &(struct account){0}, NULL), 0);
}

static void test_only_sqlite_databases_are_known(void **state)
{
    static const char *const bad[] = {"control.db", "sqlite:", "",
                                      "postgresql://u@host/db"};
    struct db *second;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(control_open(bad[i], folder, true, &second, &err), -1);
        assert_int_equal(err.kind, ERR_SETUP);
    }
    assert_int_equal(
        control_open("sqlite:missing.db", folder, false, &second, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

static void test_an_account_comes_back_as_it_was_written(void **state)
{
    int64_t id = add_account(domain_id, "ann@example.net");
    struct account a = get(id), b;

    (void)state;
    assert_string_equal(a.address, "ann@example.net");
    assert_int_equal(a.domain_id, domain_id);
    assert_int_equal(a.copy, COPY_INITIAL);
    assert_false(a.has_prefix);
    assert_true(a.created_at > 1700000000000);
    assert_int_equal(a.updated_at, a.created_at);
    SET(a.legacy_user, "u1234");
    a.route = ROUTE_HELD;
    a.copy = COPY_FINAL;
    a.epoch = 3;
    a.provisioned_epoch = 2;
    a.password_state = PASSWORD_CONFIRMED;
    a.has_prefix = true;
    SET(a.legacy_prefix, "INBOX.");
    SET(a.legacy_separator, ".");
    a.folders = 4;
    a.messages = 5;
    a.bytes = 6000000000;
    a.messages_total = 7;
    a.bytes_total = 8000000000;
    a.set_aside = 9;
    a.hold_failures = 10;
    a.next_flip_at = 11;
    a.wants_flip = true;
    a.is_clean = true;
    SET(a.last_error_kind, "retry");
    SET(a.last_error, "it's down; DROP TABLE");
    a.last_error_at = 12;
    a.created_at = 13;
    a.copied_at = 14;
    a.flipped_at = 15;
    a.updated_at = 16;
    update(&a);
    b = get(id);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(account_find(db, "ann@example.net", &b, NULL), 1);
    assert_memory_equal(&a, &b, sizeof(a));
}

static void test_an_unknown_prefix_is_not_an_empty_one(void **state)
{
    struct account a = get(add_account(domain_id, "ann@example.net"));

    (void)state;
    a.has_prefix = true;
    update(&a);
    assert_true(get(a.id).has_prefix);
    assert_string_equal(get(a.id).legacy_prefix, "");
    a.has_prefix = false;
    SET(a.legacy_prefix, "left over");
    update(&a);
    assert_false(get(a.id).has_prefix);
    assert_string_equal(get(a.id).legacy_prefix, "");
}

static void
test_the_loser_of_two_first_logins_reads_the_winners_row(void **state)
{
    int64_t id = add_account(domain_id, "ann@example.net");
    struct account winner = get(id);
    struct account loser = {.domain_id = domain_id};

    (void)state;
    SET(loser.address, "ann@example.net");
    SET(loser.legacy_user, "another");
    assert_int_equal(account_insert(db, &loser, NULL), 0);
    assert_memory_equal(&loser, &winner, sizeof(loser));
}

static void test_an_account_needs_its_domain(void **state)
{
    struct account a = {.domain_id = 99, .address = "x@y"};
    struct err err;

    (void)state;
    assert_int_equal(account_insert(db, &a, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    a.id = 99;
    assert_int_equal(account_update(db, &a, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

static void test_ids_are_never_used_twice(void **state)
{
    int64_t id = add_account(domain_id, "ann@example.net");

    (void)state;
    assert_int_equal(account_delete(db, id, NULL), 0);
    assert_int_equal(account_get(db, id, &(struct account){0}, NULL), 0);
    assert_int_not_equal(add_account(domain_id, "ann@example.net"), id);
}

static char seen[256];

static void note(const char *text)
{
    size_t used = strlen(seen);

    snprintf(seen + used, sizeof(seen) - used, "%.63s", text);
}

static int note_address(void *ctx, const struct account *a)
{
    const char *last = ctx;

    note(a->address);
    note(" ");
    return last != NULL && strcmp(last, a->address) == 0;
}

static void test_each_goes_by_address_and_stops_when_told(void **state)
{
    char last[] = "bob@example.net";

    (void)state;
    add_account(domain_id, "bob@example.net");
    add_account(other_id, "ann@example.org");
    add_account(domain_id, "ann@example.net");
    seen[0] = '\0';
    assert_int_equal(account_each(db, 0, note_address, NULL, NULL), 0);
    assert_string_equal(seen,
                        "ann@example.net ann@example.org bob@example.net ");
    seen[0] = '\0';
    assert_int_equal(account_each(db, domain_id, note_address, NULL, NULL), 0);
    assert_string_equal(seen, "ann@example.net bob@example.net ");
    seen[0] = '\0';
    add_account(domain_id, "cid@example.net");
    assert_int_equal(account_each(db, domain_id, note_address, last, NULL), 0);
    assert_string_equal(seen, "ann@example.net bob@example.net ");
    seen[0] = '\0';
    assert_int_equal(
        account_page(db, domain_id, "", 1, note_address, NULL, NULL), 0);
    assert_int_equal(account_page(db, domain_id, "ann@example.net", 2,
                                  note_address, NULL, NULL),
                     0);
    assert_int_equal(
        account_page(db, 0, "ann@example.net", 1, note_address, NULL, NULL), 0);
    assert_string_equal(seen, "ann@example.net bob@example.net "
                              "cid@example.net ann@example.org ");
}

static int rewrite(void *ctx, const struct account *a)
{
    struct account changed = *a;

    (void)ctx;
    changed.epoch += 100;
    update(&changed);
    assert_int_equal(get(a->id).epoch, a->epoch + 100);
    return 0;
}

static void test_rows_may_be_changed_while_they_are_walked(void **state)
{
    int64_t ids[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        char address[32];

        snprintf(address, sizeof(address), "u%02d@example.net", i);
        ids[i] = add_account(domain_id, address);
    }
    assert_int_equal(account_each(db, 0, rewrite, NULL, NULL), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(get(ids[i]).epoch, 100);
}

static void
test_unsettled_are_the_held_and_those_local_does_not_know(void **state)
{
    static const struct {
        const char *address;
        enum account_route route;
        int64_t epoch, provisioned;
    } rows[] = {{"a@example.net", ROUTE_LEGACY, 5, 0},
                {"b@example.net", ROUTE_HELD, 5, 5},
                {"c@example.net", ROUTE_LOCAL, 5, 4},
                {"d@example.net", ROUTE_LOCAL, 5, 5}};
    int64_t held_id = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct account a = get(add_account(domain_id, rows[i].address));

        a.route = rows[i].route;
        a.epoch = rows[i].epoch;
        a.provisioned_epoch = rows[i].provisioned;
        update(&a);
        if (a.route == ROUTE_HELD)
            held_id = a.id;
    }
    seen[0] = '\0';
    assert_int_equal(account_each_unsettled(db, 0, 9, note_address, NULL, NULL),
                     0);
    assert_string_equal(seen, "b@example.net c@example.net ");
    seen[0] = '\0';
    assert_int_equal(account_each_unsettled(db, 0, 1, note_address, NULL, NULL),
                     0);
    assert_int_equal(account_each_held(db, note_address, NULL, NULL), 0);
    assert_string_equal(seen, "b@example.net b@example.net ");
    seen[0] = '\0';
    assert_int_equal(
        account_each_unsettled(db, held_id, 9, note_address, NULL, NULL), 0);
    assert_string_equal(seen, "c@example.net ");
}

static void test_seals_and_hashes_stand_apart_from_the_row(void **state)
{
    int64_t id = add_account(domain_id, "ann@example.net");
    struct account_seal seal = {.wrapped_length = 93, .blob_length = 2000};
    struct account_seal got;
    char hash[128], small[4];
    struct account a;

    (void)state;
    assert_int_equal(account_seal_get(db, id, &got, NULL), 0);
    assert_int_equal(account_hash_get(db, id, hash, sizeof(hash), NULL), 0);
    assert_string_equal(hash, "");
    memset(seal.wrapped_key, 0xa5, 93);
    memset(seal.blob, 0x5a, 2000);
    assert_int_equal(account_seal_set(db, id, &seal, NULL), 0);
    assert_int_equal(account_hash_set(db, id, "{SHA512-CRYPT}$6$x", NULL), 0);
    assert_int_equal(account_seal_get(db, id, &got, NULL), 1);
    assert_memory_equal(&got, &seal, sizeof(seal));
    assert_int_equal(account_hash_get(db, id, hash, sizeof(hash), NULL), 1);
    assert_string_equal(hash, "{SHA512-CRYPT}$6$x");
    assert_int_equal(account_hash_get(db, id, small, sizeof(small), NULL), -1);
    a = get(id);
    assert_true(a.has_seal && a.has_hash);
    update(&a); /* touches neither */
    assert_int_equal(account_seal_set(db, id, NULL, NULL), 0);
    assert_int_equal(account_seal_get(db, id, &got, NULL), 0);
    assert_true(!get(id).has_seal && get(id).has_hash);
    assert_int_equal(account_hash_set(db, id, NULL, NULL), 0);
    assert_false(get(id).has_hash);
    assert_int_equal(account_seal_set(db, 999, &seal, NULL), -1);
}

static void test_secrets_go_with_their_account(void **state)
{
    int64_t id = add_account(domain_id, "ann@example.net");
    struct account_seal seal = {.wrapped_length = 93, .blob_length = 50};

    (void)state;
    assert_int_equal(account_seal_set(db, id, &seal, NULL), 0);
    assert_int_equal(account_delete(db, id, NULL), 0);
    assert_int_equal(account_seal_get(db, id, &seal, NULL), 0);
}

static void test_totals_add_up_by_domain(void **state)
{
    struct account_totals t;
    struct account a = get(add_account(domain_id, "ann@example.net"));

    (void)state;
    a.messages = 10;
    a.messages_total = 20;
    a.bytes = 5000000000;
    a.bytes_total = 6000000000;
    a.set_aside = 1;
    SET(a.last_error_kind, "retry");
    update(&a);
    a = get(add_account(domain_id, "bob@example.net"));
    a.route = ROUTE_LOCAL;
    a.copy = COPY_TRAIL;
    a.messages = 7;
    update(&a);
    add_account(other_id, "cid@example.org");
    assert_int_equal(account_totals(db, domain_id, &t, NULL), 0);
    assert_int_equal(t.accounts, 2);
    assert_int_equal(t.by_route[ROUTE_LEGACY], 1);
    assert_int_equal(t.by_route[ROUTE_LOCAL], 1);
    assert_int_equal(t.by_copy[COPY_INITIAL], 1);
    assert_int_equal(t.by_copy[COPY_TRAIL], 1);
    assert_int_equal(t.messages, 17);
    assert_int_equal(t.messages_total, 20);
    assert_true(t.bytes == 5000000000 && t.bytes_total == 6000000000);
    assert_int_equal(t.set_aside, 1);
    assert_int_equal(t.failing, 1);
    assert_int_equal(account_totals(db, 0, &t, NULL), 0);
    assert_int_equal(t.accounts, 3);
    assert_int_equal(account_totals(db, 77, &t, NULL), 0);
    assert_int_equal(t.accounts, 0);
}

static int note_event(void *ctx, const struct audit_entry *entry)
{
    int *left = ctx;

    note(entry->event);
    note(entry->detail);
    note(" ");
    return left != NULL && --*left == 0;
}

static void append(int64_t account_id, const char *event, const char *detail)
{
    const struct audit_entry entry = {.account_id = account_id,
                                      .actor = "state",
                                      .event = event,
                                      .detail = detail};

    assert_int_equal(audit_append(db, &entry, NULL), 0);
}

static void test_audit_is_read_newest_first(void **state)
{
    int one = 1;

    (void)state;
    append(1, "learnt", NULL);
    append(2, "learnt", ":b");
    append(1, "flip", "");
    append(0, "domain", " add");
    seen[0] = '\0';
    assert_int_equal(
        audit_each(db, &(struct audit_filter){.account_id = 0, .limit = 3},
                   note_event, NULL, NULL),
        0);
    assert_string_equal(seen, "domain add flip learnt:b ");
    seen[0] = '\0';
    assert_int_equal(
        audit_each(db, &(struct audit_filter){.account_id = 1, .limit = 9},
                   note_event, NULL, NULL),
        0);
    assert_string_equal(seen, "flip learnt ");
    seen[0] = '\0';
    assert_int_equal(
        audit_each(db, &(struct audit_filter){.account_id = 0, .limit = 9},
                   note_event, &one, NULL),
        0);
    assert_string_equal(seen, "domain add ");
}

static void test_audit_can_only_grow(void **state)
{
    static const char *const bad[] = {
        "DELETE FROM audit", "UPDATE audit SET event = 'nothing'",
        "INSERT OR REPLACE INTO audit (id, at, actor, event) "
        "VALUES (1, 0, '', '')"};
    struct err err;

    (void)state;
    append(1, "flip", NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct db_statement *s = db_prepare(db, bad[i], &err);

        assert_non_null(s);
        assert_int_equal(db_run(s, &err), -1);
    }
    seen[0] = '\0';
    assert_int_equal(
        audit_each(db, &(struct audit_filter){.account_id = 0, .limit = 9},
                   note_event, NULL, NULL),
        0);
    assert_string_equal(seen, "flip ");
}

static int add_up(void *ctx, const struct account_count *count)
{
    if (count->accounts > 0) {
        note(count->domain);
        note(account_route_name(count->route));
        note(account_copy_name(count->copy));
        note(count->accounts == 1 ? "1 " : "2 ");
    }
    (void)ctx;
    return 0;
}

static void test_states_are_counted_as_they_change(void **state)
{
    struct account a;
    int64_t id;

    (void)state;
    add_account(domain_id, "ann@example.net");
    id = add_account(domain_id, "bob@example.net");
    add_account(other_id, "eve@example.org");
    seen[0] = '\0';
    assert_int_equal(account_counts_each(db, add_up, NULL, NULL), 0);
    assert_string_equal(seen,
                        "example.netlegacyinitial2 example.orglegacyinitial1 ");
    a = get(id);
    a.route = ROUTE_LOCAL;
    a.copy = COPY_TRAIL;
    update(&a);
    update(&a); /* nothing changes */
    seen[0] = '\0';
    assert_int_equal(account_counts_each(db, add_up, NULL, NULL), 0);
    assert_string_equal(seen, "example.netlegacyinitial1 "
                              "example.netlocaltrail1 "
                              "example.orglegacyinitial1 ");
    assert_int_equal(account_delete(db, id, NULL), 0);
    seen[0] = '\0';
    assert_int_equal(account_counts_each(db, add_up, NULL, NULL), 0);
    assert_string_equal(seen,
                        "example.netlegacyinitial1 example.orglegacyinitial1 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_names_go_there_and_back),
        TEST(test_the_control_db_has_one_opener),
        TEST(test_only_sqlite_databases_are_known),
        TEST(test_an_account_comes_back_as_it_was_written),
        TEST(test_an_unknown_prefix_is_not_an_empty_one),
        TEST(test_the_loser_of_two_first_logins_reads_the_winners_row),
        TEST(test_an_account_needs_its_domain),
        TEST(test_ids_are_never_used_twice),
        TEST(test_each_goes_by_address_and_stops_when_told),
        TEST(test_rows_may_be_changed_while_they_are_walked),
        TEST(test_unsettled_are_the_held_and_those_local_does_not_know),
        TEST(test_seals_and_hashes_stand_apart_from_the_row),
        TEST(test_secrets_go_with_their_account),
        TEST(test_totals_add_up_by_domain),
        TEST(test_audit_is_read_newest_first),
        TEST(test_audit_can_only_grow),
        TEST(test_states_are_counted_as_they_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
