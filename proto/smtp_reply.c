#include "proto/smtp_reply.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LINES_MAX 200

void smtp_reply_init(struct smtp_reply *reply)
{
    reply->code = 0;
    reply->text[0] = '\0';
    reply->used = 0;
    reply->line_count = 0;
}

static int code_of(const char *line, size_t length)
{
    if (length < 3 || !isdigit((unsigned char)line[0]) ||
        !isdigit((unsigned char)line[1]) || !isdigit((unsigned char)line[2]))
        return 0;
    return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

static void add_text(struct smtp_reply *reply, const char *text, size_t length)
{
    size_t needed = length + (reply->line_count > 0 ? 1 : 0);

    if (reply->used + needed >= sizeof(reply->text))
        return;
    if (reply->line_count > 0)
        reply->text[reply->used++] = '\n';
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool is_fit = byte == '\t' || (byte >= ' ' && byte < 127);

        reply->text[reply->used++] = is_fit ? (char)byte : '?';
    }
    reply->text[reply->used] = '\0';
}

enum smtp_reply_step smtp_reply_add(struct smtp_reply *reply, const char *line,
                                    size_t length)
{
    int code = code_of(line, length);
    bool is_last = length < 4 || line[3] == ' ';

    if (code < 200 || code > 599 || reply->line_count >= LINES_MAX)
        return SMTP_REPLY_BAD;
    if (length > 3 && line[3] != ' ' && line[3] != '-')
        return SMTP_REPLY_BAD;
    if (reply->line_count > 0 && code != reply->code)
        return SMTP_REPLY_BAD;
    reply->code = code;
    add_text(reply, length > 4 ? line + 4 : "", length > 4 ? length - 4 : 0);
    reply->line_count++;
    return is_last ? SMTP_REPLY_DONE : SMTP_REPLY_MORE;
}

void smtp_reply_set(struct smtp_reply *reply, int code, const char *text)
{
    smtp_reply_init(reply);
    reply->code = code;
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");

        add_text(reply, text, length);
        reply->line_count++;
        text += length + (text[length] == '\n' ? 1 : 0);
    }
}

/* "5.7.1" at the start of text, 0 if there is none, else its length. */
static size_t enhanced_length(const char *text)
{
    size_t at = 1;

    if (strchr("245", text[0]) == NULL || text[0] == '\0')
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits;

        if (text[at] != '.')
            return 0;
        digits = strspn(text + at + 1, "0123456789");
        if (digits < 1 || digits > 3)
            return 0;
        at += 1 + digits;
    }
    return text[at] == ' ' || text[at] == '\0' || text[at] == '\n' ? at : 0;
}

bool smtp_reply_has_enhanced(const struct smtp_reply *reply)
{
    return enhanced_length(reply->text) > 0 &&
           reply->text[0] - '0' == reply->code / 100;
}

void smtp_reply_write(const struct smtp_reply *reply, struct buf *out)
{
    const char *text = reply->text;
    bool wants_code = reply->code / 100 != 3 && !smtp_reply_has_enhanced(reply);
    char enhanced[24] = "";

    if (wants_code)
        snprintf(enhanced, sizeof(enhanced), "%d.0.0 ", reply->code / 100);
    for (;;) {
        size_t length = strcspn(text, "\n");
        bool is_last = text[length] == '\0';

        buf_printf(out, "%d%c%s%.*s\r\n", reply->code, is_last ? ' ' : '-',
                   enhanced, (int)length, text);
        if (is_last)
            return;
        text += length + 1;
    }
}

bool smtp_reply_offers(const struct smtp_reply *reply, const char *keyword,
                       const char **argument_out)
{
    size_t wanted = strlen(keyword);
    const char *line = strchr(reply->text, '\n');

    for (; line != NULL; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, keyword, wanted) != 0)
            continue;
        if (line[wanted] != '\0' && strchr(" =\n", line[wanted]) == NULL)
            continue;
        if (argument_out != NULL)
            *argument_out =
                line + wanted + (line[wanted] == ' ' || line[wanted] == '=');
        return true;
    }
    return false;
}
