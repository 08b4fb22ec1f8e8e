/*
 * Replies of an SMTP or LMTP server (RFC 5321 4.2, RFC 2034): several lines to
 * one value, and back into lines for a client. Pure.
 */
#ifndef PROTO_SMTP_REPLY_H
#define PROTO_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define SMTP_REPLY_LINE_MAX 2048 /* RFC 5321 4.5.3.1.5 says 512 */
#define SMTP_REPLY_TEXT_MAX 4096 /* what is longer is cut at a line */

struct smtp_reply {
    int code;                       /* 200 to 599 */
    char text[SMTP_REPLY_TEXT_MAX]; /* lines without code, joined by LF */
    size_t used;
    unsigned line_count;
};

enum smtp_reply_step { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

void smtp_reply_init(struct smtp_reply *reply);

/* Add one line without its line end. Control characters and 8-bit bytes become
   '?'. BAD: no reply, a code that changed, or more than 200 lines. */
enum smtp_reply_step smtp_reply_add(struct smtp_reply *reply, const char *line,
                                    size_t length);

/* A reply of our own; text begins with the enhanced code, LF between lines. */
void smtp_reply_set(struct smtp_reply *reply, int code, const char *text);

/* The lines as a client gets them, CR LF included. A 2xx, 4xx or 5xx without
   enhanced status code gets "c.0.0" (RFC 2034 4 wants one on each). */
void smtp_reply_write(const struct smtp_reply *reply, struct buf *out);

/* The first line has an enhanced status code that fits the code. */
bool smtp_reply_has_enhanced(const struct smtp_reply *reply);

/* Is one of the lines after the first "KEYWORD" or "KEYWORD ..."? Any case.
   argument_out (may be NULL) then points at what follows the keyword's space,
   up to LF or NUL. */
bool smtp_reply_offers(const struct smtp_reply *reply, const char *keyword,
                       const char **argument_out);

#endif
