#include "db/db.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/db_fixture.h"

static const char *const one[] = {"CREATE TABLE t (a INTEGER, b TEXT, c BLOB)"};
static const char *const two[] = {"CREATE TABLE t (a INTEGER, b TEXT, c BLOB)",
                                  "ALTER TABLE t ADD COLUMN d TEXT"};
static const char *const broken[] = {
    "CREATE TABLE t (a INTEGER, b TEXT, c BLOB)",
    "ALTER TABLE t ADD COLUMN d TEXT; INSERT INTO nowhere VALUES (1)"};

static char path[128];

static int start(void **state)
{
    if (make_folder(state) == -1)
        return -1;
    snprintf(path, sizeof(path), "%s/some.db", folder);
    return 0;
}

static struct db *open_with(const char *const *scripts, int count)
{
    const struct db_options options = {
        .create = true, .scripts = scripts, .script_count = count};
    struct db *opened;
    struct err err;

    if (db_open(path, &options, &opened, &err) == -1)
        fail_msg("%s", err.text);
    return opened;
}

static int64_t ask(struct db *d, const char *sql)
{
    struct err err;
    struct db_statement *s = db_prepare(d, sql, &err);
    int64_t value;

    if (s == NULL || db_step(s, &err) != 1)
        fail_msg("%s", err.text);
    value = db_int(s, 0);
    db_finish(s);
    return value;
}

static void run(struct db *d, const char *sql)
{
    struct err err;
    struct db_statement *s = db_prepare(d, sql, &err);

    if (s == NULL || db_run(s, &err) == -1)
        fail_msg("%s", err.text);
}

