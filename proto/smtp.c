#include "proto/smtp.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char *const verb_name[] = {
    [SMTP_HELO] = "HELO", [SMTP_EHLO] = "EHLO", [SMTP_LHLO] = "LHLO",
    [SMTP_MAIL] = "MAIL", [SMTP_RCPT] = "RCPT", [SMTP_DATA] = "DATA",
    [SMTP_RSET] = "RSET", [SMTP_NOOP] = "NOOP", [SMTP_QUIT] = "QUIT",
    [SMTP_VRFY] = "VRFY", [SMTP_HELP] = "HELP", [SMTP_STARTTLS] = "STARTTLS",
    [SMTP_BDAT] = "BDAT", [SMTP_HTTP] = "HTTP", [SMTP_OTHER] = "OTHER",
};
_Static_assert(sizeof(verb_name) / sizeof(verb_name[0]) == SMTP_VERB_COUNT,
               "a name for each verb");

/* The rest of a line that is still to be read. */
struct cursor {
    const char *at;
    const char *end;
};

static bool is_done(const struct cursor *c)
{
    return c->at == c->end;
}

static bool take(struct cursor *c, char wanted)
{
    if (is_done(c) || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static void skip_spaces(struct cursor *c)
{
    while (!is_done(c) && (*c->at == ' ' || *c->at == '\t'))
        c->at++;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(c->end - c->at) < length ||
        strncasecmp(c->at, word, length) != 0)
        return false;
    c->at += length;
    return true;
}

/* A path under construction; false from push when it does not fit. */
struct writer {
    char *text;
    size_t used;
};

static bool push(struct writer *w, char byte)
{
    if (w->used + 1 >= SMTP_PATH_MAX)
        return false;
    w->text[w->used++] = byte;
    w->text[w->used] = '\0';
    return true;
}

/* RFC 5321 4.1.2 atext and the dot, without what RFC 6531 adds. */
static bool is_atom_byte(char byte)
{
    return isalnum((unsigned char)byte) ||
           (byte != '\0' && strchr("!#$%&'*+-/=?^_`{|}~.", byte) != NULL);
}

static bool parse_quoted(struct cursor *c, struct writer *text,
                         struct writer *plain)
{
    while (!is_done(c) && *c->at != '"') {
        if (*c->at == '\\') {
            if (!push(text, *c->at++) || is_done(c))
                return false;
        }
        if (!push(text, *c->at) || !push(plain, *c->at))
            return false;
        c->at++;
    }
    return take(c, '"') && push(text, '"');
}

static bool parse_local(struct cursor *c, struct writer *text,
                        struct writer *plain)
{
    size_t before;

    if (take(c, '"'))
        return push(text, '"') && parse_quoted(c, text, plain);
    before = text->used;
    while (!is_done(c) && is_atom_byte(*c->at)) {
        if (!push(text, *c->at) || !push(plain, *c->at))
            return false;
        c->at++;
    }
    return text->used > before;
}

static bool parse_domain(struct cursor *c, struct smtp_path *path,
                         struct writer *text, struct writer *plain)
{
    size_t before = text->used;

    path->is_literal = !is_done(c) && *c->at == '[';
    while (!is_done(c)) {
        char byte = *c->at;
        bool is_fit = isalnum((unsigned char)byte) || byte == '-' ||
                      byte == '.' || byte == '_' ||
                      (path->is_literal && strchr("[]:", byte) != NULL);

        if (!is_fit)
            break;
        if (!push(text, byte) || !push(plain, byte))
            return false;
        c->at++;
    }
    path->has_domain = text->used > before;
    return path->has_domain &&
           (!path->is_literal || text->text[text->used - 1] == ']');
}

/* "@a,@b:" in front of a mailbox. */
static bool skip_route(struct cursor *c)
{
    if (is_done(c) || *c->at != '@')
        return true;
    while (!is_done(c) && *c->at != ':') {
        if (!isalnum((unsigned char)*c->at) && strchr("@,.-_", *c->at) == NULL)
            return false;
        c->at++;
    }
    return take(c, ':');
}

/* Angle brackets may be missing: many senders leave them out, and the address
   cannot be misread without them. */
static bool parse_path(struct cursor *c, struct smtp_path *path)
{
    struct writer text = {path->text, 0};
    struct writer plain = {path->plain, 0};
    bool has_brackets = take(c, '<');

    if (has_brackets && take(c, '>'))
        return true;
    if (has_brackets && !skip_route(c))
        return false;
    if (!parse_local(c, &text, &plain))
        return false;
    if (take(c, '@') && (!push(&text, '@') || !push(&plain, '@') ||
                         !parse_domain(c, path, &text, &plain)))
        return false;
    if (has_brackets && !take(c, '>'))
        return false;
    return is_done(c) || *c->at == ' ' || *c->at == '\t';
}

static bool parse_size(const char *value, size_t length, uint64_t *size_out)
{
    uint64_t size = 0;

    if (length == 0 || length > 18)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)value[i]))
            return false;
        size = size * 10 + (uint64_t)(value[i] - '0');
    }
    *size_out = size;
    return true;
}

