#include "cli/trace_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* "2026-03-01T12:00:00.123Z " */
static const char *parse_time(const char *line, int64_t *at_out)
{
    struct tm parts = {0};
    const char *end = strptime(line, "%Y-%m-%dT%H:%M:%S", &parts);
    char *rest;
    long ms;

    if (!end || *end != '.')
        return NULL;
    ms = strtol(end + 1, &rest, 10);
    if (rest != end + 4 || strncmp(rest, "Z ", 2) != 0)
        return NULL;
    *at_out = (int64_t)timegm(&parts) * 1000 + ms;
    return rest + 2;
}

static bool copy_word(const char **at, const char *ends, char *out, size_t size)
{
    size_t length = strcspn(*at, ends);

    if (length == 0 || length >= size || !(*at)[length])
        return false;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length;
    return true;
}

bool trace_line_parse(const char *line, struct trace_line *out)
{
    char value[TRACE_VALUE_MAX], level[16];
    const char *at, *end;

    memset(out, 0, sizeof(*out));
    at = parse_time(line, &out->at);
    if (!at || !copy_word(&at, "[", out->role, sizeof(out->role)))
        return false;
    end = strstr(at, "] ");
    if (!end)
        return false;
    at = end + 2;
    if (!copy_word(&at, " ", level, sizeof(level)))
        return false;
    out->text = at + 1;
    at = out->text;
    if (strncmp(at, "smtp ", 5) == 0) {
        at += 5;
        if (copy_word(&at, " ", value, sizeof(value)) && strchr(value, '-'))
            snprintf(out->session, sizeof(out->session), "%.63s", value);
    } else if (trace_line_value(out->text, "session", value)) {
        snprintf(out->session, sizeof(out->session), "%.63s", value);
    }
    if (trace_line_value(out->text, "mail", value))
        out->mail = (int)strtol(value, NULL, 10);
    return true;
}

/* The next key=value from *at on; false at the end. *value is quoted or not.
   Words without '=' are passed over. */
static bool next_pair(const char **at, const char **key, size_t *key_length,
                      const char **value, size_t *value_length)
{
    while (**at) {
        size_t length = strcspn(*at, "= ");

        if ((*at)[length] != '=' || length == 0) {
            *at += length + ((*at)[length] != '\0');
            continue;
        }
        *key = *at;
        *key_length = length;
        *value = *at + length + 1;
        if (**value == '"') {
            ++*value;
            *value_length = strcspn(*value, "\"");
            *at = *value + *value_length;
            *at += **at == '"';
        } else {
            *value_length = strcspn(*value, " ");
            *at = *value + *value_length;
        }
        return true;
    }
    return false;
}

static void take_value(const char *value, size_t length,
                       char out[TRACE_VALUE_MAX])
{
    if (length >= 2 && value[0] == '<' && value[length - 1] == '>') {
        value++;
        length -= 2;
    }
    if (length >= TRACE_VALUE_MAX)
        length = TRACE_VALUE_MAX - 1;
    memcpy(out, value, length);
    out[length] = '\0';
}

bool trace_line_value(const char *text, const char *key,
                      char out[TRACE_VALUE_MAX])
{
    const char *at = text, *found, *value;
    size_t length, value_length;

    while (next_pair(&at, &found, &length, &value, &value_length)) {
        if (length != strlen(key) || memcmp(found, key, length) != 0)
            continue;
        take_value(value, value_length, out);
        return true;
    }
    return false;
}

bool trace_line_names(const struct trace_line *line, const char *address)
{
    static const char *const keys[] = {"address", "user", "to", "from"};
    char value[TRACE_VALUE_MAX];
    size_t length = strlen(address);

    if (strncmp(line->text, "account ", 8) == 0 &&
        strncasecmp(line->text + 8, address, length) == 0 &&
        line->text[8 + length] == ' ')
        return true;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (trace_line_value(line->text, keys[i], value) &&
            strcasecmp(value, address) == 0)
            return true;
    return false;
}

