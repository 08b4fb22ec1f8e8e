#include "cli/csv.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "account/username.h"
#include "base/buf.h"
#include "base/conf.h"

#define FIELD_MAX 4000 /* the longest list of aliases and then some */

enum kind { KIND_TEXT, KIND_LIST, KIND_BYTES };

static const struct column {
    const char *name;
    enum kind kind;
    bool may_be_none; /* "-" removes it; "-" is never a value */
} columns[] = {
    {"address", KIND_TEXT, false},  {"legacy_user", KIND_TEXT, false},
    {"password", KIND_TEXT, false}, {"hash", KIND_TEXT, false},
    {"names", KIND_LIST, true},     {"quota", KIND_BYTES, true},
    {"aliases", KIND_LIST, true},   {"forward", KIND_LIST, true},
    {"owner", KIND_TEXT, true},     {"group", KIND_TEXT, true},
};

#define COLUMNS ((int)(sizeof(columns) / sizeof(columns[0])))

struct csv {
    const char *at, *end;
    char separator;
    int line;
    enum csv_encoding encoding;
    const struct column *order[COLUMNS];
    int order_count;
};

static const struct column *column_named(const char *name)
{
    for (int i = 0; i < COLUMNS; i++)
        if (strcasecmp(name, columns[i].name) == 0)
            return &columns[i];
    return NULL;
}

static char find_separator(const char *at, const char *end)
{
    for (; at < end; at++)
        if (*at == ',' || *at == ';')
            return *at;
    return ',';
}

static bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

/* A field in quotes, "" in it standing for one; c->at is behind the first. */
static int take_quoted(struct csv *c, struct buf *field, struct err *err)
{
    for (; c->at < c->end; c->at++) {
        if (*c->at == '\n')
            break;
        if (*c->at == '"' && (c->at + 1 == c->end || c->at[1] != '"')) {
            c->at++;
            return 0;
        }
        if (*c->at == '"')
            c->at++;
        if (buf_append(field, c->at, 1) == -1)
            return err_set(err, ERR_SETUP, "a field is too long");
    }
    return err_set(err, ERR_SETUP, "a quote is not closed");
}

static int take_field(struct csv *c, struct buf *field, struct err *err)
{
    const char *from;

    buf_clear(field);
    if (c->at < c->end && *c->at == '"') {
        c->at++;
        if (take_quoted(c, field, err) == -1)
            return -1;
        if (c->at < c->end && !is_line_end(*c->at) && *c->at != c->separator)
            return err_set(err, ERR_SETUP, "text behind a quote");
    } else {
        for (from = c->at;
             c->at < c->end && !is_line_end(*c->at) && *c->at != c->separator;)
            c->at++;
        if (buf_append(field, from, (size_t)(c->at - from)) == -1)
            return err_set(err, ERR_SETUP, "a field is too long");
    }
    if (memchr(buf_text(field), '\0', field->used))
        return err_set(err, ERR_SETUP, "a NUL byte");
    return 0;
}

/* Behind a field: true if another one follows on this line. */
static bool skip_separator(struct csv *c)
{
    if (c->at < c->end && *c->at == c->separator) {
        c->at++;
        return true;
    }
    if (c->at < c->end && *c->at == '\r')
        c->at++;
    if (c->at < c->end && *c->at == '\n')
        c->at++;
    return false;
}

static void skip_line(struct csv *c)
{
    while (c->at < c->end && *c->at != '\n')
        c->at++;
    if (c->at < c->end)
        c->at++;
}

/* --- the header */

static bool has_column(const struct csv *c, const struct column *column)
{
    for (int i = 0; i < c->order_count; i++)
        if (c->order[i] == column)
            return true;
    return false;
}

static int add_column(struct csv *c, const char *name, struct err *err)
{
    const struct column *column = column_named(name);

    if (!column)
        return err_set(err, ERR_SETUP,
                       "line 1: no such column: %.40s (address, names, "
                       "legacy_user, password, hash, quota, aliases, forward, "
                       "owner, group)",
                       name);
    if (has_column(c, column))
        return err_set(err, ERR_SETUP, "line 1: column %s stands twice",
                       column->name);
    c->order[c->order_count++] = column;
    return 0;
}

/* Whether the first line names columns. */
static bool is_header(struct csv c, struct buf *field)
{
    bool found = false, goes_on = true;

    while (goes_on && !found && take_field(&c, field, NULL) == 0) {
        found = strcasecmp(buf_text(field), "address") == 0;
        goes_on = skip_separator(&c);
    }
    return found;
}

static int take_header(struct csv *c, struct buf *field, struct err *err)
{
    if (!is_header(*c, field)) {
        c->order_count = 0;
        for (int i = 0; i < 3; i++) /* address, legacy_user, password */
            c->order[c->order_count++] = &columns[i];
        return 0;
    }
    do {
        if (take_field(c, field, err) == -1)
            return err_prefix(err, "line 1");
        if (add_column(c, buf_text(field), err) == -1)
            return -1;
    } while (skip_separator(c));
    c->line++;
    return 0;
}

/* --- fields */

/* What the bytes 0x80 to 0x9f mean; 0: nothing. */
static const uint16_t windows_1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021,
    0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017d, 0,
    0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
    0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

static int append_utf8(struct buf *out, uint32_t code)
{
    char bytes[3];

    if (code < 0x80) {
        bytes[0] = (char)code;
        return buf_append(out, bytes, 1);
    }
    if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3f));
        return buf_append(out, bytes, 2);
    }
    bytes[0] = (char)(0xe0 | code >> 12);
    bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
    bytes[2] = (char)(0x80 | (code & 0x3f));
    return buf_append(out, bytes, 3);
}

