#include "db/auth.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/db_fixture.h"

/* Some uid and gid that own nothing of ours; root alone can become them. */
#define READER_UID 65501
#define READER_GID 65502

static char path[128];

static int start(void **state)
{
    if (make_folder(state) == -1)
        return -1;
    snprintf(path, sizeof(path), "%s/dovecot/auth.db", folder);
    return chmod(folder, 0755);
}

static struct auth_user ann(void)
{
    return (struct auth_user){.username = "ann@example.net",
                              .password = "{SHA512-CRYPT}$6$x$y",
                              .home = "/var/mail/example.net/ann",
                              .mail = "maildir:/var/mail/example.net/ann/M",
                              .uid = 8,
                              .gid = 9,
                              .prefix = "INBOX.",
                              .separator = ".",
                              .is_active = true,
                              .epoch = 4};
}

static void put(const struct auth_user *user)
{
    struct err err;

    if (auth_put(db, user, &err) == -1)
        fail_msg("%s", err.text);
}

/* One number from the users table. */
static int64_t ask(struct db *d, const char *sql)
{
    struct db_statement *s = db_prepare(d, sql, NULL);
    int64_t value;

    if (s == NULL || db_step(s, NULL) != 1)
        return -1;
    value = db_int(s, 0);
    db_finish(s);
    return value;
}

static void check_mode(const char *ending, mode_t mode, gid_t group)
{
    char name[160];
    struct stat is;

    snprintf(name, sizeof(name), "%s%s", path, ending);
    assert_int_equal(stat(name, &is), 0);
    assert_int_equal(is.st_mode & 07777, mode);
    if (group != (gid_t)-1)
        assert_int_equal(is.st_gid, group);
}

