#include "smtp-proxy/trace.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOP_FIELD "X-Mailhaul-Hop:"
#define ID_FIELD  "Message-ID:"

void trace_init(struct trace *trace, const char *node)
{
    memset(trace, 0, sizeof(*trace));
    trace->node = node;
    trace->is_in_headers = true;
}

static bool begins_with(const struct trace *trace, const char *field)
{
    size_t length = strlen(field);

    return trace->used >= length &&
           strncasecmp(trace->line, field, length) == 0;
}

static bool is_own_hop(const struct trace *trace)
{
    size_t at = strlen(HOP_FIELD);
    size_t length = strlen(trace->node);

    if (!begins_with(trace, HOP_FIELD))
        return false;
    while (at < trace->used && isspace((unsigned char)trace->line[at]))
        at++;
    return trace->used - at == length &&
           strncasecmp(trace->line + at, trace->node, length) == 0;
}

/* The first Message-ID counts; its body may begin on the next line. */
static void read_message_id(struct trace *trace)
{
    bool is_field = begins_with(trace, ID_FIELD);
    bool goes_on = trace->awaits_message_id &&
                   (trace->line[0] == ' ' || trace->line[0] == '\t');
    const char *at, *end;
    size_t length;

    trace->awaits_message_id = false;
    if (trace->message_id[0] != '\0' || (!is_field && !goes_on))
        return;
    at = memchr(trace->line, '<', trace->used);
    if (at == NULL) {
        trace->awaits_message_id = is_field;
        return;
    }
    length = (size_t)(trace->line + trace->used - at);
    end = memchr(at, '>', length);
    if (end != NULL)
        length = (size_t)(end - at) + 1;
    if (length >= sizeof(trace->message_id))
        length = sizeof(trace->message_id) - 1;
    memcpy(trace->message_id, at, length);
    trace->message_id[length] = '\0';
}

/* A whole header line is in trace->line. */
static void end_line(struct trace *trace)
{
    while (trace->used > 0 &&
           isspace((unsigned char)trace->line[trace->used - 1]))
        trace->used--;
    if (trace->used == 0)
        trace->is_in_headers = false;
    else if (begins_with(trace, "Received:"))
        trace->received_count++;
    else if (is_own_hop(trace))
        trace->hop_count++;
    else
        read_message_id(trace);
    trace->used = 0;
}

void trace_read(struct trace *trace, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && trace->is_in_headers; i++) {
        if (bytes[i] == '\n')
            end_line(trace);
        else if (trace->used < sizeof(trace->line))
            trace->line[trace->used++] = bytes[i];
    }
}

bool trace_is_loop(const struct trace *trace)
{
    return trace->received_count >= TRACE_RECEIVED_MAX ||
           trace->hop_count >= TRACE_HOP_MAX;
}

/* A name for a header line: what is no host name or address becomes '?'. */
static void clean_hello(const char *hello, char out[80])
{
    size_t used = 0;

    for (; *hello != '\0' && used < 79; hello++) {
        bool is_fit =
            isalnum((unsigned char)*hello) || strchr(".-_:[]", *hello) != NULL;

        out[used++] = is_fit ? *hello : '?';
    }
    out[used] = '\0';
}

void trace_write(const struct trace *trace, const struct trace_origin *origin,
                 struct buf *out)
{
    char hello[80];
    char date[64];
    struct tm parts;

    clean_hello(origin->hello, hello);
    gmtime_r(&origin->now, &parts);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &parts);
    buf_printf(out,
               "Received: from %s ([%s%s])\r\n"
               "\tby %s with %s id %s;\r\n\t%s\r\n" HOP_FIELD " %s\r\n",
               hello, strchr(origin->address, ':') != NULL ? "IPv6:" : "",
               origin->address, trace->node, origin->with, origin->id, date,
               trace->node);
}

void trace_greeting(const char *node, bool is_lmtp,
                    char out[TRACE_GREETING_MAX])
{
    snprintf(out, TRACE_GREETING_MAX, "%s %s mailhaul", node,
             is_lmtp ? "LMTP" : "ESMTP");
}
