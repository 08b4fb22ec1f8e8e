/*
 * The smtp role: port 25 and LMTP in, each recipient to the side that serves
 * it, no queue. This header is all that the daemon needs. Owns the listeners,
 * the sessions, the journal and the connection to state.
 */
#ifndef SMTP_PROXY_SMTP_H
#define SMTP_PROXY_SMTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dns.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/tls.h"
#include "proto/mail_url.h"

struct smtp;

struct smtp_options {
    struct loop *loop; /* borrowed until smtp_free, as all below */
    struct dns *dns;
    struct tls_server *tls_server; /* NULL: STARTTLS is not offered */
    struct tls_client *tls_client; /* for hops that are spoken to over TLS */
    const char *state_socket;      /* path of state's socket; copied */
    const char *node;              /* our name in greetings and hop headers;
                                      copied */
    const char *journal_path;      /* a file; its folder takes the temporary
                                      bodies of repeated messages; copied */
    struct mail_url local_lmtp;    /* host empty: local takes no mail (451);
                                      smtp:// is allowed too */
    uint64_t size_max_bytes;       /* of one message; 0: 100 MB */
    unsigned sessions_max;         /* 0: 2000; one more is told 421 */
};

/* Read and compact the journal, connect to state (again and again while it is
   away). NULL with ERR_SETUP if the journal cannot be used. */
struct smtp *smtp_start(const struct smtp_options *options, struct err *err);

/* Accept clients from a listening socket (taken, made non-blocking).
   TLS_STARTTLS and TLS_IMPLICIT need options->tls_server; ERR_SETUP without,
   the socket is closed then. */
int smtp_listen_take(struct smtp *s, int fd, enum tls_mode mode, bool is_lmtp,
                     struct err *err);

/* Accept nobody any more; idle clients are told 421, the others after their
   message. done(ctx) is called once, from the loop, when the last session is
   gone (soon, if there is none). Holds are answered until smtp_free. */
void smtp_drain(struct smtp *s, loop_fn *done, void *ctx);

/* Drop everything at once: unfinished messages get no answer and no dot. */
void smtp_free(struct smtp **s);

#endif
