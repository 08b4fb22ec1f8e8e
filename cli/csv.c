#include "cli/csv.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "account/username.h"
#include "base/buf.h"

#define FIELD_MAX 1100 /* the longest password and then some */
#define COLUMNS   3

enum column { COLUMN_ADDRESS, COLUMN_LEGACY_USER, COLUMN_PASSWORD };

static const char *const column_names[COLUMNS] = {"address", "legacy_user",
                                                  "password"};

struct csv {
    const char *at, *end;
    char separator;
    int line;
    enum column order[COLUMNS];
    int order_count;
};

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
            return err_set(err, ERR_SETUP, "line %d: a field is too long",
                           c->line);
    }
    return err_set(err, ERR_SETUP, "line %d: a quote is not closed", c->line);
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
            return err_set(err, ERR_SETUP, "line %d: text behind a quote",
                           c->line);
        return 0;
    }
    for (from = c->at;
         c->at < c->end && !is_line_end(*c->at) && *c->at != c->separator;)
        c->at++;
    if (memchr(from, '\0', (size_t)(c->at - from)))
        return err_set(err, ERR_SETUP, "line %d: a NUL byte", c->line);
    if (buf_append(field, from, (size_t)(c->at - from)) == -1)
        return err_set(err, ERR_SETUP, "line %d: a field is too long", c->line);
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

static int take_header(struct csv *c, struct err *err)
{
    struct csv header = *c;
    struct buf field;
    int count = 0, rc = 0;
    bool is_header = false, goes_on;

    buf_init(&field, FIELD_MAX);
    do {
        int column = 0;

        rc = take_field(&header, &field, err);
        while (rc == 0 && column < COLUMNS &&
               strcasecmp(buf_text(&field), column_names[column]) != 0)
            column++;
        if (count == 0)
            is_header = column < COLUMNS;
        if (is_header && (column == COLUMNS || count == COLUMNS))
            rc = err_set(err, ERR_SETUP,
                         "line 1: the columns are address, legacy_user, "
                         "password");
        if (rc == -1 || !is_header)
            break;
        c->order[count++] = (enum column)column;
        goes_on = skip_separator(&header);
    } while (goes_on);
    buf_release(&field);
    if (rc == -1)
        return is_header ? -1 : 0; /* a bad line is told when it is read */
    if (!is_header)
        return 0;
    c->order_count = count;
    c->at = header.at;
    c->line++;
    return 0;
}

static int take_line(struct csv *c, struct buf *field, json_t *list,
                     struct err *err)
{
    json_t *entry = json_pack("{s:i}", "line", c->line);
    int count = 0;

    json_array_append_new(list, entry);
    do {
        json_t *value;

        if (count == c->order_count)
            return err_set(err, ERR_SETUP, "line %d: too many fields", c->line);
        if (take_field(c, field, err) == -1)
            return -1;
        value = json_string(buf_text(field));
        if (!value)
            return err_set(err, ERR_SETUP, "line %d: not UTF-8", c->line);
        if (field->used)
            json_object_set(entry, column_names[c->order[count]], value);
        json_decref(value);
        count++;
    } while (skip_separator(c));
    if (count == 1 && json_object_size(entry) == 1) {
        json_array_remove(list, json_array_size(list) - 1); /* empty line */
        return 0;
    }
    if (!json_object_get(entry, "address"))
        return err_set(err, ERR_SETUP, "line %d: no address", c->line);
    return 0;
}

/* `seen` has the entry of each canonical address. The same line again is left
   out; a name that cannot be is told when it is taken in. */
static int check_twice(json_t *list, json_t *seen, struct err *err)
{
    size_t last = json_array_size(list) - 1;
    json_t *entry = json_array_get(list, last), *other;
    const char *address = json_string_value(json_object_get(entry, "address"));
    struct username name;

    if (username_parse(address, strlen(address), &name, NULL) == -1)
        return 0;
    other = json_object_get(seen, name.address);
    if (!other)
        return json_object_set(seen, name.address, entry);
    for (int i = COLUMN_LEGACY_USER; i < COLUMNS; i++) {
        const json_t *one = json_object_get(entry, column_names[i]);
        const json_t *two = json_object_get(other, column_names[i]);

        if (one != two && !json_equal(one, two))
            return err_set(
                err, ERR_SETUP,
                "line %d: line %d has another %s for the same address",
                (int)json_integer_value(json_object_get(entry, "line")),
                (int)json_integer_value(json_object_get(other, "line")),
                column_names[i]);
    }
    return json_array_remove(list, last);
}

json_t *csv_accounts(const char *text, size_t length, struct err *err)
{
    struct csv c = {
        .at = text,
        .end = text + length,
        .line = 1,
        .order = {COLUMN_ADDRESS, COLUMN_LEGACY_USER, COLUMN_PASSWORD},
        .order_count = COLUMNS};
    json_t *list = json_array(), *seen = json_object();
    struct buf field;
    int rc;

    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        c.at += 3;
    c.separator = find_separator(c.at, c.end);
    buf_init(&field, FIELD_MAX);
    rc = take_header(&c, err);
    while (rc == 0 && c.at < c.end) {
        size_t count = json_array_size(list);

        rc = take_line(&c, &field, list, err);
        if (rc == 0 && json_array_size(list) > count)
            rc = check_twice(list, seen, err);
        c.line++;
    }
    buf_wipe(&field);
    json_decref(seen);
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}
