/*
 * Responses of an IMAP server: collected line by line, literals skipped, then
 * cut into the few parts that a login needs.
 */
#include "proto/imap_resp.h"

#include <ctype.h>
#include <string.h>

void imap_resp_init(struct imap_resp *r)
{
    memset(r, 0, sizeof *r);
    buf_init(&r->text, IMAP_RESP_MAX);
}

void imap_resp_release(struct imap_resp *r)
{
    buf_release(&r->text);
}

static void forget(struct imap_resp *r)
{
    struct buf text = r->text;

    buf_clear(&text);
    memset(r, 0, sizeof *r);
    r->text = text;
}

/* The size of a literal that the line text[from, end) announces at its end,
   -1 if it announces none. "{12}" or, in data, "~{12}". */
static long literal_size(const char *text, size_t from, size_t end)
{
    size_t i = end;
    long size = 0;

    if (i == from || text[--i] != '}')
        return -1;
    while (i > from && isdigit((unsigned char)text[i - 1]))
        i--;
    if (i == end - 1 || i == from || text[i - 1] != '{')
        return -1;
    for (; i < end - 1; i++) {
        if (size <= (long)IMAP_RESP_LITERAL)
            size = size * 10 + (text[i] - '0');
    }
    return size;
}

static struct slice behind(struct slice whole, struct slice part)
{
    struct slice rest = {part.bytes + part.length, 0};

    rest.length = (size_t)(whole.bytes + whole.length - rest.bytes);
    if (rest.length > 0 && *rest.bytes == ' ') {
        rest.bytes++;
        rest.length--;
    }
    return rest;
}

static enum imap_status status_named(struct slice word)
{
    static const struct {
        const char *name;
        enum imap_status status;
    } rows[] = {{"OK", IMAP_OK},
                {"NO", IMAP_NO},
                {"BAD", IMAP_BAD},
                {"PREAUTH", IMAP_PREAUTH},
                {"BYE", IMAP_BYE}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (slice_is(word, rows[i].name))
            return rows[i].status;
    }
    return IMAP_NO_STATUS;
}

/* "[CODE args] text": the code may hold a quoted ']' only in theory. */
static void cut_code(struct imap_resp *r)
{
    const char *end;

    if (r->text_after.length == 0 || r->text_after.bytes[0] != '[')
        return;
    end = memchr(r->text_after.bytes, ']', r->text_after.length);
    if (end == NULL)
        return;
    r->code.bytes = r->text_after.bytes + 1;
    r->code.length = (size_t)(end - r->code.bytes);
    r->text_after = behind(r->text_after,
                           (struct slice){r->code.bytes, r->code.length + 1});
}

static bool is_number(struct slice word)
{
    for (size_t i = 0; i < word.length; i++) {
        if (!isdigit((unsigned char)word.bytes[i]))
            return false;
    }
    return word.length > 0;
}

static enum parse_result cut_response(struct imap_resp *r)
{
    struct slice whole = {r->text.bytes, r->text.used};
    struct slice left = whole;
    struct slice word;

    if (whole.length == 0 || memchr(whole.bytes, '\0', whole.length) != NULL)
        return PARSE_BAD;
    word = slice_next_word(&left);
    r->rest = behind(whole, word);
    if (slice_is(word, "+")) {
        r->kind = IMAP_GO_AHEAD;
        return PARSE_DONE;
    }
    r->kind = slice_is(word, "*") ? IMAP_UNTAGGED : IMAP_TAGGED;
    r->tag = word;
    word = slice_next_word(&left);
    if (is_number(word) && r->kind == IMAP_UNTAGGED)
        word = slice_next_word(&left);
    if (word.length == 0)
        return PARSE_BAD;
    r->name = word;
    r->text_after = behind(whole, word);
    r->status = status_named(word);
    if (r->status != IMAP_NO_STATUS)
        cut_code(r);
    return r->kind == IMAP_TAGGED && r->status == IMAP_NO_STATUS ? PARSE_BAD
                                                                 : PARSE_DONE;
}

static enum parse_result line_ended(struct imap_resp *r)
{
    size_t end = r->text.used - 1;
    long size;

    if (end > r->line_start && r->text.bytes[end - 1] == '\r')
        end--;
    r->text.used = end;
    size = literal_size(r->text.bytes, r->line_start, end);
    if (size >= 0) {
        r->skipped += (size_t)size;
        if (r->skipped > IMAP_RESP_LITERAL)
            return PARSE_BAD;
        r->literal_left = (size_t)size;
        r->line_start = end;
        return PARSE_MORE;
    }
    r->is_whole = true;
    return cut_response(r);
}

