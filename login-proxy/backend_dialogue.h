/*
 * What the two dialogues with a backend share: only for backend*.c.
 */
#ifndef LOGIN_PROXY_BACKEND_DIALOGUE_H
#define LOGIN_PROXY_BACKEND_DIALOGUE_H

#include "login-proxy/backend.h"

struct backend_dialogue {
    void (*on_ready)(struct backend *b); /* connected, or TLS is up */
    void (*on_input)(struct backend *b);
};

struct backend {
    const struct backend_dialogue *dialogue;
    struct conn *conn; /* owned */
    struct loop *loop; /* borrowed */
    struct mail_url server;
    char *user;                    /* owned, as is the next */
    char *as;                      /* NULL: himself; goes by PLAIN only */
    const struct secret *password; /* borrowed */
    int64_t answer_ms;
    bool wants_stat;
    backend_fn *fn; /* NULL: answered or cancelled */
    void *ctx;

    int state; /* of the dialogue */
    struct imap_resp resp;
    struct imap_caps caps;
    struct buf untagged; /* IMAP: lines for the client */
    char *greeting;      /* owned: of the good login */
};

extern const struct backend_dialogue backend_imap_dialogue;
extern const struct backend_dialogue backend_pop3_dialogue;

/* The only exits; each answers once and lets go of everything later. */
void backend_succeed(struct backend *b);
void backend_fail(struct backend *b, enum backend_outcome outcome,
                  enum err_kind kind, const char *what);

/* Send a line that holds a secret; the buffer is wiped. -1: it did not fit. */
void backend_send_wiped(struct backend *b, struct buf *line);

/* Text from a server, cut and terminated, for an error. */
const char *backend_quote(char out[128], struct slice text);

#endif
