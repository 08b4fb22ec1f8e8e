#include "base/conf.h"

#include "tests/unit/base_loopback.h"

static char path[] = "/tmp/base-conf-XXXXXX";

static int load(const char *text, struct conf **conf, struct err *err)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    err_clear(err);
    return conf_load(path, conf, err);
}

/* The file is refused at that line, and the text says so. */
static void refused(const char *text, int line, const char *why)
{
    struct conf *conf;
    struct err err;
    char start[64];

    assert_int_equal(load(text, &conf, &err), -1);
    assert_null(conf);
    assert_int_equal(err.kind, ERR_SETUP);
    snprintf(start, sizeof start, "%s:%d: ", path, line);
    if (strncmp(err.text, start, strlen(start)) != 0 ||
        strstr(err.text, why) == NULL)
        fail_msg("not \"%s...%s\" but \"%s\"", start, why, err.text);
}

static const char whole[] =
    "node: mx1.example.net            # in greetings\n"
    "state_dir: /srv/mailhaul\n"
    "user: mailhaul\n"
    "database: sqlite:control.db\n"
    "roles: [state, login, smtp, jobs]\n"
    "log: {level: debug, to: syslog}\n"
    "tls: {certificate: /c.pem, key: /k.pem, minimum: \"1.3\"}\n"
    "listen:\n"
    "  - {protocol: imap, address: 0.0.0.0, port: 143, tls: starttls}\n"
    "  - {protocol: pop3, address: \"::1\", port: 995, tls: implicit}\n"
    "  - protocol: smtp\n"
    "    address: 192.0.2.1\n"
    "    port: 25\n"
    "    plain_auth: yes\n"
    "local:\n"
    "  imap: imap://127.0.0.1:10143\n"
    "  lmtp: lmtp://127.0.0.1:10024\n"
    "  master_user: mailhaul\n"
    "  master_password_file: /etc/mailhaul/local-master\n"
    "store: {type: maildir, path: \"/var/mail/{domain}/{local}\", owner: v,\n"
    "        reserve: {bytes: 3G, inodes: 5k}}\n"
    "provision: {dovecot: dovecot/auth.db, doveadm: [doveadm, -v]}\n"
    "jobs: {workers: 7, per_host: 9, retry_seconds: 3}\n"
    "login: {processes: 2, hold_quiet_ms: 100, remember_minutes: 0}\n"
    "hash: {scheme: YESCRYPT, cost: 5}\n";

static void test_every_key_is_read(void **state)
{
    struct conf *conf;
    struct err err;

    (void)state;
    if (load(whole, &conf, &err) == -1)
        fail_msg("%s", err.text);
    assert_string_equal(conf->path, path);
    assert_string_equal(conf->node, "mx1.example.net");
    assert_string_equal(conf->user, "mailhaul");
    assert_int_equal(conf->roles.count, 4);
    assert_string_equal(conf->roles.items[3], "jobs");
    assert_string_equal(conf->log.to, "syslog");
    assert_string_equal(conf->tls.minimum, "1.3");
    assert_null(conf->tls.ca_file);
    assert_int_equal(conf->listen_count, 3);
    assert_int_equal(conf->listen[0].tls, TLS_STARTTLS);
    assert_int_equal(conf->listen[1].protocol, CONF_POP3);
    assert_int_equal(conf->listen[1].port, 995);
    assert_int_equal(conf->listen[2].tls, TLS_NONE);
    assert_true(conf->listen[2].plain_auth);
    assert_string_equal(conf->local.lmtp, "lmtp://127.0.0.1:10024");
    assert_string_equal(conf->local.master_user, "mailhaul");
    assert_string_equal(conf->local.master_password_file,
                        "/etc/mailhaul/local-master");
    assert_int_equal(conf->login.remember_minutes, 0);
    assert_string_equal(conf->store.owner, "v");
    assert_int_equal(conf->store.reserve.bytes_kept, 3ull << 30);
    assert_int_equal(conf->store.reserve.inodes_kept, 5120);
    assert_int_equal(conf->provision.doveadm.count, 2);
    assert_int_equal(conf->provision.command.count, 0);
    assert_int_equal(conf->jobs.workers, 7);
    assert_int_equal(conf->jobs.trail_seconds, 900);
    assert_int_equal(conf->login.hold_force_ms, 5000);
    assert_int_equal(conf->hash.cost, 5);
    conf_free(&conf);
    assert_null(conf);
}

static void test_what_is_not_written_is_default(void **state)
{
    struct conf *conf;
    struct err err;
    char *joined;

    (void)state;
    assert_int_equal(load("", &conf, &err), -1);
    assert_non_null(strstr(err.text, ":1: the file is empty"));
    assert_int_equal(load("log: {level: info}\n", &conf, &err), 0);
    assert_string_equal(conf->state_dir, "/var/lib/mailhaul");
    assert_string_equal(conf->database, "sqlite:control.db");
    assert_true(conf->node[0] != '\0');
    assert_null(conf->user);
    assert_int_equal(conf->roles.count, 3);
    assert_int_equal(conf->jobs.per_host, 8);
    assert_int_equal(conf->login.hold_quiet_ms, 300);
    assert_int_equal(conf->login.remember_minutes, 10);
    assert_null(conf->local.master_user);
    assert_int_equal(conf->store.reserve.bytes_kept, 1u << 30);
    assert_int_equal(conf->store.reserve.inodes_kept, 10000);
    assert_string_equal(conf->hash.scheme, "SHA512-CRYPT");
    joined = conf_state_path(conf, "ledger");
    assert_string_equal(joined, "/var/lib/mailhaul/ledger");
    free(joined);
    joined = conf_state_path(conf, "/abs");
    assert_string_equal(joined, "/abs");
    free(joined);
    conf_free(&conf);
}

