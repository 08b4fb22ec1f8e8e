/* IMAP responses: whole, byte by byte, too long, hostile. */
#include "proto/imap_resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static enum parse_result feed(struct imap_resp *r, const char *bytes,
                              size_t length, size_t step, size_t *used_out)
{
    enum parse_result result = PARSE_MORE;

    *used_out = 0;
    while (result == PARSE_MORE && *used_out < length) {
        size_t part = length - *used_out < step ? length - *used_out : step;
        char *copy = malloc(part);
        size_t used;

        memcpy(copy, bytes + *used_out, part);
        result = imap_resp_feed(r, copy, part, &used);
        assert_true(used <= part);
        *used_out += used;
        free(copy);
    }
    return result;
}

static void check_slice(struct slice s, const char *text)
{
    assert_int_equal(s.length, strlen(text));
    assert_memory_equal(s.bytes, text, strlen(text));
}

struct row {
    const char *text;
    enum imap_resp_kind kind;
    enum imap_status status;
    const char *name;
    const char *code;
    const char *after;
};

static const struct row rows[] = {
    {"* OK ready\r\n", IMAP_UNTAGGED, IMAP_OK, "OK", "", "ready"},
    {"* ok [ALERT] be careful\n", IMAP_UNTAGGED, IMAP_OK, "ok", "ALERT",
     "be careful"},
    {"* PREAUTH hi\r\n", IMAP_UNTAGGED, IMAP_PREAUTH, "PREAUTH", "", "hi"},
    {"* BYE [UNAVAILABLE]\r\n", IMAP_UNTAGGED, IMAP_BYE, "BYE", "UNAVAILABLE",
     ""},
    {"* 23 EXISTS\r\n", IMAP_UNTAGGED, IMAP_NO_STATUS, "EXISTS", "", ""},
    {"* CAPABILITY IMAP4rev1 IDLE\r\n", IMAP_UNTAGGED, IMAP_NO_STATUS,
     "CAPABILITY", "", "IMAP4rev1 IDLE"},
    {"* 1 FETCH (BODY[] {5}\r\na\r\nb\n)\r\n", IMAP_UNTAGGED, IMAP_NO_STATUS,
     "FETCH", "", "(BODY[] {5})"},
    {"* X {0}\r\n y\r\n", IMAP_UNTAGGED, IMAP_NO_STATUS, "X", "", "{0} y"},
    {"L OK [CAPABILITY A B] in\r\n", IMAP_TAGGED, IMAP_OK, "OK",
     "CAPABILITY A B", "in"},
    {"L NO [broken\r\n", IMAP_TAGGED, IMAP_NO, "NO", "", "[broken"},
    {"L BAD\r\n", IMAP_TAGGED, IMAP_BAD, "BAD", "", ""},
    {"+ go\r\n", IMAP_GO_AHEAD, IMAP_NO_STATUS, NULL, "", ""},
    {"+\r\n", IMAP_GO_AHEAD, IMAP_NO_STATUS, NULL, "", ""},
};

static void check_rows(size_t step)
{
    struct imap_resp r;

    imap_resp_init(&r); /* one for all: each drops what was before */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        char text[256];
        size_t used;

        snprintf(text, sizeof text, "%s* NEXT", row->text);
        if (feed(&r, text, strlen(text), step, &used) != PARSE_DONE)
            fail_msg("row %zu: %s", i, row->text);
        assert_int_equal(used, strlen(row->text));
        assert_int_equal(r.kind, row->kind);
        assert_int_equal(r.status, row->status);
        if (row->name != NULL) {
            check_slice(r.name, row->name);
            check_slice(r.text_after, row->after);
        }
        check_slice(r.code, row->code);
    }
    imap_resp_release(&r);
}

static void test_responses_whole(void **state)
{
    (void)state;
    check_rows(4096);
}

static void test_responses_byte_by_byte(void **state)
{
    (void)state;
    check_rows(1);
    check_rows(2);
}

static void test_what_is_no_imap_is_bad(void **state)
{
    static const char *const bads[] = {
        "\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "220 mail ESMTP\r\n",
        "*\r\n",
        "* 5\r\n",
        "L\r\n",
        "L WHAT\r\n",
        "* X {99999999999999999999}\r\n",
        "* X {1048577}\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct imap_resp r;
        size_t used;

        imap_resp_init(&r);
        if (feed(&r, bads[i], strlen(bads[i]), 3, &used) != PARSE_BAD)
            fail_msg("accepted: %s", bads[i]);
        imap_resp_release(&r);
    }
}

static void test_long_lines_and_floods_of_literals_are_bad(void **state)
{
    static char line[IMAP_RESP_MAX + 100];
    struct imap_resp r;
    enum parse_result result = PARSE_MORE;
    size_t used;

    (void)state;
    memset(line, 'x', sizeof line);
    imap_resp_init(&r);
    assert_int_equal(feed(&r, line, sizeof line, 1000, &used), PARSE_BAD);
    imap_resp_release(&r);
    imap_resp_init(&r);
    for (int i = 0; i < 200 && result == PARSE_MORE; i++) {
        result = feed(&r, "* X {8192}\r\n", 12, 12, &used);
        if (result == PARSE_MORE)
            result = feed(&r, line, 8192, 8192, &used);
    }
    assert_int_equal(result, PARSE_BAD);
    imap_resp_release(&r);
}