static void test_a_user_stands_in_the_table_as_dovecot_reads_it(void **state)
{
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    assert_int_equal(ask(db, "SELECT count(*) FROM users WHERE "
                             "username = 'ann@example.net' AND "
                             "password = '{SHA512-CRYPT}$6$x$y' AND "
                             "home = '/var/mail/example.net/ann' AND "
                             "mail = 'maildir:/var/mail/example.net/ann/M' AND "
                             "uid = 8 AND gid = 9 AND prefix = 'INBOX.' AND "
                             "separator = '.' AND active = 1 AND epoch = 4"),
                     1);
    user.prefix = user.separator = NULL;
    put(&user);
    put(&user); /* as often as one likes */
    assert_int_equal(ask(db, "SELECT count(*) FROM users WHERE "
                             "prefix IS NULL AND separator IS NULL"),
                     1);
    assert_int_equal(auth_remove(db, "ann@example.net", NULL), 0);
    assert_int_equal(auth_remove(db, "ann@example.net", NULL), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM users"), 0);
}

static void test_an_older_epoch_is_refused(void **state)
{
    struct auth_user user = ann();
    struct err err;

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    user.epoch = 3;
    user.is_active = false;
    assert_int_equal(auth_put(db, &user, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(ask(db, "SELECT active FROM users WHERE epoch = 4"), 1);
    user.epoch = 5;
    put(&user);
    assert_int_equal(ask(db, "SELECT active FROM users WHERE epoch = 5"), 0);
}

static int64_t version_of_ann(void)
{
    int64_t version = -1;

    assert_int_equal(auth_version(db, "ann@example.net", &version, NULL), 0);
    return version;
}

static void test_the_version_changes_with_the_password_alone(void **state)
{
    struct auth_user user = ann();
    int64_t first, second;

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    assert_int_equal(version_of_ann(), 0);
    put(&user);
    first = version_of_ann();
    assert_true(first > 0);
    user.epoch++;
    user.prefix = NULL;
    put(&user);
    assert_int_equal(version_of_ann(), first);
    user.password = "{SHA512-CRYPT}$6$x$z";
    put(&user);
    second = version_of_ann();
    assert_true(second > 0 && second != first);
    user.is_active = false;
    put(&user);
    assert_int_not_equal(version_of_ann(), second);
    assert_int_equal(auth_remove(db, "ann@example.net", NULL), 0);
    assert_int_equal(version_of_ann(), 0);
    user = ann();
    put(&user); /* the first password again, and yet another number */
    assert_int_not_equal(version_of_ann(), first);
}

static void test_the_version_changes_with_locks_and_further_ones(void **state)
{
    struct auth_user user = ann();
    int64_t before, after;

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    before = version_of_ann();
    user.further[user.further_count++] = "{CRYPT}one";
    put(&user);
    after = version_of_ann();
    assert_int_not_equal(after, before);
    put(&user);
    assert_int_equal(version_of_ann(), after);
    user.further[0] = "{CRYPT}two";
    put(&user);
    assert_int_not_equal(version_of_ann(), after);
    after = version_of_ann();
    user.further_count = 0;
    put(&user);
    assert_int_not_equal(version_of_ann(), after);
    after = version_of_ann();
    user.is_login_locked = true;
    put(&user);
    assert_int_not_equal(version_of_ann(), after);
    assert_int_equal(auth_remove(db, "ann@example.net", NULL), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM versions"), 0);
}

static void test_an_empty_password_is_null(void **state)
{
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    user.password = "";
    put(&user);
    assert_int_equal(
        ask(db, "SELECT password IS NULL AND active = 1 FROM users"), 1);
}

static void test_further_passwords_have_slots_and_go_with_the_user(void **state)
{
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    user.further[0] = "{CRYPT}one";
    user.further[1] = "{CRYPT}two";
    user.further_count = 2;
    put(&user);
    assert_int_equal(ask(db, "SELECT count(*) FROM passwords WHERE "
                             "(slot, password) IN "
                             "((1, '{CRYPT}one'), (2, '{CRYPT}two'))"),
                     2);
    user.further[0] = "{CRYPT}three";
    user.further_count = 1;
    put(&user);
    assert_int_equal(ask(db, "SELECT count(*) FROM passwords WHERE "
                             "slot = 1 AND password = '{CRYPT}three'"),
                     1);
    assert_int_equal(ask(db, "SELECT count(*) FROM passwords"), 1);
    /* a refused change changes nothing of it */
    user.epoch = 1;
    user.further_count = 0;
    assert_int_equal(auth_put(db, &user, NULL), -1);
    assert_int_equal(ask(db, "SELECT count(*) FROM passwords"), 1);
    assert_int_equal(auth_remove(db, user.username, NULL), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM passwords"), 0);
}

static void test_locks_stand_beside_active(void **state)
{
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    assert_int_equal(
        ask(db, "SELECT can_login = 1 AND can_submit = 1 FROM users"), 1);
    user.is_login_locked = true;
    put(&user);
    assert_int_equal(ask(db, "SELECT active = 1 AND can_login = 0 AND "
                             "can_submit = 1 FROM users"),
                     1);
}

static void test_when_a_password_was_set_here_is_kept(void **state)
{
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    assert_int_equal(ask(db, "SELECT set_at FROM users"), 0);
    user.set_at = 1700000000123;
    put(&user);
    assert_int_equal(ask(db, "SELECT set_at = 1700000000123 FROM users"), 1);
}

static void test_a_file_of_the_first_version_is_upgraded(void **state)
{
    static const char *const first[] = {
        "CREATE TABLE users ("
        " username TEXT PRIMARY KEY, password TEXT, home TEXT, mail TEXT,"
        " uid INTEGER, gid INTEGER, prefix TEXT, separator TEXT,"
        " active INTEGER, epoch INTEGER);"
        "INSERT INTO users VALUES ('old@example.net', '{CRYPT}x', '/h', 'm', "
        "1, 1, NULL, NULL, 1, 3)"};
    const struct db_options options = {
        .create = true, .scripts = first, .script_count = 1};
    struct auth_user user = ann();

    (void)state;
    assert_int_equal(auth_prepare(path, (uid_t)-1, (gid_t)-1, NULL), 0);
    assert_int_equal(db_open(path, &options, &db, NULL), 0);
    db_close(&db);
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    put(&user);
    assert_int_equal(ask(db, "SELECT count(*) FROM users JOIN versions "
                             "USING (username) WHERE active = 1 AND "
                             "can_login = 1 AND can_submit = 1"),
                     2);
}

static void test_modes_do_not_depend_on_the_umask(void **state)
{
    static const mode_t masks[] = {0, 022, 077};

    (void)state;
    for (int i = 0; i < 3; i++) {
        mode_t old = umask(masks[i]);
        struct auth_user user = ann();
        char directory[128];
        struct stat is;

        assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
        umask(old);
        put(&user);
        check_mode("", 0660, (gid_t)-1);
        check_mode("-wal", 0660, (gid_t)-1);
        check_mode("-shm", 0660, (gid_t)-1);
        snprintf(directory, sizeof(directory), "%s/dovecot", folder);
        assert_int_equal(stat(directory, &is), 0);
        assert_int_equal(is.st_mode & 07777, 02770);
        db_close(&db);
        check_mode("-wal", 0660, (gid_t)-1); /* kept for the reader */
        remove_tree(directory);
    }
}

static void test_wrong_modes_of_before_are_put_right(void **state)
{
    char wal[160];

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    db_close(&db);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(wal, 0600), 0);
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    check_mode("", 0660, (gid_t)-1);
    check_mode("-wal", 0660, (gid_t)-1);
}

static void test_what_is_not_our_file_is_not_given_away(void **state)
{
    char precious[128], wal[160];
    struct stat is;

    (void)state;
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), 0);
    db_close(&db);
    snprintf(precious, sizeof(precious), "%s/precious", folder);
    fclose(fopen(precious, "w"));
    assert_int_equal(chmod(precious, 0600), 0);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    unlink(wal);
    assert_int_equal(link(precious, wal), 0);
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), -1);
    unlink(wal);
    assert_int_equal(symlink(precious, wal), 0);
    assert_int_equal(auth_open(path, (gid_t)-1, &db, NULL), -1);
    assert_int_equal(stat(precious, &is), 0);
    assert_int_equal(is.st_mode & 0777, 0600);
}

