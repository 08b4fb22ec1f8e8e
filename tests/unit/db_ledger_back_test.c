#include "db/ledger.h"

#include "tests/unit/db_fixture.h"

static struct ledger *ledger;
static int64_t inbox;

static int open_ledger(void **state)
{
    struct ledger_folder row = {.name = (char *)"INBOX",
                                .directory = (char *)"",
                                .separator = '/',
                                .uidvalidity = 7};
    struct err err;

    if (make_folder(state) == -1 || ledger_open(folder, &ledger, &err) == -1 ||
        ledger_folder_save(ledger, &row, &err) == -1)
        return -1;
    inbox = row.id;
    return 0;
}

static int close_ledger(void **state)
{
    (void)state;
    ledger_close(&ledger);
    remove_tree(folder);
    return 0;
}

struct seen {
    unsigned count;
    struct ledger_back last;
    char error[64];
};

static int on_back(void *ctx, int64_t of, const struct ledger_back *back,
                   struct err *err)
{
    struct seen *seen = ctx;

    (void)err;
    assert_int_equal(of, inbox);
    seen->count++;
    seen->last = *back;
    snprintf(seen->error, sizeof(seen->error), "%s",
             back->error ? back->error : "");
    return 0;
}

static struct seen look(void)
{
    struct seen seen = {.count = 0};

    assert_int_equal(ledger_backs(ledger, inbox, on_back, &seen, NULL), 0);
    return seen;
}

static void test_an_intent_is_found_until_it_is_removed(void **state)
{
    const struct ledger_back back = {.uidvalidity = 7,
                                     .uid = 1010,
                                     .first = 12,
                                     .flags = 8,
                                     .keywords = 5,
                                     .date = 1000000000,
                                     .size = 99,
                                     .vsize = 101,
                                     .digest = {1, 2, 3}};
    struct seen seen;

    (void)state;
    assert_int_equal(ledger_back_save(ledger, inbox, &back, NULL), 0);
    assert_int_equal(ledger_back_save(ledger, inbox, &back, NULL), 0);
    seen = look();
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.last.state, LEDGER_BACK_INTENT);
    assert_int_equal(seen.last.uid, 1010);
    assert_int_equal(seen.last.first, 12);
    assert_int_equal(seen.last.keywords, 5);
    assert_int_equal(seen.last.vsize, 101);
    assert_memory_equal(seen.last.digest, back.digest, LEDGER_DIGEST_SIZE);
    assert_int_equal(ledger_back_remove(ledger, inbox, 7, 1010, NULL), 0);
    assert_int_equal(look().count, 0);
}

static void test_only_what_was_refused_is_forgotten_by_a_new_pass(void **state)
{
    struct ledger_back back = {.uidvalidity = 7, .uid = 1};

    (void)state;
    assert_int_equal(ledger_back_save(ledger, inbox, &back, NULL), 0);
    back.uid = 2;
    back.state = LEDGER_BACK_REFUSED;
    back.error = "too large";
    assert_int_equal(ledger_back_save(ledger, inbox, &back, NULL), 0);
    assert_string_equal(look().error, "too large");
    back = (struct ledger_back){.state = LEDGER_BACK_SPACE, .first = 30};
    assert_int_equal(ledger_back_save(ledger, inbox, &back, NULL), 0);
    assert_int_equal(look().count, 3);
    assert_int_equal(ledger_back_forget_refused(ledger, NULL), 0);
    assert_int_equal(look().count, 2);
}

static void test_what_went_back_counts_as_being_in_the_store(void **state)
{
    const struct ledger_message row = {
        .uid = 12, .state = LEDGER_RETURNED, .size = 40, .local_uid = 1010};
    int64_t messages, bytes;

    (void)state;
    assert_int_equal(ledger_message_save(ledger, inbox, &row, NULL), 0);
    assert_int_equal(
        ledger_totals(ledger, inbox, &messages, &bytes, NULL, NULL), 0);
    assert_int_equal(messages, 1);
    assert_int_equal(bytes, 40);
}

static int on_file(void *ctx, const char *file, uint32_t uid)
{
    char *list = ctx;
    size_t used = strlen(list);

    snprintf(list + used, 200 - used, "%s=%u ", file, uid);
    return 0;
}

static void test_superseded_files_come_in_the_order_of_their_names(void **state)
{
    char list[200] = "";

    (void)state;
    assert_int_equal(ledger_superseded_add(ledger, inbox, "b", 2, NULL), 0);
    assert_int_equal(ledger_superseded_add(ledger, inbox, "a", 3, NULL), 0);
    assert_int_equal(ledger_superseded_add(ledger, inbox, "c", 4, NULL), 0);
    assert_int_equal(ledger_superseded_remove(ledger, inbox, "b", NULL), 0);
    assert_int_equal(ledger_superseded(ledger, inbox, on_file, list, NULL), 0);
    assert_string_equal(list, "a=3 c=4 ");
    /* another UIDVALIDITY: nothing is known of it any more */
    assert_int_equal(ledger_folder_empty(ledger, inbox, NULL), 0);
    list[0] = '\0';
    assert_int_equal(ledger_superseded(ledger, inbox, on_file, list, NULL), 0);
    assert_string_equal(list, "");
}

int main(void)
{
#define WITH_LEDGER(test)                                                      \
    cmocka_unit_test_setup_teardown(test, open_ledger, close_ledger)
    const struct CMUnitTest tests[] = {
        WITH_LEDGER(test_an_intent_is_found_until_it_is_removed),
        WITH_LEDGER(test_only_what_was_refused_is_forgotten_by_a_new_pass),
        WITH_LEDGER(test_what_went_back_counts_as_being_in_the_store),
        WITH_LEDGER(test_superseded_files_come_in_the_order_of_their_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
