#include "account/provision.h"

#include <pwd.h>
#include <sys/stat.h>

#include "tests/unit/db_fixture.h"

static struct conf conf;
static struct provision *provision;
static char state_dir[64];
static char template[256];

static int start(void **state)
{
    if (make_folder(state) == -1)
        return -1;
    memset(&conf, 0, sizeof(conf));
    snprintf(state_dir, sizeof(state_dir), "%s", folder);
    snprintf(template, sizeof(template), "/var/mail/{domain}/{local}/Maildir");
    conf.state_dir = state_dir;
    conf.store.path = template;
    conf.provision.dovecot = (char *)(uintptr_t) "dovecot/auth.db";
    return 0;
}

static int stop(void **state)
{
    provision_close(&provision);
    return close_control(state);
}

static void open_provision(void)
{
    struct err err;

    if (provision_open(&conf, &provision, &err) == -1)
        fail_msg("%s", err.text);
}

static struct account ann(void)
{
    struct account a = {.route = ROUTE_LEGACY, .copy = COPY_DELTA, .epoch = 2};

    snprintf(a.address, sizeof(a.address), "ann@example.net");
    return a;
}

static void apply(const struct account *a, const char *hash)
{
    struct credential_hashes hashes = {.count = 1};
    struct err err;

    snprintf(hashes.items[0], sizeof(hashes.items[0]), "%s",
             hash == NULL ? "" : hash);
    if (provision_apply(provision, a, &hashes, &err) == -1)
        fail_msg("%s", err.text);
}

/* 1 if the one row of auth.db is so. */
static int64_t row_is(const char *sql)
{
    const struct db_options options = {.read_only = true};
    struct db_statement *s;
    char path[128];
    struct db *auth;
    int64_t count = -1;

    snprintf(path, sizeof(path), "%s/dovecot/auth.db", folder);
    assert_int_equal(db_open(path, &options, &auth, NULL), 0);
    s = db_prepare(auth, sql, NULL);
    if (s != NULL && db_step(s, NULL) == 1)
        count = db_int(s, 0);
    db_close(&auth);
    return count;
}

static void test_an_account_is_told_inactive_until_the_flip(void **state)
{
    struct account a = ann();

    (void)state;
    open_provision();
    apply(&a, NULL);
    assert_int_equal(
        row_is("SELECT active = 0 AND epoch = 2 AND password IS NULL AND "
               "home = '/var/mail/example.net/ann' AND "
               "mail = 'maildir:/var/mail/example.net/ann/Maildir' AND "
               "prefix IS NULL AND separator IS NULL FROM users "
               "WHERE username = 'ann@example.net'"),
        1);
    a.route = ROUTE_HELD;
    a.epoch = 3;
    apply(&a, "{SHA512-CRYPT}$6$x");
    assert_int_equal(row_is("SELECT active FROM users WHERE epoch = 3"), 0);
    a.route = ROUTE_LOCAL;
    a.epoch = 4;
    apply(&a, "{SHA512-CRYPT}$6$x");
    apply(&a, "{SHA512-CRYPT}$6$x");
    assert_int_equal(row_is("SELECT active = 1 AND "
                            "password = '{SHA512-CRYPT}$6$x' FROM users"),
                     1);
    assert_int_equal(provision_remove(provision, a.address, NULL), 0);
    assert_int_equal(row_is("SELECT count(*) FROM users"), 0);
}