static void test_it_needs_a_directory_of_its_own(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(auth_open("auth.db", (gid_t)-1, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(auth_open("/auth.db", (gid_t)-1, &db, &err), -1);
    snprintf(path, sizeof(path), "%s/no/such/auth.db", folder);
    assert_int_equal(auth_open(path, (gid_t)-1, &db, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

/* Runs as a member of the group that is not the owner, as Dovecot does. */
static int read_as_group(void)
{
    const struct db_options options = {0};
    const gid_t group = READER_GID;
    struct db *reader;
    int64_t users;

    if (setgroups(1, &group) == -1 || setgid(READER_UID) == -1 ||
        setuid(READER_UID) == -1)
        return 10;
    if (db_open(path, &options, &reader, NULL) == -1)
        return 11;
    users = ask(reader, "SELECT count(*) FROM users WHERE active = 1");
    db_close(&reader);
    return (int)users;
}

static int reader_says(void)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(read_as_group());
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_the_group_reads_while_we_write_and_when_we_are_gone(void **state)
{
    struct auth_user user = ann();

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(auth_prepare(path, (uid_t)-1, READER_GID, NULL), 0);
    assert_int_equal(auth_open(path, READER_GID, &db, NULL), 0);
    put(&user);
    check_mode("", 0660, READER_GID);
    check_mode("-wal", 0660, READER_GID);
    check_mode("-shm", 0660, READER_GID);
    assert_int_equal(reader_says(), 1);
    user.username = "bob@example.net";
    put(&user);
    assert_int_equal(reader_says(), 2);
    db_close(&db);
    assert_int_equal(reader_says(), 2);
    assert_int_equal(auth_open(path, READER_GID, &db, NULL), 0);
    user.username = "cid@example.net";
    put(&user);
    assert_int_equal(reader_says(), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, close_control)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_user_stands_in_the_table_as_dovecot_reads_it),
        TEST(test_an_older_epoch_is_refused),
        TEST(test_the_version_changes_with_the_password_alone),
        TEST(test_the_version_changes_with_locks_and_further_ones),
        TEST(test_an_empty_password_is_null),
        TEST(test_further_passwords_have_slots_and_go_with_the_user),
        TEST(test_locks_stand_beside_active),
        TEST(test_when_a_password_was_set_here_is_kept),
        TEST(test_a_file_of_the_first_version_is_upgraded),
        TEST(test_modes_do_not_depend_on_the_umask),
        TEST(test_wrong_modes_of_before_are_put_right),
        TEST(test_what_is_not_our_file_is_not_given_away),
        TEST(test_it_needs_a_directory_of_its_own),
        TEST(test_the_group_reads_while_we_write_and_when_we_are_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