static bool value_is(const char *value, size_t length, const char *word)
{
    return length == strlen(word) && strncasecmp(value, word, length) == 0;
}

/* One "KEY=value" of MAIL. Nothing is offered for RCPT. */
static enum smtp_fault parse_parameter(struct cursor *c,
                                       struct smtp_command *command)
{
    const char *value;
    size_t length;
    struct cursor start = *c;

    while (!is_done(c) && *c->at != ' ' && *c->at != '\t')
        c->at++;
    if (command->verb != SMTP_MAIL)
        return SMTP_BAD_PARAMETER;
    if (take_word(&start, "SIZE=")) {
        value = start.at;
        command->has_size = true;
        return parse_size(value, (size_t)(c->at - value), &command->size_bytes)
                   ? SMTP_GOOD
                   : SMTP_BAD_SYNTAX;
    }
    if (!take_word(&start, "BODY="))
        return SMTP_BAD_PARAMETER;
    value = start.at;
    length = (size_t)(c->at - value);
    command->is_8bit = value_is(value, length, "8BITMIME");
    return command->is_8bit || value_is(value, length, "7BIT")
               ? SMTP_GOOD
               : SMTP_BAD_PARAMETER;
}

static enum smtp_fault parse_mail_or_rcpt(struct cursor *c,
                                          struct smtp_command *command)
{
    const char *word = command->verb == SMTP_MAIL ? "FROM:" : "TO:";

    if (!take_word(c, word))
        return SMTP_BAD_SYNTAX;
    skip_spaces(c);
    if (!parse_path(c, &command->path))
        return SMTP_BAD_ADDRESS;
    if (command->verb == SMTP_RCPT && command->path.text[0] == '\0')
        return SMTP_BAD_ADDRESS;
    skip_spaces(c);
    while (!is_done(c)) {
        enum smtp_fault fault = parse_parameter(c, command);

        if (fault != SMTP_GOOD)
            return fault;
        skip_spaces(c);
    }
    return SMTP_GOOD;
}

static enum smtp_fault parse_hello(struct cursor *c,
                                   struct smtp_command *command)
{
    size_t length = 0;

    while (!is_done(c) && *c->at != ' ' && *c->at != '\t') {
        if (length + 1 >= sizeof(command->name))
            return SMTP_BAD_SYNTAX;
        command->name[length++] = *c->at++;
    }
    return length > 0 ? SMTP_GOOD : SMTP_BAD_SYNTAX;
}

static enum smtp_fault parse_argument(struct cursor *c,
                                      struct smtp_command *command)
{
    switch (command->verb) {
    case SMTP_HELO:
    case SMTP_EHLO:
    case SMTP_LHLO: return parse_hello(c, command);
    case SMTP_MAIL:
    case SMTP_RCPT: return parse_mail_or_rcpt(c, command);
    case SMTP_DATA:
    case SMTP_RSET:
    case SMTP_QUIT:
    case SMTP_STARTTLS: return is_done(c) ? SMTP_GOOD : SMTP_BAD_SYNTAX;
    case SMTP_NOOP:
    case SMTP_VRFY:
    case SMTP_HELP:
    case SMTP_BDAT:
    case SMTP_HTTP:
    case SMTP_OTHER:
    case SMTP_VERB_COUNT: break;
    }
    return SMTP_GOOD;
}

static enum smtp_verb parse_verb(struct cursor *c)
{
    static const char *const browser[] = {"GET",  "PUT",     "POST",
                                          "HEAD", "CONNECT", "OPTIONS"};
    const char *word = c->at;
    size_t length;

    while (!is_done(c) && *c->at != ' ' && *c->at != '\t')
        c->at++;
    length = (size_t)(c->at - word);
    for (int verb = 0; verb <= SMTP_BDAT; verb++)
        if (value_is(word, length, verb_name[verb]))
            return (enum smtp_verb)verb;
    for (size_t i = 0; i < sizeof(browser) / sizeof(browser[0]); i++)
        if (value_is(word, length, browser[i]))
            return SMTP_HTTP;
    return SMTP_OTHER;
}

static bool is_printable(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)line[i];

        if ((byte < ' ' && byte != '\t') || byte >= 127)
            return false;
    }
    return true;
}

void smtp_command_parse(const char *line, size_t length,
                        struct smtp_command *command)
{
    struct cursor c = {line, line + length};

    memset(command, 0, sizeof(*command));
    while (c.end > c.at && (c.end[-1] == ' ' || c.end[-1] == '\t'))
        c.end--;
    command->verb = parse_verb(&c);
    if (!is_printable(line, length)) {
        command->fault = SMTP_BAD_ENCODING;
        return;
    }
    skip_spaces(&c);
    command->fault = parse_argument(&c, command);
}

const char *smtp_verb_name(enum smtp_verb verb)
{
    return (unsigned)verb < SMTP_VERB_COUNT ? verb_name[verb] : "OTHER";
}