static void test_what_is_not_served_yet_is_read_and_named(void **state)
{
    const char *keys[CONF_UNSERVED_MAX];
    struct conf *conf;
    struct err err;

    (void)state;
    assert_int_equal(
        load("roles: [login, smtp, jobs, fetch, admin]\n"
             "listen:\n"
             "  - {protocol: imap, address: 127.0.0.1, port: 1}\n"
             "  - {protocol: sieve, address: 127.0.0.1, port: 2, "
             "group: business}\n"
             "local: {submission: 'smtp://h', sieve: 'sieve://h'}\n"
             "admin: {address: 127.0.0.1, port: 8025}\n",
             &conf, &err),
        0);
    assert_int_equal(conf_unserved(conf, keys), CONF_UNSERVED_MAX);
    conf_free(&conf);
    assert_int_equal(load("roles: [login, smtp, jobs]\n", &conf, &err), 0);
    assert_int_equal(conf_unserved(conf, keys), 0);
    conf_free(&conf);
    refused("roles: [login, mystery]\n", 1, "no role");
}

static void test_a_mistake_is_told_with_its_line(void **state)
{
    (void)state;
    refused("node: x\nuser: y\nbogus: 1\n", 3, "bogus");
    refused("node: x\nlog:\n  level: info\n  too: y\n", 4, "too");
    refused("node: x\nnode: y\n", 2, "node");
    refused("hash:\n  scheme: YESCRYPT\n  cost: 12\n", 3, "1 to 11");
    refused("hash: {scheme: BCRYPT, cost: 3}\n", 1, "4 to 16");
    refused("hash: {cost: 999}\n", 1, "1000 to 10000000");
    refused("hash: {cost: 10000001}\n", 1, "SHA512-CRYPT");
    refused("hash: {scheme: MD4}\n", 1, "MD4");
    refused("listen:\n  - {protocol: imapx, address: ::1, port: 1}\n", 2,
            "imapx");
    refused("listen:\n  - {protocol: imap, address: 127.0.0.1, port: 70000}\n",
            2, "port");
    refused("listen:\n  - {protocol: imap, address: 127.0.0.1}\n", 2, "port");
    refused("jobs:\n  workers: many\n", 2, "workers");
    refused("jobs:\n  workers: -1\n", 2, "workers");
    refused("node: [a\n", 1, "");
    refused("listen: 5\n", 1, "");
}

static void test_values_are_bounded(void **state)
{
    (void)state;
    refused("# port: 1\nlisten:\n"
            "  - {protocol: imap, address: 127.0.0.1, port: 143}\n"
            "  - {protocol: imap, address: 127.0.0.1, port: 0}\n",
            4, "port");
    refused("listen:\n  - {protocol: imap, address: localhost, port: 1}\n", 2,
            "numeric");
    refused("listen:\n"
            "  - {protocol: imap, address: \"::\", port: 1, tls: implicit}\n",
            2, "certificate");
    refused("node: x\nroles: [login, logn]\n", 2, "logn");
    refused("log: {level: loud}\n", 1, "loud");
    refused("\n\ntls:\n  minimum: 1.4\n", 4, "1.4");
    refused("\ntls: {certificate: /c}\n", 2, "key");
    refused("login:\n  processes: 1\njobs:\n  workers: 5000\n", 4, "5000");
    refused("store: {type: mbox}\n", 1, "mbox");
    refused("store:\n  path: mail\n", 2, "absolute");
    refused("state_dir: here\n", 1, "absolute");
    refused("database: mysql:x\n", 1, "sqlite");
    refused("login:\n  remember_minutes: 2000\n", 2, "2000");
    refused("local:\n  master_user: m\n", 1, "need each other");
    refused("local:\n  master_user: m\n  master_password_file: here\n", 3,
            "absolute");
    refused("hash:\n  scheme: MD5\n", 2, "MD5");
    refused("store:\n  reserve:\n    bytes: 10GB\n", 3, "10GB");
    refused("store: {reserve: {bytes: -1}}\n", 1, "no size");
    refused("store: {reserve: {bytes: 9999999999G}}\n", 1, "no size");
    refused("store:\n  reserve: {bytes: 1, inodes: many}\n", 2, "many");
}

static void test_a_missing_file_is_a_setup_error(void **state)
{
    struct conf *conf;
    struct err err = {0};

    (void)state;
    assert_int_equal(conf_load("/no/such.yaml", &conf, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_non_null(strstr(err.text, "/no/such.yaml: No such file"));
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    close(fd);
    return fd == -1;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_what_is_not_written_is_default),
        cmocka_unit_test(test_what_is_not_served_yet_is_read_and_named),
        cmocka_unit_test(test_a_mistake_is_told_with_its_line),
        cmocka_unit_test(test_values_are_bounded),
        cmocka_unit_test(test_a_missing_file_is_a_setup_error),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
