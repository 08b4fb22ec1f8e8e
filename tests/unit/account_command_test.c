/*
 * The administrator's commands leave an audit: who, why, before, after.
 */
#include "account/command.h"

#include "account/wire.h"
#include "db/audit.h"
#include "tests/unit/db_fixture.h"

#define ANN "ann@example.net"

static int start(void **state)
{
    if (open_control(state) == -1)
        return -1;
    add_account(add_domain("example.net"), ANN);
    return 0;
}

static json_t *run(json_t *request)
{
    struct command c = {
        .db = db, .actor = "uid 7 (bob)", .now_ms = 1700000000000};
    json_t *result = NULL;
    struct err err;

    if (command_run(&c, request, &result, &err) == -1)
        fail_msg("%s", err.text);
    json_decref(request);
    return result;
}

/* The newest entry that `audit` tells of this subject; decref the result. */
static json_t *newest(const char *subject, const json_t **entry_out)
{
    json_t *result =
        run(json_pack("{s:s,s:s}", "cmd", "audit", "address", subject));

    *entry_out = json_array_get(json_object_get(result, "entries"), 0);
    assert_non_null(*entry_out);
    return result;
}

static void expect(const json_t *entry, const char *field, const char *text)
{
    const char *is = wire_text(entry, field);

    if (!is || strcmp(is, text) != 0)
        fail_msg("%s is \"%s\", not \"%s\"", field, is ? is : "null", text);
}

static void test_a_command_tells_who_why_before_and_after(void **state)
{
    const json_t *entry;
    json_t *result;

    (void)state;
    json_decref(run(json_pack("{s:s,s:s,s:s}", "cmd", "account pause",
                              "address", ANN, "reason", "ticket 12")));
    result = newest(ANN, &entry);
    expect(entry, "actor", "uid 7 (bob)");
    expect(entry, "event", "account pause");
    expect(entry, "address", ANN);
    expect(entry, "reason", "ticket 12");
    expect(entry, "was", "copy=initial");
    expect(entry, "became", "copy=paused");
    assert_int_equal(wire_int(entry, "at", 0), 1700000000000);
    json_decref(result);
}

/* Legacy takes no mail for it any more, which would bounce. */
static void test_nobody_of_a_closed_domain_is_taken_back(void **state)
{
    struct command c = {
        .db = db, .actor = "uid 7 (bob)", .now_ms = 1700000000000};
    json_t *request = json_pack("{s:s,s:s}", "cmd", "rollback", "address", ANN);
    json_t *result = NULL;
    struct account a;
    struct domain d;
    struct err err;

    (void)state;
    assert_int_equal(account_find(db, ANN, &a, NULL), 1);
    a.route = ROUTE_LOCAL;
    a.copy = COPY_DONE;
    a.flipped_at = c.now_ms;
    assert_int_equal(account_update(db, &a, NULL), 0);
    assert_int_equal(domain_get(db, a.domain_id, &d, NULL), 1);
    snprintf(d.master_user, sizeof(d.master_user), "boss");
    d.rollback_days = 14;
    d.closed_at = c.now_ms;
    assert_int_equal(domain_update(db, &d, NULL), 0);
    assert_int_equal(command_run(&c, request, &result, &err), -1);
    assert_non_null(strstr(err.text, "domain reopen"));
    d.closed_at = 0;
    assert_int_equal(domain_update(db, &d, NULL), 0);
    assert_int_equal(command_run(&c, request, &result, &err), 0);
    json_decref(request);
    json_decref(result);
}

static void test_a_removed_account_keeps_its_history(void **state)
{
    const json_t *entry;
    json_t *result;

    (void)state;
    json_decref(
        run(json_pack("{s:s,s:s}", "cmd", "account pause", "address", ANN)));
    json_decref(
        run(json_pack("{s:s,s:s}", "cmd", "account remove", "address", ANN)));
    result = newest(ANN, &entry);
    expect(entry, "event", "account remove");
    assert_null(wire_text(entry, "became"));
    assert_non_null(
        strstr(wire_text(entry, "was"), "route=legacy copy=paused"));
    assert_int_equal(json_array_size(json_object_get(result, "entries")), 2);
    json_decref(result);
}

static void test_a_domain_tells_of_its_accounts_too(void **state)
{
    const json_t *entry;
    json_t *result;

    (void)state;
    json_decref(run(json_pack("{s:s,s:s,s:s}", "cmd", "domain set", "name",
                              "example.net", "cutover", "manual")));
    result = newest("example.net", &entry);
    expect(entry, "was", "cutover=auto");
    expect(entry, "became", "cutover=manual");
    json_decref(result);
    json_decref(
        run(json_pack("{s:s,s:s}", "cmd", "account pause", "address", ANN)));
    result = newest("example.net", &entry);
    expect(entry, "address", ANN);
    json_decref(result);
}

static void test_since_and_limit_bound_the_list(void **state)
{
    json_t *result;

    (void)state;
    for (int i = 0; i < 3; i++)
        json_decref(run(
            json_pack("{s:s,s:s}", "cmd", "account pause", "address", ANN)));
    result = run(json_pack("{s:s,s:i}", "cmd", "audit", "limit", 2));
    assert_int_equal(json_array_size(json_object_get(result, "entries")), 2);
    json_decref(result);
    result = run(json_pack("{s:s,s:I}", "cmd", "audit", "since",
                           (json_int_t)1700000000001));
    assert_int_equal(json_array_size(json_object_get(result, "entries")), 0);
    json_decref(result);
}

static void test_difference_names_only_what_changed(void **state)
{
    struct account was = {.route = ROUTE_HELD, .copy = COPY_FINAL, .epoch = 3};
    struct account is = was;
    struct difference d;

    (void)state;
    is.messages = 5; /* counts with every job */
    assert_false(account_difference(&was, &is, &d));
    is.route = ROUTE_LOCAL;
    is.copy = COPY_TRAIL;
    is.epoch = 4;
    memcpy(is.question, "two words", 10);
    assert_true(account_difference(&was, &is, &d));
    assert_string_equal(d.was, "route=held copy=final epoch=3 question=\"\"");
    assert_string_equal(
        d.became, "route=local copy=trail epoch=4 question=\"two words\"");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_command_tells_who_why_before_and_after),
        TEST(test_nobody_of_a_closed_domain_is_taken_back),
        TEST(test_a_removed_account_keeps_its_history),
        TEST(test_a_domain_tells_of_its_accounts_too),
        TEST(test_since_and_limit_bound_the_list),
        cmocka_unit_test(test_difference_names_only_what_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
