/*
 * Addresses of mail servers as the administrator writes them:
 * imap://host:port, imaps://, imap+starttls://; likewise pop3, smtp, sieve,
 * lmtp. Pure.
 */
#ifndef PROTO_MAIL_URL_H
#define PROTO_MAIL_URL_H

#include <stdint.h>

#include "base/err.h"
#include "base/tls.h"

enum mail_protocol {
    MAIL_IMAP,
    MAIL_POP3,
    MAIL_SMTP,
    MAIL_SIEVE,
    MAIL_LMTP,
    MAIL_PROTOCOL_COUNT
};

struct mail_url {
    enum mail_protocol protocol;
    enum tls_mode tls;
    char host[256]; /* without brackets; empty: no such server */
    uint16_t port;  /* the protocol's default where none is written */
};

/* ERR_SETUP with what is wrong in it. A user, path or query is refused. */
int mail_url_parse(const char *text, struct mail_url *url_out, struct err *err);

/* "imap+starttls://host:port", with brackets around IPv6. Returns text. */
const char *mail_url_format(const struct mail_url *url, char text[320]);

#endif
