#include "proto/pop3.h"

#include <ctype.h>
#include <string.h>

enum parse_result pop3_line(const char *bytes, size_t length, size_t max,
                            struct slice *line_out, size_t *used_out)
{
    const char *end;

    if (length == 0)
        return PARSE_MORE;
    end = memchr(bytes, '\n', length);
    if (end == NULL)
        return length > max ? PARSE_BAD : PARSE_MORE;
    *used_out = (size_t)(end - bytes) + 1;
    if (*used_out > max)
        return PARSE_BAD;
    line_out->bytes = bytes;
    line_out->length = *used_out - 1;
    if (line_out->length > 0 && end[-1] == '\r')
        line_out->length--;
    return PARSE_DONE;
}

static bool is_one_line(struct slice line)
{
    return line.length > 0 && memchr(line.bytes, '\0', line.length) == NULL &&
           memchr(line.bytes, '\r', line.length) == NULL;
}

enum parse_result pop3_cmd_parse(struct slice line, struct pop3_cmd *out)
{
    static const struct {
        const char *name;
        enum pop3_verb verb;
    } rows[] = {
        {"CAPA", POP3_CAPA}, {"USER", POP3_USER}, {"PASS", POP3_PASS},
        {"AUTH", POP3_AUTH}, {"STLS", POP3_STLS}, {"NOOP", POP3_NOOP},
        {"QUIT", POP3_QUIT},
    };
    struct slice word = line;
    const char *space;

    if (!is_one_line(line))
        return PARSE_BAD;
    space = memchr(line.bytes, ' ', line.length);
    if (space != NULL)
        word.length = (size_t)(space - line.bytes);
    out->arg.bytes = word.bytes + word.length + (space != NULL ? 1 : 0);
    out->arg.length = line.length - (size_t)(out->arg.bytes - line.bytes);
    out->verb = POP3_UNKNOWN;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (slice_is(word, rows[i].name))
            out->verb = rows[i].verb;
    }
    return PARSE_DONE;
}

static enum pop3_code code_of(struct slice text)
{
    static const struct {
        const char *name;
        enum pop3_code code;
    } rows[] = {{"AUTH", POP3_CODE_AUTH},
                {"SYS/TEMP", POP3_CODE_SYS_TEMP},
                {"SYS/PERM", POP3_CODE_SYS_PERM},
                {"IN-USE", POP3_CODE_IN_USE},
                {"LOGIN-DELAY", POP3_CODE_LOGIN_DELAY}};
    struct slice code = {text.bytes + 1, 0};
    const char *end;

    if (text.length < 2 || text.bytes[0] != '[')
        return POP3_NO_CODE;
    end = memchr(text.bytes, ']', text.length);
    if (end == NULL)
        return POP3_NO_CODE;
    code.length = (size_t)(end - code.bytes);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (slice_is(code, rows[i].name))
            return rows[i].code;
    }
    return POP3_NO_CODE;
}

/* Servers older than the codes say it in words; to take these for a wrong
   password would make people change a right one. */
static enum pop3_code code_in_words(struct slice text)
{
    static const char *const boxes[] = {"mailbox", "maildrop", "mail drop",
                                        "maildir", "mbox"};
    char words[256] = "";
    bool is_box = false;

    for (size_t i = 0; i < text.length && i < sizeof words - 1; i++)
        words[i] = (char)tolower((unsigned char)text.bytes[i]);
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++)
        is_box = is_box || strstr(words, boxes[i]) != NULL;
    if (is_box && (strstr(words, "lock") || strstr(words, "in use") ||
                   strstr(words, "busy")))
        return POP3_CODE_IN_USE;
    return strstr(words, "temporar") ? POP3_CODE_SYS_TEMP : POP3_NO_CODE;
}

enum parse_result pop3_reply_parse(struct slice line, struct pop3_reply *out)
{
    struct slice text = line;
    struct slice word;

    if (!is_one_line(line))
        return PARSE_BAD;
    word = slice_next_word(&text);
    if (slice_is(word, "+OK"))
        out->status = POP3_OK;
    else if (slice_is(word, "-ERR"))
        out->status = POP3_ERR;
    else if (slice_is(word, "+"))
        out->status = POP3_GO_AHEAD;
    else
        return PARSE_BAD;
    if (text.length > 0) {
        text.bytes++;
        text.length--;
    }
    out->text = text;
    out->code = code_of(text);
    if (out->status == POP3_ERR && out->code == POP3_NO_CODE)
        out->code = code_in_words(text);
    return PARSE_DONE;
}

bool pop3_reply_is_refusal(const struct pop3_reply *reply)
{
    return reply->status == POP3_ERR &&
           (reply->code == POP3_NO_CODE || reply->code == POP3_CODE_AUTH);
}
