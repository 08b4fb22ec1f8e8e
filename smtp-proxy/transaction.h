/*
 * One client's message on its way to one next hop: recipients asked one by one,
 * text passed through, the dot, the verdicts. Owns the envelope and the
 * connection to the hop; leaves the client's side to session.c.
 *
 * How a repetition is neither lost nor doubled: what a hop takes is in the
 * journal until the client is known to know of it. Whether a message is the
 * same can be told only at its end, when the hop has had it all but the dot,
 * and then no single recipient can be taken back. So when something from this
 * sender to one of these recipients is open in the journal, the text goes into
 * a nameless temporary file first (bounded by the size limit); at its end those
 * who have had it are known, the hop's transaction is begun anew with the
 * others, and the file is passed on. Nobody left: 250 without asking. All other
 * messages stream; if at the dot one turns out to have been taken meanwhile
 * (two connections with the same message), the hop is cut off without the dot:
 * 250 if all had it, else 451, and the repetition then is the case above.
 */
#ifndef SMTP_PROXY_TRANSACTION_H
#define SMTP_PROXY_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/directory.h"
#include "proto/smtp.h"
#include "proto/smtp_reply.h"
#include "smtp-proxy/site.h"
#include "smtp-proxy/trace.h"

struct transaction;

/* May be called from inside the call that asked. */
struct transaction_ops {
    /* The answer to what was asked last. After the text: for SMTP once, for
       LMTP once a recipient; is_last with the last one. */
    void (*on_reply)(void *ctx, const struct smtp_reply *reply, bool is_last);
    /* 354 is due: the text may come. */
    void (*on_start_text)(void *ctx);
    /* transaction_has_room() again. */
    void (*on_room)(void *ctx);
};

struct transaction *transaction_new(const struct site *site, const char *id,
                                    bool is_lmtp,
                                    const struct transaction_ops *ops,
                                    void *ctx);
/* A message that has not ended reaches nobody. */
void transaction_free(struct transaction **t);

bool transaction_has_sender(const struct transaction *t);
size_t transaction_recipient_count(const struct transaction *t);

void transaction_begin(struct transaction *t, const struct smtp_command *mail);
/* on_reply follows. */
void transaction_recipient(struct transaction *t, const struct smtp_path *path);
/* There is at least one recipient. on_start_text or on_reply follows; after
   on_reply the transaction is over. *origin is borrowed for the call. */
void transaction_start_text(struct transaction *t,
                            const struct trace_origin *origin);
/* Lines as smtp_data.h makes them, while there is room. */
void transaction_text(struct transaction *t, const char *bytes, size_t length);
bool transaction_has_room(const struct transaction *t);
/* on_reply follows, and the transaction is over. */
void transaction_end_text(struct transaction *t);
/* RSET and the like; nothing is being asked. The hop stays connected. */
void transaction_reset(struct transaction *t);
/* The client has gone on after the last 250. */
void transaction_told(struct transaction *t);

/* The account is held: true if a message for it is being passed to that side
   and must end first. What has not come so far is answered 451 from now on,
   also for names that were nobody when they were asked for. */
bool transaction_hold(struct transaction *t, int64_t account_id,
                      enum hold_side side);
/* Is a message for it being passed to that side now? */
bool transaction_runs_for(const struct transaction *t, int64_t account_id,
                          enum hold_side side);
/* Is a message for a name that was no account being passed to legacy? It may
   have become one since it was asked for. */
bool transaction_runs_for_nobody(const struct transaction *t);

/* The hop in use, NULL if none. */
const struct mail_url *transaction_hop(const struct transaction *t);
/* Does other wait for a hop's verdict on the message of t, for a recipient that
   both have? */
bool transaction_meets(const struct transaction *t,
                       const struct transaction *other);

#endif
