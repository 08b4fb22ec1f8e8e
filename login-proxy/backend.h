/*
 * Logging in to a legacy or local server as the client did: connect, TLS as the
 * address says, then the protocol's own login. Owns its conn until the login is
 * good; leaves what follows to its user.
 */
#ifndef LOGIN_PROXY_BACKEND_H
#define LOGIN_PROXY_BACKEND_H

#include <stdint.h>

#include "base/conn.h"
#include "base/dns.h"
#include "base/secret.h"
#include "proto/imap_resp.h"
#include "proto/mail_url.h"

struct backend;

struct backend_query {
    struct loop *loop;
    struct dns *dns;
    struct tls_client *tls;
    const struct mail_url *server; /* copied; MAIL_IMAP or MAIL_POP3 */
    const char *user;              /* copied, as is the next */
    const char *as; /* whose mailbox, if user may act for others; NULL: his */
    const struct secret *password; /* borrowed until the answer */
    int64_t answer_ms;             /* for each step */
    bool wants_stat;               /* POP3: STAT must be good too */
};

enum backend_outcome {
    BACKEND_IN,
    BACKEND_DENIED,     /* these credentials are wrong */
    BACKEND_TEMPORARY,  /* everything else that went wrong */
    BACKEND_IN_USE,     /* POP3: another session has it locked */
    BACKEND_LOGIN_DELAY /* POP3: too soon after the last one */
};

/* Borrowed for the call, but for what has another word. */
struct backend_answer {
    enum backend_outcome outcome;
    const struct err *err;   /* the reason, for our log, unless BACKEND_IN */
    struct conn **conn_take; /* BACKEND_IN: the callee sets its user; what
                                stays here is closed */
    const char *untagged;    /* IMAP: whole lines that came with the login */
    const char *greeting;    /* "OK [...] Logged in", or "+OK ..." */
    struct imap_caps caps;   /* IMAP: those after the login, if is_known */
};

/* Called once, from the loop; the backend is gone afterwards. */
typedef void backend_fn(void *ctx, const struct backend_answer *answer);

struct backend *backend_start(const struct backend_query *query, backend_fn *fn,
                              void *ctx);
/* fn will not be called; *backend may be NULL. */
void backend_cancel(struct backend **backend);

const char *backend_outcome_name(enum backend_outcome outcome);

#endif
