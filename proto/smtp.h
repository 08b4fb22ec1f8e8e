/*
 * Commands of an SMTP (RFC 5321) or LMTP (RFC 2033) client, as a server reads
 * them. Pure; replies are in smtp_reply.h, the message text in smtp_data.h.
 */
#ifndef PROTO_SMTP_H
#define PROTO_SMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 5321 4.5.3.1.3 and the quoting of a local part: what we take at most. */
#define SMTP_PATH_MAX 400
/* RFC 5321 4.5.3.1.4 says 512, its extensions add some hundred. */
#define SMTP_COMMAND_MAX 2048
#define SMTP_NAME_MAX    256

enum smtp_verb {
    SMTP_HELO,
    SMTP_EHLO,
    SMTP_LHLO,
    SMTP_MAIL,
    SMTP_RCPT,
    SMTP_DATA,
    SMTP_RSET,
    SMTP_NOOP,
    SMTP_QUIT,
    SMTP_VRFY,
    SMTP_HELP,
    SMTP_STARTTLS,
    SMTP_BDAT,  /* known only to be refused for good: a payload follows */
    SMTP_HTTP,  /* a web browser talks to us: close */
    SMTP_OTHER, /* 500 or 502 */
    SMTP_VERB_COUNT
};

enum smtp_fault {
    SMTP_GOOD,
    SMTP_BAD_SYNTAX,    /* 501 5.5.4 */
    SMTP_BAD_ADDRESS,   /* 501 5.1.3, MAIL: 5.1.7 */
    SMTP_BAD_PARAMETER, /* 555 5.5.4 */
    SMTP_BAD_ENCODING   /* 8-bit or control characters: 500 5.5.2 */
};

/* What stands between < and >, without a source route (RFC 5321 C: it is read
   and ignored). Both strings are empty for the null path. */
struct smtp_path {
    char text[SMTP_PATH_MAX];  /* as given, quotes and case kept: for the hop */
    char plain[SMTP_PATH_MAX]; /* local part unquoted: for look-ups */
    bool has_domain;
    bool is_literal; /* the domain is [an address] */
};

struct smtp_command {
    enum smtp_verb verb;
    enum smtp_fault fault;
    char name[SMTP_NAME_MAX]; /* argument of HELO, EHLO, LHLO */
    struct smtp_path path;    /* of MAIL and RCPT */
    bool has_size;
    uint64_t size_bytes; /* SIZE= of MAIL (RFC 1870) */
    bool is_8bit;        /* BODY=8BITMIME of MAIL (RFC 6152) */
};

/* Read one line without its line end. Always fills *command. */
void smtp_command_parse(const char *line, size_t length,
                        struct smtp_command *command);

/* "MAIL" and so on; "OTHER" for what has no name. */
const char *smtp_verb_name(enum smtp_verb verb);

#endif
