/*
 * Commands of an IMAP client before login (RFC 3501, 7888, 4959): a tag, a
 * command and strings, with literals. Collects one command at a time out of
 * the bytes it is fed. No sockets, no clock.
 */
#ifndef PROTO_IMAP_CMD_H
#define PROTO_IMAP_CMD_H

#include <stdbool.h>

#include "base/buf.h"
#include "proto/parse.h"

#define IMAP_CMD_MAX  (16u << 10) /* bytes of one command with its literals */
#define IMAP_TAG_MAX  128
#define IMAP_CMD_ARGS 24 /* kept; further ones are checked and dropped */

enum imap_cmd_state {
    IMAP_CMD_LINE,    /* collecting up to the next line end */
    IMAP_CMD_LITERAL, /* collecting literal_left bytes */
    IMAP_CMD_END      /* told the result; imap_cmd_reset() comes next */
};

struct imap_cmd {
    struct buf text; /* owned; may hold a password, so it is wiped */
    enum imap_cmd_state state;
    size_t line_start; /* in text, of the line that is being collected */
    size_t literal_left;

    /* The client waits for "+ ..." before it goes on; the caller sends it and
       sets this to false. */
    bool wants_go_ahead;
    bool is_hopeless; /* with PARSE_BAD: where the next command begins is not
                         known; say BYE and close */

    /* the command; empty tag if even that was not readable */
    char tag[IMAP_TAG_MAX + 1];
    char verb[32];                    /* upper case; cut ones match nothing */
    struct slice args[IMAP_CMD_ARGS]; /* into text; strings without quotes */
    unsigned arg_count;               /* all of them */
};

void imap_cmd_init(struct imap_cmd *c);
void imap_cmd_release(struct imap_cmd *c); /* wipes */
void imap_cmd_reset(struct imap_cmd *c);   /* ready for the next command */

/* Feed what the client sent; *used_out says how much of it was taken. At
   PARSE_DONE and PARSE_BAD the command has ended and nothing behind it was
   taken; PARSE_MORE takes everything. */
enum parse_result imap_cmd_feed(struct imap_cmd *c, const char *bytes,
                                size_t length, size_t *used_out);

#endif
