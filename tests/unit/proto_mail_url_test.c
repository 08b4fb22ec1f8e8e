/* Addresses of mail servers: what is read, what is refused, what is written. */
#include "proto/mail_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

struct good {
    const char *text;
    enum mail_protocol protocol;
    enum tls_mode tls;
    const char *host;
    uint16_t port;
    const char *written;
};

static const struct good goods[] = {
    {"imap://mail.example.net", MAIL_IMAP, TLS_NONE, "mail.example.net", 143,
     "imap://mail.example.net:143"},
    {"imaps://mail.example.net", MAIL_IMAP, TLS_IMPLICIT, "mail.example.net",
     993, "imaps://mail.example.net:993"},
    {"imap+starttls://localhost:1143", MAIL_IMAP, TLS_STARTTLS, "localhost",
     1143, "imap+starttls://localhost:1143"},
    {"pop3://127.0.0.1", MAIL_POP3, TLS_NONE, "127.0.0.1", 110,
     "pop3://127.0.0.1:110"},
    {"POP3S://Host", MAIL_POP3, TLS_IMPLICIT, "Host", 995, "pop3s://Host:995"},
    {"pop3+starttls://h", MAIL_POP3, TLS_STARTTLS, "h", 110,
     "pop3+starttls://h:110"},
    {"smtp://h", MAIL_SMTP, TLS_NONE, "h", 25, "smtp://h:25"},
    {"smtps://h", MAIL_SMTP, TLS_IMPLICIT, "h", 465, "smtps://h:465"},
    {"sieve://h", MAIL_SIEVE, TLS_NONE, "h", 4190, "sieve://h:4190"},
    {"lmtp://h", MAIL_LMTP, TLS_NONE, "h", 24, "lmtp://h:24"},
    {"imap://[::1]", MAIL_IMAP, TLS_NONE, "::1", 143, "imap://[::1]:143"},
    {"imaps://[2001:db8::7]:1993", MAIL_IMAP, TLS_IMPLICIT, "2001:db8::7", 1993,
     "imaps://[2001:db8::7]:1993"},
    {"imap://h:65535/", MAIL_IMAP, TLS_NONE, "h", 65535, "imap://h:65535"},
};

static const char *const bads[] = {
    "",
    "mail.example.net",
    "imap:mail.example.net",
    "imap://",
    "imap://:143",
    "imap://h:",
    "imap://h:0",
    "imap://h:65536",
    "imap://h:99999999999999999999",
    "imap://h:14x",
    "imap://h:-1",
    "imap://user@h",
    "imap://user:secret@h",
    "imap://h/folder",
    "imap://h?x=1",
    "imap://h#x",
    "imap://[::1",
    "imap://[]",
    "imap://[h]",
    "imap://[::1]x",
    "imap://::1",
    "imap://a b",
    "imap://a\nb",
    "http://h",
    "imapx://h",
    "imap+tls://h",
};

static void test_what_an_administrator_writes_is_read_and_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        const struct good *good = &goods[i];
        struct mail_url url;
        struct mail_url again;
        struct err err;
        char text[320];

        assert_int_equal(mail_url_parse(good->text, &url, &err), 0);
        assert_int_equal(url.protocol, good->protocol);
        assert_int_equal(url.tls, good->tls);
        assert_string_equal(url.host, good->host);
        assert_int_equal(url.port, good->port);
        assert_string_equal(mail_url_format(&url, text), good->written);
        assert_int_equal(mail_url_parse(text, &again, &err), 0);
        assert_memory_equal(&url, &again, sizeof url);
    }
}

static void test_everything_else_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct mail_url url;
        struct err err = {ERR_NONE, ""};

        if (mail_url_parse(bads[i], &url, &err) != -1)
            fail_msg("accepted: %s", bads[i]);
        assert_int_equal(err.kind, ERR_SETUP);
        assert_true(err.text[0] != '\0');
    }
}

static void test_a_host_too_long_is_refused_not_cut(void **state)
{
    char text[600] = "imap://";
    struct mail_url url;
    struct err err;

    (void)state;
    memset(text + 7, 'a', 255);
    text[7 + 255] = '\0';
    assert_int_equal(mail_url_parse(text, &url, &err), 0);
    text[7 + 255] = 'a';
    text[7 + 256] = '\0';
    assert_int_equal(mail_url_parse(text, &url, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_an_administrator_writes_is_read_and_written),
        cmocka_unit_test(test_everything_else_is_refused_with_a_reason),
        cmocka_unit_test(test_a_host_too_long_is_refused_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
