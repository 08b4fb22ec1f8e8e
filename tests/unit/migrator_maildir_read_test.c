/* Reading names, records and folders of a Maildir++, and the digest that two
   servers agree on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "migrator/body_digest.h"
#include "migrator/maildir_read.h"
#include "migrator/source.h"

static void test_a_name_tells_flags_letters_and_sizes(void **state)
{
    struct maildir_message m = {.uid = 7};

    (void)state;
    maildir_parse_name("1600.V5U7Fdeadbeef.mailhaul,S=10,W=12:2,FSab", &m);
    assert_int_equal(m.flags, MESSAGE_FLAGGED | MESSAGE_SEEN);
    assert_int_equal(m.letters, 3);
    assert_int_equal(m.size, 10);
    assert_int_equal(m.vsize, 12);
    assert_true(m.is_copied);
}

static void test_a_name_of_another_server_is_no_copied_one(void **state)
{
    struct maildir_message m = {.uid = 7};

    (void)state;
    maildir_parse_name("1600.M1P2.host,S=x:2,", &m);
    assert_false(m.is_copied);
    assert_int_equal(m.size, -1);
    assert_int_equal(m.flags, 0);
    maildir_parse_name("1600.V5U8Fdeadbeef.mailhaul,S=1,W=1", &m);
    assert_false(m.is_copied); /* the name of another UID */
    maildir_parse_name("", &m);
    assert_int_equal(m.vsize, -1);
}

static bool parse(const char *text, struct maildir_message *m, const char **b)
{
    static char line[256];

    snprintf(line, sizeof line, "%s", text);
    return maildir_parse_record(line, m, b);
}

static void test_a_record_tells_uid_uidl_order_and_name(void **state)
{
    struct maildir_message m;
    const char *base;

    (void)state;
    assert_true(parse("17 Pabc O3 W12 :1600.x:2,S", &m, &base));
    assert_int_equal(m.uid, 17);
    assert_string_equal(m.uidl, "abc");
    assert_int_equal(m.order, 3);
    assert_string_equal(base, "1600.x:2,S");
    free(m.uidl);
    assert_true(parse("1 :a", &m, &base));
    assert_null(m.uidl);
}

static void test_malformed_records_are_none(void **state)
{
    static const char *const bad[] = {
        "",         "x",     "0 :a",   "17",   "17 ",
        "17 Pabc",  "17 :",  " 17 :a", "17:a", "4294967296 :a",
        "17 P1 P2", "17  P "};
    struct maildir_message m;
    const char *base;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(parse(bad[i], &m, &base));
}

static void put(const char *root, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", root, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_a_folder_is_read_with_what_its_list_misses(void **state)
{
    char root[] = "/tmp/mailhaul-read-XXXXXX", path[256];
    struct maildir_folder f;
    struct err err;

    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/cur", root);
    assert_int_equal(mkdir(path, 0700), 0);
    put(root, "dovecot-uidlist",
        "3 V5 N10 Gx\n2 Pb :two\n1 Pa :one\n3 :gone\nrubbish\n");
    put(root, "dovecot-keywords", "0 first\n25 last\n99 no\n");
    put(root, "cur/one:2,Sa", "1");
    put(root, "cur/two:2,", "22");
    put(root, "cur/three:2,", "333");
    assert_int_equal(maildir_read(root, "", &f, &err), 0);
    assert_int_equal(f.uidvalidity, 5);
    assert_int_equal(f.uidnext, 10);
    assert_int_equal(f.count, 3);
    assert_int_equal(f.messages[0].uid, 0);
    assert_string_equal(maildir_find(&f, 1)->uidl, "a");
    assert_int_equal(maildir_find(&f, 1)->flags, MESSAGE_SEEN);
    assert_null(maildir_find(&f, 3));
    assert_string_equal(f.keywords[0], "first");
    assert_string_equal(f.keywords[25], "last");
    maildir_folder_release(&f);
    assert_int_equal(maildir_read(root, ".none", &f, &err), -1);
    assert_int_equal(err.kind, ERR_ITEM);
    for (const char *const *name =
             (const char *const[]){"cur/one:2,Sa", "cur/two:2,", "cur/three:2,",
                                   "dovecot-uidlist", "dovecot-keywords", NULL};
         *name != NULL; name++) {
        snprintf(path, sizeof path, "%s/%s", root, *name);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/cur", root);
    rmdir(path);
    assert_int_equal(rmdir(root), 0);
}

static void digest_of(const char *bytes, size_t length, size_t step,
                      uint8_t out[LEDGER_DIGEST_SIZE])
{
    struct body_digest d;

    body_digest_init(&d);
    for (size_t i = 0; i < length; i += step)
        body_digest_add(&d, bytes + i, length - i < step ? length - i : step);
    body_digest_take(&d, out);
    body_digest_release(&d);
}

static void test_line_ends_and_nul_do_not_change_the_digest(void **state)
{
    static const char a[] = "one\r\ntwo\0\r\nlone\rend\r";
    static const char b[] = "one\ntwo\x80\nlone\rend\r";
    static const char c[] = "one\ntwo\x80\nloneend\r";
    uint8_t x[LEDGER_DIGEST_SIZE], y[LEDGER_DIGEST_SIZE];

    (void)state;
    digest_of(a, sizeof a - 1, 100, x);
    for (size_t step = 1; step < sizeof a; step++) {
        digest_of(a, sizeof a - 1, step, y);
        assert_memory_equal(x, y, sizeof x);
    }
    digest_of(b, sizeof b - 1, 1, y);
    assert_memory_equal(x, y, sizeof x);
    digest_of(c, sizeof c - 1, 1, y);
    assert_memory_not_equal(x, y, sizeof x);
}

static void test_a_digest_survives_long_runs_of_cr(void **state)
{
    struct body_digest d;
    char piece[10000];
    uint8_t out[LEDGER_DIGEST_SIZE];

    (void)state;
    memset(piece, '\r', sizeof piece);
    body_digest_init(&d);
    body_digest_add(&d, piece, sizeof piece);
    body_digest_add(&d, "\nx\n", 3);
    assert_int_equal(body_digest_vsize(&d), sizeof piece + 4);
    body_digest_take(&d, out);
    body_digest_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_tells_flags_letters_and_sizes),
        cmocka_unit_test(test_a_name_of_another_server_is_no_copied_one),
        cmocka_unit_test(test_a_record_tells_uid_uidl_order_and_name),
        cmocka_unit_test(test_malformed_records_are_none),
        cmocka_unit_test(test_a_folder_is_read_with_what_its_list_misses),
        cmocka_unit_test(test_line_ends_and_nul_do_not_change_the_digest),
        cmocka_unit_test(test_a_digest_survives_long_runs_of_cr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
