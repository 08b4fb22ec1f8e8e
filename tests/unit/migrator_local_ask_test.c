#include "migrator/local_ask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_a_mail_setting_names_a_maildir(void **state)
{
    static const char maildir[] = "/srv/mail/a/Maildir";

    (void)state;
    assert_true(local_mail_is("maildir:/srv/mail/a/Maildir", "", maildir));
    assert_true(local_mail_is("maildir:/srv/mail/a/Maildir/", "", maildir));
    assert_true(
        local_mail_is("maildir:/srv/mail/a/Maildir:INDEX=/var/i", "", maildir));
    assert_true(local_mail_is("maildir:~/Maildir", "/srv/mail/a", maildir));
    assert_false(local_mail_is("maildir:~/Maildir", "/srv/mail/b", maildir));
    assert_false(local_mail_is("maildir:/srv/mail/a", "", maildir));
    assert_false(local_mail_is("mdbox:/srv/mail/a/Maildir", "", maildir));
    assert_false(local_mail_is("", "", maildir));
}

static void test_a_link_is_the_place_it_leads_to(void **state)
{
    char folder[] = "/tmp/local-ask-XXXXXX", link[64], mail[80];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(link, sizeof link, "%s-link", folder);
    snprintf(mail, sizeof mail, "maildir:%s", link);
    assert_int_equal(symlink(folder, link), 0);
    assert_true(local_mail_is(mail, "", folder));
    unlink(link);
    rmdir(folder);
}

/* "sh -c SCRIPT user -f FIELD -- ADDRESS" */
static struct migration_report ask(const char *script)
{
    char shell[] = "/bin/sh", option[] = "-c", text[256];
    struct migration_job job = {.address = "a@x.test",
                                .maildir = "/nowhere/Maildir",
                                .doveadm = {shell, option, text}};
    struct migration_report report = {0};

    snprintf(text, sizeof text, "%s", script);
    local_ask(&job, &report);
    return report;
}

static void test_answers_are_told_in_plain_words(void **state)
{
    struct migration_report report;

    (void)state;
    assert_true(ask("echo maildir:/nowhere/Maildir").is_local_ready);
    report = ask("echo who >&2; exit 67");
    assert_false(report.is_local_ready);
    assert_non_null(strstr(report.local_fault, "knows no a@x.test"));
    report = ask("echo maildir:/else");
    assert_false(report.is_local_ready);
    assert_non_null(strstr(report.local_fault, "/else"));
    report = ask("echo noise >&2; echo no socket >&2; exit 75");
    assert_false(report.is_local_ready);
    assert_non_null(strstr(report.local_fault, "75: no socket"));
    /* more than is kept, and no text at all */
    report = ask("head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2");
    assert_false(report.is_local_ready);
}

static void test_what_is_not_installed_is_not_asked(void **state)
{
    char program[] = "/nowhere/doveadm";
    struct migration_job job = {.doveadm = {program}};
    struct migration_report report = {0};

    (void)state;
    local_ask(&job, &report);
    assert_true(report.is_local_ready);
    job.doveadm[0] = NULL;
    report.is_local_ready = false;
    local_ask(&job, &report);
    assert_true(report.is_local_ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mail_setting_names_a_maildir),
        cmocka_unit_test(test_a_link_is_the_place_it_leads_to),
        cmocka_unit_test(test_answers_are_told_in_plain_words),
        cmocka_unit_test(test_what_is_not_installed_is_not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