enum parse_result imap_resp_feed(struct imap_resp *r, const char *bytes,
                                 size_t length, size_t *used_out)
{
    enum parse_result result = PARSE_MORE;

    if (r->is_whole)
        forget(r);
    *used_out = 0;
    while (*used_out < length && result == PARSE_MORE) {
        size_t part = length - *used_out;
        const char *at = bytes + *used_out;
        const char *line_end;

        if (r->literal_left > 0) {
            if (part > r->literal_left)
                part = r->literal_left;
            r->literal_left -= part;
            *used_out += part;
            continue;
        }
        line_end = memchr(at, '\n', part);
        if (line_end != NULL)
            part = (size_t)(line_end - at) + 1;
        *used_out += part;
        if (buf_append(&r->text, at, part) == -1)
            return PARSE_BAD;
        if (line_end != NULL)
            result = line_ended(r);
    }
    return result;
}

/* From "CAPABILITY IMAP4rev1 ..." or the part behind the first word. */
static void caps_read(struct slice list, struct imap_caps *out)
{
    struct slice word;

    memset(out, 0, sizeof *out);
    out->is_known = true;
    while ((word = slice_next_word(&list)).length > 0) {
        if (slice_is(word, "STARTTLS"))
            out->has_starttls = true;
        else if (slice_is(word, "LOGINDISABLED"))
            out->has_login_disabled = true;
        else if (slice_is(word, "AUTH=PLAIN"))
            out->has_plain = true;
        else if (slice_is(word, "SASL-IR"))
            out->has_sasl_ir = true;
        else if (slice_is(word, "LITERAL+") || slice_is(word, "LITERAL-"))
            out->has_literal_plus = true;
        else if (slice_is(word, "NAMESPACE"))
            out->has_namespace = true;
        else if (slice_is(word, "COMPRESS=DEFLATE"))
            out->has_compress = true;
    }
}

bool imap_resp_caps(const struct imap_resp *r, struct imap_caps *out)
{
    struct slice list = r->code;

    if (r->kind == IMAP_UNTAGGED && r->status == IMAP_NO_STATUS) {
        if (!slice_is(r->name, "CAPABILITY"))
            return false;
        list = r->text_after;
    } else if (r->kind == IMAP_GO_AHEAD ||
               !slice_is(slice_next_word(&list), "CAPABILITY")) {
        return false;
    }
    caps_read(list, out);
    return true;
}

enum imap_refusal imap_resp_refusal(const struct imap_resp *r)
{
    static const char *const temporary[] = {
        "UNAVAILABLE",     "INUSE",     "LIMIT",     "SERVERBUG",
        "PRIVACYREQUIRED", "OVERQUOTA", "CLIENTBUG", "CORRUPTION",
        "THROTTLED"}; /* the last: Yahoo, Exchange */
    struct slice code = r->code;
    struct slice word = slice_next_word(&code);

    for (size_t i = 0; i < sizeof temporary / sizeof temporary[0]; i++) {
        if (slice_is(word, temporary[i]))
            return IMAP_REFUSAL_TEMPORARY;
    }
    return IMAP_REFUSAL_FINAL;
}

static void skip(struct slice *s, size_t n)
{
    s->bytes += n;
    s->length -= n;
}

static void skip_spaces(struct slice *s)
{
    while (s->length > 0 && *s->bytes == ' ')
        skip(s, 1);
}

static int expect_char(struct slice *s, char c)
{
    skip_spaces(s);
    if (s->length == 0 || *s->bytes != c)
        return -1;
    skip(s, 1);
    return 0;
}

/* A quoted string; 1 for NIL, -1 for anything else or if it does not fit. */
static int read_quoted(struct slice *s, char *out, size_t size)
{
    size_t used = 0;

    skip_spaces(s);
    if (s->length >= 3 && slice_is((struct slice){s->bytes, 3}, "NIL")) {
        skip(s, 3);
        out[0] = '\0';
        return 1;
    }
    if (expect_char(s, '"') == -1)
        return -1;
    while (s->length > 0 && *s->bytes != '"') {
        if (*s->bytes == '\\')
            skip(s, 1);
        if (s->length == 0 || used + 1 >= size)
            return -1;
        out[used++] = *s->bytes;
        skip(s, 1);
    }
    out[used] = '\0';
    return expect_char(s, '"');
}

int imap_namespace_read(struct slice list, char *prefix_out, size_t size,
                        char separator_out[2])
{
    if (expect_char(&list, '(') == -1 || expect_char(&list, '(') == -1 ||
        read_quoted(&list, prefix_out, size) != 0)
        return -1;
    return read_quoted(&list, separator_out, 2) == -1 ? -1 : 0;
}

int imap_list_separator(struct slice list, char separator_out[2])
{
    if (expect_char(&list, '(') == -1)
        return -1;
    while (list.length > 0 && *list.bytes != ')')
        skip(&list, 1);
    if (expect_char(&list, ')') == -1)
        return -1;
    return read_quoted(&list, separator_out, 2) == -1 ? -1 : 0;
}
