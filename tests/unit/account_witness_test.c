/*
 * The witness journal: what is written is read again, torn lines cost
 * themselves only, the last line tells the latest generation.
 */
#include "account/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/domain_settings.h"

struct read {
    struct witness last;
    int accounts, domains, gone;
};

static int on_account(void *ctx, const struct witness *w, struct err *err)
{
    struct read *r = ctx;

    (void)err;
    r->last = *w;
    r->accounts++;
    return 0;
}

static int on_domain(void *ctx, const struct domain *d, bool is_gone,
                     struct err *err)
{
    struct read *r = ctx;

    (void)d;
    (void)err;
    r->domains++;
    r->gone += is_gone;
    return 0;
}

static int temporary(void)
{
    char path[] = "/tmp/witness-test-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd != -1);
    unlink(path);
    return fd;
}

static void add(int fd, const char *text)
{
    struct err err;

    assert_int_equal(witness_append(fd, text, strlen(text), &err), 0);
}

static struct witness sample(int64_t generation)
{
    struct witness w = {.generation = generation,
                        .epoch = 3,
                        .route = ROUTE_LOCAL,
                        .at = 1700000000000,
                        .has_prefix = true};

    snprintf(w.address, sizeof(w.address), "u%lld@a.test",
             (long long)generation);
    snprintf(w.legacy_user, sizeof(w.legacy_user), "a b\t%%%c=", 0x7f);
    snprintf(w.separator, sizeof(w.separator), ".");
    return w;
}

static void test_what_is_written_is_read_again(void **state)
{
    struct witness w = sample(7), got;
    char line[WITNESS_LINE_MAX];

    (void)state;
    assert_true(witness_format(&w, 9, line) > 0);
    assert_null(strchr(line, '\t'));
    assert_true(witness_parse(line, &got));
    assert_int_equal(got.generation, 7);
    assert_int_equal(got.epoch, 3);
    assert_int_equal(got.route, ROUTE_LOCAL);
    assert_int_equal(got.at, w.at);
    assert_string_equal(got.address, w.address);
    assert_string_equal(got.legacy_user, w.legacy_user);
    assert_true(got.has_prefix);
    assert_string_equal(got.prefix, "");
    assert_string_equal(got.separator, ".");
}

static void test_no_changed_byte_is_believed(void **state)
{
    struct witness w = sample(7), got;
    char line[WITNESS_LINE_MAX], changed[WITNESS_LINE_MAX];
    size_t length = witness_format(&w, 9, line);

    (void)state;
    for (size_t i = 0; i + 1 < length; i++) {
        memcpy(changed, line, length + 1);
        changed[i] ^= 1;
        assert_false(witness_parse(changed, &got));
        memcpy(changed, line, length + 1);
        changed[i] = '\0'; /* cut */
        assert_false(witness_parse(changed, &got));
    }
}

static void test_torn_line_costs_itself_only(void **state)
{
    int fd = temporary();
    struct read r = {.accounts = 0};
    struct witness_reader reader = {
        .account = on_account, .domain = on_domain, .ctx = &r};
    struct witness one = sample(1), two = sample(2);
    char line[WITNESS_LINE_MAX];
    int64_t last;
    struct err err;

    (void)state;
    assert_int_equal(witness_last(fd, &last, &err), 0);
    assert_int_equal(last, 0);
    witness_format(&one, 1, line);
    add(fd, line);
    line[20] = '\0'; /* the power went */
    assert_int_equal(write(fd, line, 20), 20);
    assert_int_equal(witness_last(fd, &last, &err), 0);
    assert_int_equal(last, 1);
    witness_format(&two, 5, line);
    add(fd, line);
    assert_int_equal(witness_last(fd, &last, &err), 0);
    assert_int_equal(last, 5); /* what the line tells of others */
    assert_int_equal(witness_read(fd, &reader, &err), 0);
    assert_int_equal(reader.records, 2);
    assert_int_equal(reader.torn, 1);
    assert_int_equal(reader.top, 5);
    assert_string_equal(r.last.address, "u2@a.test");
    close(fd);
}

