/*
 * The dialogue with one next hop over SMTP or LMTP, message after message.
 * Owns its connection. What to send and what an answer means for the client is
 * for transaction.c.
 */
#ifndef SMTP_PROXY_BACKEND_H
#define SMTP_PROXY_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dns.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/tls.h"
#include "proto/mail_url.h"
#include "proto/smtp_reply.h"

struct backend;

/* Called from the loop, never from inside a backend_ call. backend_close is
   allowed inside each. */
struct backend_ops {
    /* The answer to backend_recipient: to RCPT, or to MAIL if that was refused
     */
    void (*on_recipient)(void *ctx, const struct smtp_reply *reply);
    /* The answer to backend_start_text: code 354, or a refusal. */
    void (*on_start_text)(void *ctx, const struct smtp_reply *reply);
    /* Everything written has left; more may be written. */
    void (*on_drained)(void *ctx);
    /* Refused before the dot was sent: only backend_close makes sense now. */
    void (*on_refused)(void *ctx, const struct smtp_reply *reply);
    /* After the dot: the verdict on the index-th accepted recipient (LMTP), or
       once with index 0 on all (SMTP). */
    void (*on_verdict)(void *ctx, unsigned index,
                       const struct smtp_reply *reply);
    /* The hop is gone, in whatever state: backend_close is due. */
    void (*on_lost)(void *ctx, const struct err *err);
};

struct backend_options {
    struct loop *loop; /* all borrowed until backend_close */
    struct dns *dns;
    struct tls_client *tls; /* may be NULL: hops over TLS are then lost */
    const char *node;       /* said in EHLO */
    const struct backend_ops *ops;
    void *ctx;
};

/* Begin to connect. url: smtp or lmtp; with STARTTLS a hop that does not offer
   it is lost, never spoken to in clear. */
struct backend *backend_open(const struct backend_options *options,
                             const struct mail_url *url);

/* Say goodbye where that is legal, and close. In the midst of a message the
   connection is cut, so that no word of ours can become its text or its end. */
void backend_close(struct backend **backend);

const struct mail_url *backend_url(const struct backend *backend);

struct backend_envelope {
    const char *sender; /* without brackets */
    bool has_size;
    uint64_t size_bytes;
    bool is_8bit;
};

/* Ask for one recipient (a path without brackets); the first one of a message
   sends MAIL before it. One question at a time; both arguments are copied. */
void backend_recipient(struct backend *backend,
                       const struct backend_envelope *envelope,
                       const char *recipient);

/* Forget the message begun (before its text): RSET goes before the next MAIL.
 */
void backend_reset(struct backend *backend);

void backend_start_text(struct backend *backend);
/* Lines as smtp_data.h makes them. */
void backend_text(struct backend *backend, const void *bytes, size_t length);
void backend_end_text(struct backend *backend);
/* Bytes written that have not left; the writer keeps this bounded. */
size_t backend_waiting_bytes(const struct backend *backend);

#endif
