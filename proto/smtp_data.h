/*
 * The text of a message between DATA and its end, over any split into chunks.
 * CR LF dot CR LF is the only end (RFC 5321 4.1.1.4, 2.3.8). What another
 * server might take for a line end is made harmless, so that it cannot see an
 * end that we did not see: a bare LF becomes CR LF, a bare CR becomes a space.
 * (Refusing them would bounce mail of real, careless senders; passing them on
 * is the hole called smuggling.) Pure.
 */
#ifndef PROTO_SMTP_DATA_H
#define PROTO_SMTP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum smtp_data_state {
    DATA_LINE_START, /* after CR LF, or at the very start */
    DATA_BARE_START, /* after a bare LF: a dot here is text */
    DATA_LINE,
    DATA_CR,       /* within a line, a CR is held back */
    DATA_START_CR, /* a CR at the start of a line */
    DATA_DOT,      /* a dot at the start of a line is held back */
    DATA_DOT_CR,   /* ... and a CR behind it */
    DATA_END
};

struct smtp_data {
    enum smtp_data_state state;
    uint64_t size_bytes; /* of the text so far, without stuffed dots */
};

void smtp_data_init(struct smtp_data *data);

/* Read from bytes until they or the message end; what it read is added to out
   as lines for the next server: CR LF ends, dots stuffed, without the final
   ".CRLF". out needs room for 2 * length + 4 bytes. Returns how many bytes it
   took: all of them unless smtp_data_is_done(). */
size_t smtp_data_read(struct smtp_data *data, const char *bytes, size_t length,
                      struct buf *out);

bool smtp_data_is_done(const struct smtp_data *data);

#endif