static void test_a_database_is_made_with_its_settings(void **state)
{
    struct stat is;

    (void)state;
    db = open_with(one, 1);
    assert_int_equal(ask(db, "PRAGMA user_version"), 1);
    assert_int_equal(ask(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(ask(db, "PRAGMA secure_delete"), 1);
    assert_int_equal(ask(db, "PRAGMA synchronous"), 2);
    assert_int_equal(ask(db, "SELECT journal_mode = 'wal' "
                             "FROM pragma_journal_mode"),
                     1);
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 0777, 0640);
    db_close(&db);
}

static void test_sync_is_as_asked(void **state)
{
    static const enum db_sync asked[] = {DB_SYNC_OFF, DB_SYNC_NORMAL,
                                         DB_SYNC_FULL};

    (void)state;
    for (int i = 0; i < 3; i++) {
        const struct db_options options = {.create = true, .sync = asked[i]};

        assert_int_equal(db_open(path, &options, &db, NULL), 0);
        assert_int_equal(ask(db, "PRAGMA synchronous"), i);
        db_close(&db);
    }
}

static void test_a_missing_database_is_not_made_unasked(void **state)
{
    const struct db_options options = {.is_alone = true};
    struct err err;

    (void)state;
    assert_int_equal(db_open(path, &options, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_null(db);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_what_is_no_database_is_an_operators_matter(void **state)
{
    const struct db_options options = {.create = true};
    FILE *f = fopen(path, "w");
    struct err err;

    (void)state;
    for (int i = 0; i < 1000; i++)
        fputs("this is no database\n", f);
    fclose(f);
    assert_int_equal(db_open(path, &options, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

static void test_upgrades_run_once_and_keep_rows(void **state)
{
    (void)state;
    db = open_with(one, 1);
    run(db, "INSERT INTO t VALUES (7, 'x', NULL)");
    db_close(&db);
    for (int i = 0; i < 2; i++) {
        db = open_with(two, 2);
        assert_int_equal(ask(db, "PRAGMA user_version"), 2);
        assert_int_equal(ask(db, "SELECT a FROM t WHERE d IS NULL"), 7);
        db_close(&db);
    }
}

static void test_a_newer_database_is_refused(void **state)
{
    const struct db_options options = {
        .create = true, .scripts = one, .script_count = 1};
    struct err err;

    (void)state;
    db = open_with(two, 2);
    db_close(&db);
    assert_int_equal(db_open(path, &options, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_non_null(strstr(err.text, "newer"));
    assert_null(db);
}

static void test_a_failing_upgrade_leaves_nothing_behind(void **state)
{
    const struct db_options options = {
        .create = true, .scripts = broken, .script_count = 2};
    struct err err;

    (void)state;
    assert_int_equal(db_open(path, &options, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    db = open_with(one, 1);
    assert_int_equal(ask(db, "SELECT count(*) FROM pragma_table_info('t')"), 3);
    db_close(&db);
}

static void test_read_only_reads_and_does_not_upgrade(void **state)
{
    struct db_options options = {
        .read_only = true, .scripts = one, .script_count = 1};
    struct db_statement *s;

    (void)state;
    db = open_with(one, 1);
    run(db, "INSERT INTO t VALUES (7, 'x', NULL)");
    db_close(&db);
    assert_int_equal(db_open(path, &options, &db, NULL), 0);
    assert_int_equal(ask(db, "SELECT a FROM t"), 7);
    s = db_prepare(db, "DELETE FROM t", NULL);
    assert_true(s == NULL || db_run(s, NULL) == -1);
    db_close(&db);
    options.scripts = two;
    options.script_count = 2;
    assert_int_equal(db_open(path, &options, &db, NULL), -1);
}

static void test_values_come_back_as_they_went(void **state)
{
    struct db_statement *s;
    const void *bytes;
    size_t length;

    (void)state;
    db = open_with(one, 1);
    s = db_prepare(db, "INSERT INTO t VALUES (?1, ?2, ?3)", NULL);
    db_bind_int(s, 1, INT64_MIN);
    db_bind_text(s, 2, "it's");
    db_bind_blob(s, 3, "\0\1\0", 3);
    assert_int_equal(db_run(s, NULL), 0);
    s = db_prepare(db, "SELECT a, b, c, NULL FROM t", NULL);
    assert_int_equal(db_step(s, NULL), 1);
    assert_true(db_int(s, 0) == INT64_MIN);
    assert_string_equal(db_text(s, 1), "it's");
    bytes = db_blob(s, 2, &length);
    assert_int_equal(length, 3);
    assert_memory_equal(bytes, "\0\1\0", 3);
    assert_true(db_is_null(s, 3));
    assert_string_equal(db_text(s, 3), "");
    db_blob(s, 3, &length);
    assert_int_equal(length, 0);
    assert_int_equal(db_step(s, NULL), 0);
    db_close(&db);
}

static void test_empty_blobs_and_null_texts_are_told_apart(void **state)
{
    struct db_statement *s;

    (void)state;
    db = open_with(one, 1);
    s = db_prepare(db, "INSERT INTO t VALUES (1, ?1, ?2)", NULL);
    db_bind_text(s, 1, NULL);
    db_bind_blob(s, 2, NULL, 0);
    assert_int_equal(db_run(s, NULL), 0);
    assert_int_equal(ask(db, "SELECT b IS NULL AND c IS NOT NULL FROM t"), 1);
    db_close(&db);
}

static void test_a_cached_statement_forgets_its_last_parameters(void **state)
{
    static const char sql[] = "INSERT INTO t VALUES (?1, ?2, NULL)";
    struct db_statement *s;

    (void)state;
    db = open_with(one, 1);
    s = db_prepare(db, sql, NULL);
    db_bind_int(s, 1, 1);
    db_bind_text(s, 2, "x");
    assert_int_equal(db_run(s, NULL), 0);
    assert_ptr_equal(db_prepare(db, sql, NULL), s);
    assert_int_equal(db_run(s, NULL), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM t WHERE a IS NULL AND "
                             "b IS NULL"),
                     1);
    db_close(&db);
}

static void test_the_same_question_inside_its_own_loop_is_safe(void **state)
{
    static const char sql[] = "SELECT a FROM t ORDER BY a";
    struct db_statement *outer, *inner;
    int64_t sum = 0;

    (void)state;
    db = open_with(one, 1);
    run(db, "INSERT INTO t (a) VALUES (1), (2), (3)");
    outer = db_prepare(db, sql, NULL);
    while (db_step(outer, NULL) == 1) {
        inner = db_prepare(db, sql, NULL);
        while (db_step(inner, NULL) == 1)
            sum += db_int(outer, 0) * db_int(inner, 0);
    }
    assert_int_equal(sum, 36);
    db_close(&db);
}

static void test_wrong_statements_and_parameters_are_errors(void **state)
{
    struct db_statement *s;
    struct err err;

    (void)state;
    db = open_with(one, 1);
    assert_null(db_prepare(db, "SELECT x FROM nowhere", &err));
    assert_int_equal(err.kind, ERR_SETUP);
    s = db_prepare(db, "INSERT INTO t (a) VALUES (?1)", NULL);
    db_bind_int(s, 2, 1);
    assert_int_equal(db_run(s, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    s = db_prepare(db, "INSERT INTO t (a) VALUES (?1)", NULL);
    db_bind_int(s, 1, 1);
    assert_int_equal(db_run(s, &err), 0);
    db_close(&db);
}

static void test_transactions_hold_together(void **state)
{
    (void)state;
    db = open_with(one, 1);
    assert_false(db_in_transaction(db));
    assert_int_equal(db_begin(db, NULL), 0);
    assert_true(db_in_transaction(db));
    run(db, "INSERT INTO t (a) VALUES (1)");
    db_rollback(db);
    assert_false(db_in_transaction(db));
    db_rollback(db);
    assert_int_equal(db_begin(db, NULL), 0);
    run(db, "INSERT INTO t (a) VALUES (2)");
    assert_int_equal(db_changed_rows(db), 1);
    assert_int_equal(db_commit(db, NULL), 0);
    assert_int_equal(ask(db, "SELECT sum(a) FROM t"), 2);
    db_close(&db);
}

static void test_a_second_connection_sees_only_commits(void **state)
{
    struct db *second;

    (void)state;
    db = open_with(one, 1);
    second = open_with(one, 1);
    assert_int_equal(db_begin(db, NULL), 0);
    run(db, "INSERT INTO t (a) VALUES (1)");
    assert_int_equal(ask(second, "SELECT count(*) FROM t"), 0);
    assert_int_equal(db_commit(db, NULL), 0);
    assert_int_equal(ask(second, "SELECT count(*) FROM t"), 1);
    db_close(&second);
    db_close(&db);
}

static void test_only_one_process_is_alone(void **state)
{
    const struct db_options options = {.create = true, .is_alone = true};
    struct db *second = NULL;
    struct err err;

    (void)state;
    assert_int_equal(db_open(path, &options, &db, NULL), 0);
    assert_int_equal(db_open(path, &options, &second, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    assert_null(second);
    db_close(&db);
    assert_int_equal(db_open(path, &options, &db, NULL), 0);
    db_close(&db);
}

static void test_commits_survive_a_killed_process(void **state)
{
    pid_t child;
    int status;

    (void)state;
    db = open_with(one, 1);
    db_close(&db);
    child = fork();
    if (child == 0) {
        db = open_with(one, 1);
        run(db, "INSERT INTO t (a) VALUES (1)");
        db_begin(db, NULL);
        run(db, "INSERT INTO t (a) VALUES (2)");
        _exit(0); /* as kill -9 leaves it */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    db = open_with(one, 1);
    assert_int_equal(ask(db, "SELECT sum(a) FROM t"), 1);
    db_close(&db);
}

static bool disk_has(const char *name, const char *words)
{
    static char bytes[1 << 20];
    FILE *f = fopen(name, "r");
    size_t length;

    if (f == NULL)
        return false;
    length = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    return memmem(bytes, length, words, strlen(words)) != NULL;
}

static void test_what_is_wiped_leaves_the_disk_at_the_checkpoint(void **state)
{
    char wal[160];

    (void)state;
    snprintf(wal, sizeof(wal), "%s-wal", path);
    db = open_with(one, 1);
    run(db, "INSERT INTO t (a, b) VALUES (1, 'swordfish')");
    assert_int_equal(ask(db, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    assert_true(disk_has(path, "swordfish"));
    run(db, "UPDATE t SET b = NULL");
    assert_int_equal(ask(db, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    assert_false(disk_has(path, "swordfish"));
    assert_false(disk_has(wal, "swordfish"));
    db_close(&db);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_database_is_made_with_its_settings),
        TEST(test_sync_is_as_asked),
        TEST(test_a_missing_database_is_not_made_unasked),
        TEST(test_what_is_no_database_is_an_operators_matter),
        TEST(test_upgrades_run_once_and_keep_rows),
        TEST(test_a_newer_database_is_refused),
        TEST(test_a_failing_upgrade_leaves_nothing_behind),
        TEST(test_read_only_reads_and_does_not_upgrade),
        TEST(test_values_come_back_as_they_went),
        TEST(test_empty_blobs_and_null_texts_are_told_apart),
        TEST(test_a_cached_statement_forgets_its_last_parameters),
        TEST(test_the_same_question_inside_its_own_loop_is_safe),
        TEST(test_wrong_statements_and_parameters_are_errors),
        TEST(test_transactions_hold_together),
        TEST(test_a_second_connection_sees_only_commits),
        TEST(test_only_one_process_is_alone),
        TEST(test_commits_survive_a_killed_process),
        TEST(test_what_is_wiped_leaves_the_disk_at_the_checkpoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
