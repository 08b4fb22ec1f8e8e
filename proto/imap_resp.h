/*
 * Responses of an IMAP server until a session is logged in and its mailbox was
 * looked at (RFC 3501 section 7, 5530 codes, 2342 NAMESPACE). One response at a
 * time; literals in them are counted and skipped. No sockets, no clock.
 */
#ifndef PROTO_IMAP_RESP_H
#define PROTO_IMAP_RESP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "proto/parse.h"

#define IMAP_RESP_MAX     (16u << 10) /* bytes of one response, no literals */
#define IMAP_RESP_LITERAL (1u << 20)  /* bytes of all its literals */

enum imap_resp_kind { IMAP_GO_AHEAD, IMAP_UNTAGGED, IMAP_TAGGED };

enum imap_status {
    IMAP_NO_STATUS, /* untagged mailbox or server data */
    IMAP_OK,
    IMAP_NO,
    IMAP_BAD,
    IMAP_PREAUTH,
    IMAP_BYE
};

struct imap_resp {
    struct buf text;     /* owned: the response, line end cut off */
    size_t line_start;   /* of the line being collected */
    size_t literal_left; /* bytes still to be skipped */
    size_t skipped;      /* bytes of literals so far */
    bool is_whole;

    enum imap_resp_kind kind;
    enum imap_status status;
    struct slice tag;  /* of IMAP_TAGGED */
    struct slice name; /* of data: "CAPABILITY", or "EXISTS" of "3 EXISTS" */
    struct slice code; /* between the brackets, without them; length 0: none */
    struct slice rest; /* what follows tag or "*": "OK [..] text" */
    struct slice text_after; /* what follows name, or status and code */
};

void imap_resp_init(struct imap_resp *r);
void imap_resp_release(struct imap_resp *r);

/* Feed what the server sent; a response that was PARSE_DONE before is dropped
   first. Nothing behind its end is taken. PARSE_BAD: not IMAP, or too long;
   the connection is of no more use. */
enum parse_result imap_resp_feed(struct imap_resp *r, const char *bytes,
                                 size_t length, size_t *used_out);

/* What we want to know of a server's abilities. */
struct imap_caps {
    bool is_known;
    bool has_starttls;
    bool has_login_disabled;
    bool has_plain; /* AUTH=PLAIN */
    bool has_sasl_ir;
    bool has_literal_plus; /* or LITERAL-, which does for what we send */
    bool has_namespace;
    bool has_compress;
};

/* Look for capabilities in a response: untagged data or a code. False if there
   are none, then *out is as before. */
bool imap_resp_caps(const struct imap_resp *r, struct imap_caps *out);

enum imap_refusal {
    IMAP_REFUSAL_FINAL,     /* these credentials are wrong */
    IMAP_REFUSAL_TEMPORARY, /* UNAVAILABLE, INUSE, LIMIT, SERVERBUG ... */
};

/* What a NO to a login means by its code (RFC 5530). */
enum imap_refusal imap_resp_refusal(const struct imap_resp *r);

/* The first personal namespace of "NAMESPACE ((\"INBOX.\" \".\")) NIL NIL"
   (slice behind the word NAMESPACE). separator_out is "" for NIL. -1 if there
   is none that can be read, or it does not fit. */
int imap_namespace_read(struct slice list, char *prefix_out, size_t size,
                        char separator_out[2]);

/* The separator of "(\\Noselect) \"/\" \"\"" (behind the word LIST). */
int imap_list_separator(struct slice list, char separator_out[2]);

#endif
