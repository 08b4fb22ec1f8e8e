/* Folder names as directories: see migrator/folder_name.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrator/folder_name.h"

static const struct {
    const char *name;
    char separator;
    const char *prefix;
    const char *directory; /* NULL: cannot be held */
    const char *subscription;
} table[] = {
    {"INBOX", '/', "", "", "INBOX"},
    {"INBOX", '.', "INBOX.", "", "INBOX"},
    {"Sent", '/', "", ".Sent", "Sent"},
    {"A/B/C", '/', "", ".A.B.C", "A\tB\tC"},
    {"INBOX.A.B", '.', "INBOX.", ".A.B", "A\tB"},
    {"Inbox.A", '.', "INBOX.", ".A", "A"},
    {"INBOX/child", '/', "", ".INBOX.child", "INBOX\tchild"},
    {"a.b/c", '/', "", ".a\\2eb.c", "a\\2eb\tc"},
    {"a/b", '.', "", ".a\\2fb", "a\\2fb"},
    {"a.b", '\\', "", ".a\\2eb", "a\\2eb"},
    {"a\\b", '\\', "", ".a.b", "a\tb"},
    {"back\\slash", '/', "", ".back\\5cslash", "back\\5cslash"},
    {"~home", '/', "", ".\\7ehome", "\\7ehome"},
    {"not~home", '/', "", ".not~home", "not~home"},
    {"..", '/', "", ".\\2e\\2e", "\\2e\\2e"},
    {"../../etc", '/', "", ".\\2e\\2e.\\2e\\2e.etc", "\\2e\\2e\t\\2e\\2e\tetc"},
    {"t\tab", '/', "", ".t\\09ab", "t\\09ab"},
    {"new\nline", '/', "", ".new\\0aline", "new\\0aline"},
    {"Entw&APw-rfe", '/', "", ".Entw&APw-rfe", "Entw&APw-rfe"},
    {"Entw\xc3\xbcrfe", '/', "", ".Entw&APw-rfe", "Entw&APw-rfe"},
    {"Entw\xfcrfe", '/', "", ".Entw&APw-rfe", "Entw&APw-rfe"},
    {"\xf0\x9f\x98\x80", '/', "", ".&2D3eAA-", "&2D3eAA-"},
    {"per%cent", '/', "", ".per%cent", "per%cent"},
    {"flat", '\0', "", ".flat", "flat"},
    {"Shared.x", '.', "INBOX.", NULL, NULL},
    {"a//b", '/', "", NULL, NULL},
    {"/a", '/', "", NULL, NULL},
    {"a/", '/', "", NULL, NULL},
    {"", '/', "", NULL, NULL},
};

static void test_every_name_has_its_directory_and_line(void **state)
{
    char out[FOLDER_DIRECTORY_SIZE];
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int expected = table[i].directory == NULL ? -1 : 0;

        assert_int_equal(folder_directory(table[i].name, table[i].separator,
                                          table[i].prefix, out, &err),
                         expected);
        if (expected == 0)
            assert_string_equal(out, table[i].directory);
        else
            assert_int_equal(err.kind, ERR_ITEM);
        assert_int_equal(folder_subscription(table[i].name, table[i].separator,
                                             table[i].prefix, out, &err),
                         expected);
        if (expected == 0)
            assert_string_equal(out, table[i].subscription);
    }
}

static void test_a_name_too_long_for_a_directory_is_refused(void **state)
{
    char name[400], out[FOLDER_DIRECTORY_SIZE];
    struct err err;

    (void)state;
    memset(name, 'x', sizeof(name));
    name[254] = '\0'; /* and the dot */
    assert_int_equal(folder_directory(name, '/', "", out, &err), 0);
    assert_int_equal(strlen(out), 255);
    name[254] = 'x';
    name[255] = '\0';
    assert_int_equal(folder_directory(name, '/', "", out, &err), -1);
    memset(name, '.', sizeof(name));
    name[100] = '\0'; /* each takes three */
    assert_int_equal(folder_directory(name, '/', "", out, &err), -1);
}

static void test_no_directory_leaves_the_root(void **state)
{
    char name[4] = "", out[FOLDER_DIRECTORY_SIZE];
    struct err err;

    (void)state;
    for (int a = 1; a < 256; a++)
        for (int b = 1; b < 256; b++) {
            name[0] = (char)a;
            name[1] = (char)b;
            if (folder_directory(name, '/', "", out, &err) == -1)
                continue;
            assert_int_equal(out[0], '.');
            assert_null(strchr(out, '/'));
            assert_string_not_equal(out, ".");
            assert_string_not_equal(out, "..");
        }
}

static void test_names_that_differ_have_hashes_that_differ(void **state)
{
    (void)state;
    assert_int_not_equal(folder_hash("INBOX"), folder_hash("Sent"));
    assert_int_not_equal(folder_hash("UPPER"), folder_hash("upper"));
}

static void test_a_client_shows_modified_utf7_decoded(void **state)
{
    static const struct {
        const char *name, *shown;
    } names[] = {
        {"INBOX", "INBOX"},
        {"Entw&APw-rfe", "Entwürfe"},
        {"a&-b", "a&b"},
        {"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"},
        {"&2D3eAA-", "\xf0\x9f\x98\x80"},
        /* no such text */
        {"a&b", "a&b"},
        {"&2D0-", "&2D0-"},
        {"&AAAAAA-", "&AAAAAA-"},
        {"&", "&"},
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        folder_shown(names[i].name, out, sizeof(out));
        assert_string_equal(out, names[i].shown);
    }
    folder_shown("&ZeVnLIqe-&ZeVnLIqe-", out, 12);
    assert_true(strlen(out) < 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_name_has_its_directory_and_line),
        cmocka_unit_test(test_a_name_too_long_for_a_directory_is_refused),
        cmocka_unit_test(test_no_directory_leaves_the_root),
        cmocka_unit_test(test_names_that_differ_have_hashes_that_differ),
        cmocka_unit_test(test_a_client_shows_modified_utf7_decoded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
