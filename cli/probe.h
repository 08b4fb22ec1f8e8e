/*
 * Whether an old mail server still takes mail for addresses: asked by MAIL and
 * RCPT, never with a message. Runs a loop of its own until all are asked.
 */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/mail_url.h"

struct probe_options {
    struct mail_url server;
    const char *node;    /* our name in EHLO; borrowed */
    const char *ca_file; /* may be NULL; borrowed */
    /* the next address, borrowed until the next call; NULL: that was all */
    const char *(*next)(void *ctx);
    /* may be NULL; called after each answer */
    void (*progress)(void *ctx, int64_t asked);
    void *ctx;
};

/* What came back: 550 and its like to RCPT is refused, 2xx accepted, everything
   else unclear: 4xx, a mailbox that is full, a server that does not talk to us,
   or is not there. */
struct probe_result {
    int64_t asked; /* the sum of the three */
    int64_t refused, accepted, unclear;
    json_t *accepted_first; /* owned; arrays of text, the first ones */
    json_t *unclear_first;  /* with the reason behind the address */
};

/* -1 if the probe could not begin (ERR_SETUP). A server that is not there is no
   failure but unclear, for every address. */
int probe_run(const struct probe_options *options,
              struct probe_result *result_out, struct err *err);
void probe_result_release(struct probe_result *result);

#endif