static void test_capabilities_from_data_and_from_codes(void **state)
{
    static const char *const lines[] = {
        "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED AUTH=PLAIN SASL-IR "
        "LITERAL+ NAMESPACE COMPRESS=DEFLATE\r\n",
        "* OK [CAPABILITY imap4rev1 starttls logindisabled auth=plain sasl-ir "
        "literal- namespace compress=deflate] x\r\n",
        "L OK [CAPABILITY STARTTLS LOGINDISABLED AUTH=PLAIN SASL-IR LITERAL+ "
        "NAMESPACE COMPRESS=DEFLATE]\r\n",
    };
    struct imap_resp r;
    struct imap_caps caps;
    size_t used;

    (void)state;
    imap_resp_init(&r);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        memset(&caps, 0, sizeof caps);
        feed(&r, lines[i], strlen(lines[i]), 100, &used);
        assert_true(imap_resp_caps(&r, &caps));
        assert_true(caps.is_known && caps.has_starttls &&
                    caps.has_login_disabled && caps.has_plain &&
                    caps.has_sasl_ir && caps.has_literal_plus &&
                    caps.has_namespace && caps.has_compress);
    }
    feed(&r, "* OK ready\r\n", 12, 12, &used);
    assert_false(imap_resp_caps(&r, &caps));
    feed(&r, "* OK [ALERT] x\r\n", 16, 16, &used);
    assert_false(imap_resp_caps(&r, &caps));
    imap_resp_release(&r);
}

static void test_refusals_by_their_code(void **state)
{
    static const struct {
        const char *line;
        enum imap_refusal refusal;
    } lines[] = {
        {"L NO wrong\r\n", IMAP_REFUSAL_FINAL},
        {"L NO [AUTHENTICATIONFAILED] wrong\r\n", IMAP_REFUSAL_FINAL},
        {"L NO [EXPIRED] old\r\n", IMAP_REFUSAL_FINAL},
        {"L NO [UNAVAILABLE] later\r\n", IMAP_REFUSAL_TEMPORARY},
        {"L NO [INUSE] later\r\n", IMAP_REFUSAL_TEMPORARY},
        {"L NO [limit] later\r\n", IMAP_REFUSAL_TEMPORARY},
        {"L NO [SERVERBUG] oh\r\n", IMAP_REFUSAL_TEMPORARY},
        {"L NO [THROTTLED] slow\r\n", IMAP_REFUSAL_TEMPORARY},
    };
    struct imap_resp r;
    size_t used;

    (void)state;
    imap_resp_init(&r);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        feed(&r, lines[i].line, strlen(lines[i].line), 100, &used);
        assert_int_equal(imap_resp_refusal(&r), lines[i].refusal);
    }
    imap_resp_release(&r);
}

static struct slice text_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void test_namespaces(void **state)
{
    char prefix[16];
    char separator[2];

    (void)state;
    assert_int_equal(
        imap_namespace_read(text_slice("((\"INBOX.\" \".\")) NIL NIL"), prefix,
                            sizeof prefix, separator),
        0);
    assert_string_equal(prefix, "INBOX.");
    assert_string_equal(separator, ".");
    assert_int_equal(
        imap_namespace_read(text_slice("((\"\" \"\\\\\" \"X\" (\"y\"))(\"#\" "
                                       "\"/\")) NIL NIL"),
                            prefix, sizeof prefix, separator),
        0);
    assert_string_equal(prefix, "");
    assert_string_equal(separator, "\\");
    assert_int_equal(imap_namespace_read(text_slice("((\"\" NIL)) NIL NIL"),
                                         prefix, sizeof prefix, separator),
                     0);
    assert_string_equal(separator, "");
    assert_int_equal(imap_list_separator(
                         text_slice("(\\Noselect \\X) \"/\" \"\""), separator),
                     0);
    assert_string_equal(separator, "/");
    assert_int_equal(imap_list_separator(text_slice("() NIL INBOX"), separator),
                     0);
    assert_string_equal(separator, "");
}

static void test_namespaces_that_cannot_be_read(void **state)
{
    static const char *const bads[] = {
        "",
        "NIL NIL NIL",
        "((",
        "((\"",
        "((\"x",
        "((\"x\"",
        "((\"x\\",
        "((\"x\" \"ab\"))",
        "((\"0123456789abcdef\" \"/\"))",
        "((NIL \"/\"))",
        "((INBOX. \".\"))",
    };
    char prefix[16];
    char separator[2];

    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        char *copy = malloc(strlen(bads[i]) + 1);

        memcpy(copy, bads[i], strlen(bads[i]));
        if (imap_namespace_read((struct slice){copy, strlen(bads[i])}, prefix,
                                sizeof prefix, separator) != -1)
            fail_msg("accepted: %s", bads[i]);
        free(copy);
    }
    assert_int_equal(imap_list_separator(text_slice("(\\X"), separator), -1);
    assert_int_equal(imap_list_separator(text_slice("x"), separator), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_responses_whole),
        cmocka_unit_test(test_responses_byte_by_byte),
        cmocka_unit_test(test_what_is_no_imap_is_bad),
        cmocka_unit_test(test_long_lines_and_floods_of_literals_are_bad),
        cmocka_unit_test(test_capabilities_from_data_and_from_codes),
        cmocka_unit_test(test_refusals_by_their_code),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_namespaces_that_cannot_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