static int from_windows_1252(const char *text, struct buf *out, struct err *err)
{
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        uint32_t code = byte;

        if (byte >= 0x80 && byte < 0xa0 && !(code = windows_1252[byte - 0x80]))
            return err_set(err, ERR_SETUP,
                           "byte 0x%02x is none of Windows-1252", byte);
        if (append_utf8(out, code) == -1)
            return err_set(err, ERR_SETUP, "a field is too long");
    }
    return 0;
}

static json_t *text_value(const struct csv *c, const char *text,
                          struct err *err)
{
    json_t *value = NULL;

    if (c->encoding == CSV_WINDOWS_1252) {
        struct buf utf8;

        buf_init(&utf8, 3 * FIELD_MAX);
        if (from_windows_1252(text, &utf8, err) == 0)
            value = json_string(buf_text(&utf8));
        buf_wipe(&utf8);
        return value;
    }
    if (!(value = json_string(text)))
        err_set(err, ERR_SETUP,
                "not UTF-8 (--encoding windows-1252, if it is that)");
    return value;
}

static json_t *list_value(const struct csv *c, const char *text,
                          struct err *err)
{
    json_t *whole = text_value(c, text, err);
    json_t *list = whole ? json_array() : NULL;

    for (const char *at = json_string_value(whole); at && *at;) {
        size_t length = strcspn(at, " \t");

        if (length)
            json_array_append_new(list, json_stringn(at, length));
        at += length;
        at += strspn(at, " \t");
    }
    json_decref(whole);
    return list;
}

static json_t *bytes_value(const char *text, struct err *err)
{
    uint64_t bytes;

    if (conf_parse_size(text, &bytes))
        return json_integer((json_int_t)bytes);
    err_set(err, ERR_SETUP, "not a quota: %.40s", text);
    return NULL;
}

static json_t *value_of(const struct csv *c, const struct column *column,
                        const char *text, struct err *err)
{
    bool is_none = strcmp(text, "-") == 0;

    if (is_none && !column->may_be_none) {
        err_set(err, ERR_SETUP, "%s: a list cannot remove it", column->name);
        return NULL;
    }
    switch (column->kind) {
    case KIND_TEXT: return text_value(c, is_none ? "" : text, err);
    case KIND_LIST: return list_value(c, is_none ? "" : text, err);
    case KIND_BYTES: return bytes_value(is_none ? "0" : text, err);
    }
    return NULL;
}

/* --- lines */

/* The fields of a line into entry; ends behind its last field. */
static int take_line(struct csv *c, struct buf *field, json_t *entry,
                     struct err *err)
{
    int count = 0;

    do {
        json_t *value;

        if (count == c->order_count)
            return err_set(err, ERR_SETUP, "too many fields");
        if (take_field(c, field, err) == -1)
            return -1;
        if (field->used) {
            value = value_of(c, c->order[count], buf_text(field), err);
            if (!value)
                return -1;
            json_object_set_new(entry, c->order[count]->name, value);
        }
        count++;
    } while (skip_separator(c));
    if (json_object_size(entry) > 1 && !json_object_get(entry, "address"))
        return err_set(err, ERR_SETUP, "no address");
    return 0;
}

/* `seen` has the entry of each canonical address. 1: the same was said before;
   a name that cannot be is told when it is taken in. */
static int check_twice(json_t *entry, json_t *seen, struct err *err)
{
    const char *address = json_string_value(json_object_get(entry, "address"));
    struct username name;
    const json_t *other;

    if (username_parse(address, strlen(address), &name, NULL) == -1)
        return 0;
    other = json_object_get(seen, name.address);
    if (!other) {
        json_object_set(seen, name.address, entry);
        return 0;
    }
    for (int i = 1; i < COLUMNS; i++) {
        const json_t *one = json_object_get(entry, columns[i].name);
        const json_t *two = json_object_get(other, columns[i].name);

        if (one != two && !json_equal(one, two))
            return err_set(
                err, ERR_SETUP, "line %d has another %s for the same address",
                (int)json_integer_value(json_object_get(other, "line")),
                columns[i].name);
    }
    return 1;
}

static void take_lines(struct csv *c, struct buf *field, json_t *entries,
                       json_t *problems)
{
    json_t *seen = json_object();

    for (; c->at < c->end; c->line++) {
        const char *from = c->at;
        json_t *entry = json_pack("{s:i}", "line", c->line);
        struct err err;
        int rc = take_line(c, field, entry, &err);

        if (rc == -1) {
            c->at = from;
            skip_line(c);
        } else if (json_object_size(entry) == 1) {
            rc = 1; /* an empty line */
        } else {
            rc = check_twice(entry, seen, &err);
        }
        if (rc == -1)
            json_array_append_new(
                problems,
                json_pack("{s:i,s:s}", "line", c->line, "error", err.text));
        else if (rc == 0)
            json_array_append(entries, entry);
        json_decref(entry);
    }
    json_decref(seen);
}

int csv_accounts(const char *text, size_t length, enum csv_encoding encoding,
                 json_t *entries, json_t *problems, struct err *err)
{
    struct csv c = {
        .at = text, .end = text + length, .line = 1, .encoding = encoding};
    struct buf field;
    int rc;

    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        if (encoding != CSV_UTF8)
            return err_set(err, ERR_SETUP, "it says itself that it is UTF-8");
        c.at += 3;
    }
    c.separator = find_separator(c.at, c.end);
    buf_init(&field, FIELD_MAX);
    rc = take_header(&c, &field, err);
    if (rc == 0)
        take_lines(&c, &field, entries, problems);
    buf_wipe(&field);
    return rc;
}