static void test_a_flip_from_the_past_is_refused(void **state)
{
    struct account a = ann();
    struct err err;

    (void)state;
    open_provision();
    a.route = ROUTE_LOCAL;
    a.epoch = 6;
    apply(&a, "{CRYPT}x");
    a.epoch = 5;
    assert_int_equal(provision_apply(provision, &a, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
}

static void check_namespace(bool is_known, const char *prefix,
                            const char *separator, const char *wanted)
{
    struct account a = ann();
    char sql[256];

    a.has_prefix = is_known;
    snprintf(a.legacy_prefix, sizeof(a.legacy_prefix), "%s", prefix);
    snprintf(a.legacy_separator, sizeof(a.legacy_separator), "%s", separator);
    apply(&a, NULL);
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM users WHERE %s", wanted);
    if (row_is(sql) != 1)
        fail_msg("\"%s\" \"%s\" is not: %s", prefix, separator, wanted);
}

static void
test_prefix_and_separator_are_legacys_where_local_can_hold_them(void **state)
{
    (void)state;
    open_provision();
    check_namespace(true, "INBOX.", ".",
                    "prefix = 'INBOX.' AND separator = '.'");
    check_namespace(true, "", "/", "prefix IS NULL AND separator = '/'");
    check_namespace(true, "", ".", "prefix IS NULL AND separator = '.'");
    check_namespace(true, "a%b/", "/", "prefix = 'a%b/'");
    check_namespace(true, "mail", "/", "prefix IS NULL AND separator = '/'");
    check_namespace(true, "mail/", ".", "prefix IS NULL AND separator = '.'");
    check_namespace(true, "Entw&APw-rfe/", "/", "prefix IS NULL");
    check_namespace(true, "a\tb/", "/", "prefix IS NULL");
    check_namespace(true, "mail/", "", "prefix IS NULL");
    check_namespace(true, "", "", "prefix IS NULL AND separator IS NULL");
    check_namespace(true, "", "x", "separator IS NULL");
    check_namespace(true, "", "%", "separator IS NULL");
    check_namespace(true, "", "::", "separator IS NULL");
    check_namespace(false, "INBOX.", ".",
                    "prefix IS NULL AND separator IS NULL");
}

static void check_home(const char *path, const char *wanted)
{
    struct account a = ann();
    char sql[512];

    snprintf(template, sizeof(template), "%s", path);
    apply(&a, NULL);
    snprintf(sql, sizeof(sql), "SELECT home = '%s' FROM users", wanted);
    assert_int_equal(row_is(sql), 1);
}

static void test_homes_are_never_shared(void **state)
{
    (void)state;
    open_provision();
    check_home("/m/{address}/Maildir", "/m/ann@example.net");
    check_home("/m/{domain}/{local}", "/m/example.net/ann");
    check_home("/m/{domain}/{local}/mail/Maildir", "/m/example.net/ann/mail");
    check_home("/m/{local}", "/m/ann");
}

static void test_mail_belongs_to_the_stores_owner(void **state)
{
    const struct passwd *owner = getpwnam("mail");
    struct account a = ann();
    char sql[128];

    (void)state;
    if (owner == NULL)
        skip();
    conf.store.owner = (char *)(uintptr_t) "mail";
    open_provision();
    apply(&a, NULL);
    snprintf(sql, sizeof(sql), "SELECT uid = %d AND gid = %d FROM users",
             (int)owner->pw_uid, (int)owner->pw_gid);
    assert_int_equal(row_is(sql), 1);
}

static void test_settings_that_cannot_be_are_refused(void **state)
{
    char *words[] = {(char *)(uintptr_t) "/bin/true"};
    struct err err;

    (void)state;
    conf.store.owner = (char *)(uintptr_t) "no-such-user";
    assert_int_equal(provision_open(&conf, &provision, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    conf.store.owner = NULL;
    conf.provision.group = (char *)(uintptr_t) "no-such-group";
    assert_int_equal(provision_open(&conf, &provision, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    conf.provision.group = NULL;
    conf.provision.command.items = words;
    conf.provision.command.count = 1;
    assert_int_equal(provision_open(&conf, &provision, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_null(provision);
}

static void test_without_dovecot_nothing_is_written(void **state)
{
    struct account a = ann();
    char path[128];

    (void)state;
    conf.provision.dovecot = NULL;
    assert_int_equal(provision_prepare(&conf, NULL), 0);
    open_provision();
    apply(&a, NULL);
    assert_int_equal(provision_remove(provision, a.address, NULL), 0);
    snprintf(path, sizeof(path), "%s/dovecot", folder);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_root_prepares_for_the_user_we_run_as(void **state)
{
    const struct passwd *user = getpwnam("nobody");
    char path[128];
    struct stat is;

    (void)state;
    if (geteuid() != 0 || user == NULL)
        skip();
    conf.user = (char *)(uintptr_t) "nobody";
    assert_int_equal(provision_prepare(&conf, NULL), 0);
    snprintf(path, sizeof(path), "%s/dovecot/auth.db", folder);
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_uid, user->pw_uid);
    assert_int_equal(is.st_mode & 07777, 0660);
}

static int maildir(const char *path, const char *address, char out[128])
{
    snprintf(template, sizeof(template), "%s", path);
    return provision_maildir(&conf, address, out, 128, NULL);
}

static void test_the_maildir_follows_the_template(void **state)
{
    char out[128];

    (void)state;
    assert_int_equal(
        maildir("/v/{domain}/{local}/Maildir", "ann@example.net", out), 0);
    assert_string_equal(out, "/v/example.net/ann/Maildir");
    assert_int_equal(maildir("/v/{local}", "ann", out), 0);
    assert_string_equal(out, "/v/ann");
}

static void test_the_maildir_never_leaves_the_store(void **state)
{
    static const char *const bad[] = {
        "../x@example.net", "..@example.net",      ".@example.net",
        "a/b@example.net",  "Ann@example.net",     "a+b@example.net",
        "ann@..",           "ann@example.net/../", ""};
    static const char *const bad_templates[] = {
        "v/{local}",          "",
        "/v/../{local}",      "/v//{local}",
        "/v/{local}/",        "/v/./{local}",
        "/v/{local}/..",      "/v/{user}",
        "/v/{local}/{domain}"};
    char out[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(maildir("/v/{domain}/{local}", bad[i], out), -1);
    for (size_t i = 0; i < sizeof(bad_templates) / sizeof(bad_templates[0]);
         i++)
        assert_int_equal(maildir(bad_templates[i], "ann", out), -1);
    conf.store.path = NULL;
    assert_int_equal(provision_maildir(&conf, "ann", out, 128, NULL), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_account_is_told_inactive_until_the_flip),
        TEST(test_a_flip_from_the_past_is_refused),
        TEST(test_prefix_and_separator_are_legacys_where_local_can_hold_them),
        TEST(test_homes_are_never_shared),
        TEST(test_mail_belongs_to_the_stores_owner),
        TEST(test_settings_that_cannot_be_are_refused),
        TEST(test_without_dovecot_nothing_is_written),
        TEST(test_root_prepares_for_the_user_we_run_as),
        TEST(test_the_maildir_follows_the_template),
        TEST(test_the_maildir_never_leaves_the_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
