/*
 * Commands of an IMAP client before login.
 *
 * LINE -> LITERAL -> LINE ... -> END; first the whole command is collected,
 * then it is cut into words, strings being unescaped where they are.
 */
#include "proto/imap_cmd.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void imap_cmd_init(struct imap_cmd *c)
{
    memset(c, 0, sizeof *c);
    buf_init(&c->text, IMAP_CMD_MAX);
}

void imap_cmd_release(struct imap_cmd *c)
{
    buf_wipe(&c->text);
}

void imap_cmd_reset(struct imap_cmd *c)
{
    imap_cmd_release(c);
    imap_cmd_init(c);
}

static enum parse_result hopeless(struct imap_cmd *c)
{
    c->is_hopeless = true;
    return PARSE_BAD;
}

/* Whether the line text[from, end) (line end cut off) announces a literal. */
static bool announces_literal(const char *text, size_t from, size_t end,
                              size_t *length_out, bool *is_waiting_out)
{
    size_t i = end;
    size_t digits;
    size_t length = 0;

    if (i == from || text[i - 1] != '}')
        return false;
    i--;
    *is_waiting_out = !(i > from && (text[i - 1] == '+' || text[i - 1] == '-'));
    if (!*is_waiting_out)
        i--;
    digits = i;
    while (digits > from && isdigit((unsigned char)text[digits - 1]))
        digits--;
    if (digits == i || digits == from || text[digits - 1] != '{')
        return false;
    for (; digits < i; digits++) {
        if (length <= IMAP_CMD_MAX) /* beyond that any number is as bad */
            length = length * 10 + (size_t)(text[digits] - '0');
    }
    *length_out = length;
    return true;
}

/* Cutting the whole command into words. */
struct cutter {
    char *at;
    char *end;
};

static bool is_atom(char c)
{
    unsigned char u = (unsigned char)c;

    return u > ' ' && u != 0x7f && u != '"' && u != '(' && u != ')' &&
           u != '{' && u != '\\';
}

static int cut_quoted(struct cutter *cut, struct slice *out)
{
    char *to = ++cut->at;

    out->bytes = to;
    for (; cut->at < cut->end && *cut->at != '"'; cut->at++) {
        if (*cut->at == '\r' || *cut->at == '\n' || *cut->at == '\0')
            return -1;
        if (*cut->at == '\\' &&
            (++cut->at == cut->end || (*cut->at != '"' && *cut->at != '\\')))
            return -1;
        *to++ = *cut->at;
    }
    if (cut->at == cut->end)
        return -1;
    cut->at++;
    out->length = (size_t)(to - out->bytes);
    return 0;
}

static int cut_literal(struct cutter *cut, struct slice *out)
{
    char *line_end = memchr(cut->at, '\n', (size_t)(cut->end - cut->at));
    size_t text_end;
    bool is_waiting;

    if (line_end == NULL)
        return -1;
    text_end = (size_t)(line_end - cut->at);
    if (text_end > 0 && line_end[-1] == '\r')
        text_end--;
    if (!announces_literal(cut->at, 0, text_end, &out->length, &is_waiting) ||
        out->length > (size_t)(cut->end - line_end - 1))
        return -1;
    /* the braces must begin here: "{x{3}" is no literal */
    if (memchr(cut->at + 1, '{', text_end - 1) != NULL)
        return -1;
    out->bytes = line_end + 1;
    cut->at = line_end + 1 + out->length;
    return 0;
}

static int cut_atom(struct cutter *cut, struct slice *out)
{
    out->bytes = cut->at;
    while (cut->at < cut->end && is_atom(*cut->at))
        cut->at++;
    out->length = (size_t)(cut->at - out->bytes);
    return out->length > 0 ? 0 : -1;
}

/* One argument, or a parenthesis as a word of its own. */
static int cut_argument(struct cutter *cut, struct slice *out)
{
    if (*cut->at == '"')
        return cut_quoted(cut, out);
    if (*cut->at == '{')
        return cut_literal(cut, out);
    if (*cut->at == '(' || *cut->at == ')') {
        out->bytes = cut->at++;
        out->length = 1;
        return 0;
    }
    return cut_atom(cut, out);
}

static int cut_head(struct imap_cmd *c, struct cutter *cut)
{
    struct slice word;
    size_t i;

    if (cut_atom(cut, &word) == -1 || word.length > IMAP_TAG_MAX ||
        memchr(word.bytes, '+', word.length) != NULL ||
        memchr(word.bytes, '*', word.length) != NULL)
        return -1;
    memcpy(c->tag, word.bytes, word.length);
    c->tag[word.length] = '\0';
    if (cut->at == cut->end || *cut->at++ != ' ' || cut_atom(cut, &word) == -1)
        return -1;
    for (i = 0; i < word.length && i < sizeof c->verb - 1; i++)
        c->verb[i] = (char)toupper((unsigned char)word.bytes[i]);
    c->verb[i] = '\0';
    return 0;
}

static enum parse_result cut_command(struct imap_cmd *c)
{
    struct cutter cut = {c->text.bytes, c->text.bytes + c->text.used};
    struct slice word;

    if (cut_head(c, &cut) == -1)
        return PARSE_BAD;
    while (cut.at < cut.end) {
        if (*cut.at == ' ') {
            cut.at++;
            continue;
        }
        if (cut_argument(&cut, &word) == -1)
            return PARSE_BAD;
        if (c->arg_count < IMAP_CMD_ARGS)
            c->args[c->arg_count] = word;
        c->arg_count++;
    }
    return PARSE_DONE;
}

/* A line has ended: a literal follows, or the command is whole. */
static enum parse_result line_ended(struct imap_cmd *c)
{
    struct buf *text = &c->text;
    size_t end = text->used - 1;
    bool is_waiting;

    if (end > c->line_start && text->bytes[end - 1] == '\r')
        end--;
    if (announces_literal(text->bytes, c->line_start, end, &c->literal_left,
                          &is_waiting)) {
        if (c->literal_left > text->max - text->used)
            return hopeless(c);
        c->wants_go_ahead = is_waiting;
        c->line_start = text->used + c->literal_left;
        c->state = c->literal_left > 0 ? IMAP_CMD_LITERAL : IMAP_CMD_LINE;
        return PARSE_MORE;
    }
    text->used = end;
    return cut_command(c);
}

static enum parse_result take(struct imap_cmd *c, const char *bytes,
                              size_t *length)
{
    const char *line_end;

    if (c->state == IMAP_CMD_LITERAL) {
        if (*length > c->literal_left)
            *length = c->literal_left;
        c->literal_left -= *length;
        if (c->literal_left == 0)
            c->state = IMAP_CMD_LINE;
        return buf_append(&c->text, bytes, *length) == -1 ? hopeless(c)
                                                          : PARSE_MORE;
    }
    line_end = memchr(bytes, '\n', *length);
    if (line_end != NULL)
        *length = (size_t)(line_end - bytes) + 1;
    if (buf_append(&c->text, bytes, *length) == -1)
        return hopeless(c);
    return line_end != NULL ? line_ended(c) : PARSE_MORE;
}

enum parse_result imap_cmd_feed(struct imap_cmd *c, const char *bytes,
                                size_t length, size_t *used_out)
{
    enum parse_result result = PARSE_MORE;

    *used_out = 0;
    while (*used_out < length && result == PARSE_MORE) {
        size_t part = length - *used_out;

        result = take(c, bytes + *used_out, &part);
        *used_out += part;
    }
    if (result != PARSE_MORE)
        c->state = IMAP_CMD_END;
    return result;
}
