/*
 * POP3 lines before login and around it (RFC 1939, 2449 CAPA and codes, 5034
 * AUTH, 2595 STLS). Pure.
 */
#ifndef PROTO_POP3_H
#define PROTO_POP3_H

#include <stdbool.h>

#include "proto/parse.h"

/* Bytes of a client's line: AUTH PLAIN with its response is the longest. */
#define POP3_LINE_MAX 8192

enum pop3_verb {
    POP3_UNKNOWN,
    POP3_CAPA,
    POP3_USER,
    POP3_PASS,
    POP3_AUTH,
    POP3_STLS,
    POP3_NOOP,
    POP3_QUIT
};

struct pop3_cmd {
    enum pop3_verb verb;
    struct slice arg; /* the rest of the line behind one space, as it is */
};

/* Find the first line of bytes. PARSE_DONE: *line_out without its line end
   (CRLF or LF), *used_out with it. PARSE_BAD: longer than max. */
enum parse_result pop3_line(const char *bytes, size_t length, size_t max,
                            struct slice *line_out, size_t *used_out);

/* PARSE_BAD for a line with NUL or CR inside, or an empty one. */
enum parse_result pop3_cmd_parse(struct slice line, struct pop3_cmd *out);

enum pop3_status { POP3_OK, POP3_ERR, POP3_GO_AHEAD /* "+ ..." */ };

enum pop3_code {
    POP3_NO_CODE,
    POP3_CODE_AUTH,       /* RFC 3206: the credentials are wrong */
    POP3_CODE_SYS_TEMP,   /* RFC 3206 */
    POP3_CODE_SYS_PERM,   /* RFC 3206 */
    POP3_CODE_IN_USE,     /* RFC 2449 */
    POP3_CODE_LOGIN_DELAY /* RFC 2449 */
};

struct pop3_reply {
    enum pop3_status status;
    enum pop3_code code;
    struct slice text; /* behind "+OK " or "-ERR ", with its code */
};

enum parse_result pop3_reply_parse(struct slice line, struct pop3_reply *out);

/* Whether an -ERR to a login says "these credentials are wrong"; else it is
   temporary. */
bool pop3_reply_is_refusal(const struct pop3_reply *reply);

#endif