static void test_last_good_line_is_found_behind_much_rubbish(void **state)
{
    int fd = temporary();
    struct witness w = sample(3);
    char line[WITNESS_LINE_MAX], rubbish[1024];
    int64_t last;
    struct err err;

    (void)state;
    witness_format(&w, 3, line);
    add(fd, line);
    memset(rubbish, 'x', sizeof(rubbish));
    rubbish[sizeof(rubbish) - 1] = '\0';
    rubbish[sizeof(rubbish) - 2] = '\n';
    for (int i = 0; i < 300; i++)
        add(fd, rubbish);
    assert_int_equal(witness_last(fd, &last, &err), 0);
    assert_int_equal(last, 3);
    close(fd);
}

static void test_domain_settings_are_kept(void **state)
{
    struct domain d = {.is_enabled = true,
                       .hold_seconds = 9,
                       .admit_share = 5,
                       .cutover = CUTOVER_MANUAL,
                       .closed_at = 1700000000000};
    struct domain got;
    char *text, *again;

    (void)state;
    memset(&got, 0, sizeof(got));
    snprintf(d.imap_url, sizeof(d.imap_url), "imap://x.test:1");
    snprintf(d.username_template, sizeof(d.username_template), "{local}");
    text = domain_settings_write(&d);
    assert_true(domain_settings_read(text, &got));
    again = domain_settings_write(&got);
    assert_string_equal(text, again);
    assert_string_equal(got.imap_url, d.imap_url);
    assert_int_equal(got.closed_at, d.closed_at);
    free(text);
    free(again);
    assert_false(domain_settings_read("{", &got));
    assert_false(domain_settings_read("[]", &got));
    /* of another version */
    assert_true(domain_settings_read(
        "{\"cutover\":\"moon\",\"new\":1,\"imap_url\":3}", &got));
    assert_int_equal(got.cutover, CUTOVER_MANUAL);
}

static void test_domains_stand_among_the_accounts(void **state)
{
    int fd = temporary();
    struct read r = {.accounts = 0};
    struct witness_reader reader = {
        .account = on_account, .domain = on_domain, .ctx = &r};
    struct domain d = {.name = "a.test"};
    char line[WITNESS_LINE_MAX];
    struct err err;

    (void)state;
    assert_true(witness_format_domain(&d, false, 4, line) > 0);
    add(fd, line);
    assert_true(witness_format_domain(&d, true, 4, line) > 0);
    add(fd, line);
    assert_int_equal(witness_read(fd, &reader, &err), 0);
    assert_int_equal(r.domains, 2);
    assert_int_equal(r.gone, 1);
    assert_int_equal(reader.top, 4);
    close(fd);
}

static void test_base_is_what_all_mailboxes_share(void **state)
{
    static const char *const paths[][2] = {
        {"/var/mail/{domain}/{local}/Maildir", "/var/mail"},
        {"/srv/m-{domain}/{local}", "/srv"},
        {"/{address}", NULL},
    };
    char base[100];
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char path[100];
        struct conf conf = {.store = {.path = path}};

        snprintf(path, sizeof(path), "%s", paths[i][0]);
        if (paths[i][1] == NULL) {
            assert_int_equal(witness_base(&conf, base, sizeof(base), &err), -1);
            continue;
        }
        assert_int_equal(witness_base(&conf, base, sizeof(base), &err), 0);
        assert_string_equal(base, paths[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_again),
        cmocka_unit_test(test_no_changed_byte_is_believed),
        cmocka_unit_test(test_torn_line_costs_itself_only),
        cmocka_unit_test(test_last_good_line_is_found_behind_much_rubbish),
        cmocka_unit_test(test_domain_settings_are_kept),
        cmocka_unit_test(test_domains_stand_among_the_accounts),
        cmocka_unit_test(test_base_is_what_all_mailboxes_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
