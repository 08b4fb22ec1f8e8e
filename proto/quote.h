/*
 * Strings as IMAP commands carry them (RFC 3501 section 4.3). Pure.
 */
#ifndef PROTO_QUOTE_H
#define PROTO_QUOTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Whether it may be sent as a quoted string: 7 bit, no NUL, CR, LF, and short
   enough for servers with small line buffers. */
bool quote_is_possible(const char *bytes, size_t length);

/* Append it in quotes, '"' and '\' escaped. -1 if it does not fit. The caller
   has asked quote_is_possible(). */
int quote_append(struct buf *out, const char *bytes, size_t length);

/* Append the announcement of a literal and its line end: "{5}" or "{5+}". The
   bytes follow, for "{5}" after the server's "+". */
int quote_append_literal(struct buf *out, size_t length, bool wait_for_server);

#endif