json_t *trace_line_fields(const struct trace_line *line)
{
    const char *at = line->text, *key, *value;
    size_t length, value_length;
    json_t *fields = json_object();
    char name[64], text[TRACE_VALUE_MAX];

    while (next_pair(&at, &key, &length, &value, &value_length)) {
        if (length >= sizeof(name))
            continue;
        memcpy(name, key, length);
        name[length] = '\0';
        take_value(value, value_length, text);
        json_object_set_new(fields, name, json_string(text));
    }
    return fields;
}

/* --- in plain words */

struct told {
    const struct trace_line *line;
    char values[6][TRACE_VALUE_MAX];
    unsigned turn;
};

/* Lives until the sixth next. */
static const char *value_of(struct told *t, const char *key)
{
    char *out = t->values[t->turn++ % 6];

    if (!trace_line_value(t->line->text, key, out))
        snprintf(out, TRACE_VALUE_MAX, "?");
    return out;
}

static const char *side_words(const char *side)
{
    if (strcmp(side, "legacy") == 0)
        return "the old server";
    return strcmp(side, "local") == 0 ? "the new server" : "no server";
}

static void tell_mail(struct told *t, const char *word, char *out, size_t size)
{
    if (strcmp(word, "message") == 0)
        snprintf(out, size,
                 "mail from <%s>, Message-ID %s, %s bytes, to %s: answered %s",
                 value_of(t, "from"), value_of(t, "message_id"),
                 value_of(t, "size"), side_words(value_of(t, "side")),
                 value_of(t, "code"));
    else if (strcmp(word, "recipient") == 0)
        snprintf(out, size, "  for <%s>, %s said: %s %s", value_of(t, "to"),
                 side_words(value_of(t, "side")), value_of(t, "code"),
                 value_of(t, "answer"));
    else if (strcmp(word, "refused") == 0)
        snprintf(out, size,
                 "recipient <%s> of a mail from <%s> not taken: %s %s",
                 value_of(t, "to"), value_of(t, "from"), value_of(t, "code"),
                 value_of(t, "answer"));
    else if (strcmp(word, "session") == 0)
        snprintf(out, size, "its SMTP session from %s (%s) ended, %s messages",
                 value_of(t, "ip"), value_of(t, "hello"),
                 value_of(t, "messages"));
    else
        snprintf(out, size, "%s", t->line->text);
}

static void tell_login(struct told *t, char *out, size_t size)
{
    const char *text = t->line->text;
    const char *route = value_of(t, "route"), *tls = value_of(t, "tls");

    if (strncmp(text, "login accepted ", 15) == 0)
        snprintf(out, size, "%s login of %s from %s accepted by %s (TLS %s)",
                 value_of(t, "protocol"), value_of(t, "user"),
                 value_of(t, "ip"), side_words(route), tls);
    else if (strncmp(text, "session end ", 12) == 0)
        snprintf(out, size,
                 "%s session from %s on %s ended: %s (%s bytes in, %s out)",
                 value_of(t, "protocol"), value_of(t, "ip"), side_words(route),
                 value_of(t, "reason"), value_of(t, "in"), value_of(t, "out"));
    else
        snprintf(out, size, "%s login of %s from %s failed, %s: %s",
                 value_of(t, "protocol"), value_of(t, "user"),
                 value_of(t, "ip"), value_of(t, "reason"), value_of(t, "text"));
}

void trace_line_tell(const struct trace_line *line, char *out, size_t size)
{
    struct told t = {.line = line};
    char word[32] = "";
    const char *at;

    if (strncmp(line->text, "smtp ", 5) == 0 && line->session[0]) {
        at = line->text + 5 + strlen(line->session) + 1;
        copy_word(&at, " ", word, sizeof(word));
        tell_mail(&t, word, out, size);
    } else if (strncmp(line->text, "login ", 6) == 0 ||
               strncmp(line->text, "session end ", 12) == 0) {
        tell_login(&t, out, size);
    } else {
        snprintf(out, size, "%s", line->text);
    }
}
