/*
 * Whether a logged-in IMAP session really has a mailbox behind it: NAMESPACE,
 * EXAMINE INBOX, CLOSE (some servers accept LOGIN with any password). Changes
 * nothing in the mailbox; leaves the session as after the login.
 */
#ifndef LOGIN_PROXY_PROOF_H
#define LOGIN_PROXY_PROOF_H

#include "base/conn.h"
#include "proto/imap_resp.h"

struct proof;

#define PROOF_PREFIX_MAX 256

enum proof_outcome {
    PROOF_GOOD,
    PROOF_REFUSED, /* there is no INBOX to be had; the session is still good */
    PROOF_BROKEN   /* the connection is of no more use */
};

struct proof_answer { /* borrowed for the call */
    enum proof_outcome outcome;
    const struct err *err;   /* unless PROOF_GOOD */
    struct conn **conn_take; /* unless PROOF_BROKEN; closed if left here */
    const char *prefix;      /* of the personal namespace; NULL: not known */
    const char *separator;   /* "" for NIL; NULL: not known */
    uint32_t uidvalidity;    /* INBOX's; 0: not told */
};

/* Called once, from the loop; the proof is gone afterwards. */
typedef void proof_fn(void *ctx, const struct proof_answer *answer);

/* Takes the conn (sets it to NULL) until the answer. answer_ms: each step. */
struct proof *proof_start_take(struct loop *loop, struct conn **conn,
                               int64_t answer_ms, proof_fn *fn, void *ctx);
/* fn will not be called, the conn is closed; *proof may be NULL. */
void proof_cancel(struct proof **proof);

#endif
