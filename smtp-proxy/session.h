/*
 * The dialogue with one client over SMTP or LMTP. Owns its connection and its
 * transaction; what becomes of a message is for transaction.c.
 */
#ifndef SMTP_PROXY_SESSION_H
#define SMTP_PROXY_SESSION_H

#include <stdbool.h>

#include "base/tls.h"
#include "smtp-proxy/site.h"
#include "smtp-proxy/transaction.h"

struct session;

/* Called once, from the loop; smtp_session_free is due. */
typedef void session_ended_fn(void *ctx, struct session *session);

struct session_options {
    const struct site *site; /* borrowed until smtp_session_free */
    enum tls_mode mode;
    bool is_lmtp;
    session_ended_fn *ended;
    void *ctx;
};

/* Greet the client at an accepted socket (taken). */
struct session *smtp_session_start_take(const struct session_options *options,
                                        int fd);
/* At once: an unfinished message gets no answer and no dot. */
void smtp_session_free(struct session **session);

/* Say 421 as soon as there is no message under way. */
void smtp_session_drain(struct session *session);

struct transaction *smtp_session_transaction(struct session *session);

/* The list of all sessions, kept by smtp.c. */
struct smtp_session_link {
    struct session *next;
    struct session **back;
};
struct smtp_session_link *smtp_session_link(struct session *session);

#endif
