/*
 * Who of an account is on legacy or on local here, and the holds of either
 * side: restarts what is still logging in, ends running IMAP sessions when they
 * are quiet, never cuts POP3, and tells the state process when nothing is left.
 * Owns the holds; what it tracks belongs to its owner.
 */
#ifndef LOGIN_PROXY_KICK_H
#define LOGIN_PROXY_KICK_H

#include <stdbool.h>
#include <stdint.h>

#include "account/directory.h"
#include "base/loop.h"

enum track_kind {
    TRACK_LOGIN, /* connecting, logging in, or looking at a mailbox */
    TRACK_IMAP,  /* spliced */
    TRACK_POP3   /* spliced: never cut, its DELEs commit at QUIT */
};

struct tracked;

struct track_ops {
    /* TRACK_LOGIN: leave the server; calls kick_remove() before it returns */
    void (*leave)(void *ctx);
    /* TRACK_IMAP: nothing was under way for quiet_ms */
    bool (*is_quiet)(void *ctx, int64_t quiet_ms);
    /* TRACK_IMAP: end within wait_ms; kick_remove() follows later */
    void (*end)(void *ctx, int64_t wait_ms);
    /* TRACK_IMAP, TRACK_POP3: end now, whatever is under way; it is not tracked
       any more. NULL where there is only TRACK_LOGIN. */
    void (*cut)(void *ctx, const char *reason);
};

/* Embedded in what is tracked; zeroed: not tracked. */
struct tracked {
    int64_t account_id;  /* 0: not tracked; -1: of no account yet */
    const char *address; /* borrowed, if of no account yet */
    enum hold_side side; /* the one it is towards; the owner's to fill in */
    enum track_kind kind;
    bool is_ending;
    int64_t end_by_ms; /* if is_ending: later it may have been cut */
    const struct track_ops *ops;
    void *ctx;
    struct tracked *next;
    struct tracked **link; /* what points to us */
};

struct kick;

/* Both are borrowed until kick_free(). */
struct kick *kick_new(struct loop *loop, struct directory *directory,
                      int64_t quiet_ms, int64_t force_ms);
void kick_free(struct kick **kick);

/* From now on t (ops, ctx and side filled in) is towards that side for the
   account; a hold that is on already is applied from the loop, later. epoch: of
   the answer that sent it there. account_id 0: nothing happens. */
void kick_add(struct kick *kick, struct tracked *t, int64_t account_id,
              int64_t epoch, enum track_kind kind);
/* The same for somebody who is no account (yet): found by his canonical
   address, which must live as long as he is tracked, when he has become one. */
void kick_add_stranger(struct kick *kick, struct tracked *t,
                       const char *address, enum track_kind kind);
/* It is spliced now. */
void kick_change(struct kick *kick, struct tracked *t, enum track_kind kind);
/* It has nothing more with that side. Nothing happens if it is not tracked. */
void kick_remove(struct kick *kick, struct tracked *t);

/* For struct directory_ops. Strangers of that address are of the account from
   now on. */
void kick_adopt(struct kick *kick, int64_t account_id, const char *address);
void kick_hold(struct kick *kick, const struct directory_hold *told);
/* All of the account and all strangers of that address: who is spliced ends
   now, and who is logging in leaves. */
void kick_out(struct kick *kick, int64_t account_id, const char *address,
              const char *reason);
void kick_release(struct kick *kick, int64_t account_id, int64_t epoch);

#endif
