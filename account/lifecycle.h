/*
 * Which changes of an account row are legal, and what each one sets. Pure: the
 * caller writes the result in one transaction.
 */
#ifndef ACCOUNT_LIFECYCLE_H
#define ACCOUNT_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "db/states.h"
#include "base/err.h"

enum account_event {
    EVENT_LEARNT,      /* first good login: none -> initial */
    EVENT_COPIED,      /* initial done -> delta */
    EVENT_HOLD,        /* flip begins: legacy, delta -> held, final; epoch+1 */
    EVENT_FLIP,        /* final done: held -> local, trail; epoch+1 */
    EVENT_HOLD_FAILED, /* held -> legacy, delta; epoch+1 */
    EVENT_BROKEN,      /* an operator must act: copy -> failed (not if local) */
    EVENT_RETRIED,     /* operator: failed -> initial */
    EVENT_BACK_HOLD,   /* the way back begins: local -> held, and copy stays as
                          it is (trail, done, paused), which tells this hold
                          from the flip's; epoch+1 */
    EVENT_BACK,        /* all is on legacy: held -> legacy, delta; epoch+1 */
    EVENT_BACK_FAILED, /* held -> local, copy as it was; epoch+1 */
    EVENT_TRAIL_ENDED, /* its domain was closed: local, trail -> local, done */
    EVENT_REOPENED,    /* its domain was opened again: local, done -> trail */
    EVENT_ASKED,       /* an operator must answer first: legacy's mailbox may
                          be another's; copy -> failed, on local -> paused */
    EVENT_COUNT
};

struct account_state {
    enum account_route route;
    enum account_copy copy;
    int64_t epoch;
};

/* Apply the event to *state. ERR_SETUP (state untouched) if it is not legal
   from there. */
int lifecycle_apply(struct account_state *state, enum account_event event,
                    struct err *err);
const char *account_event_name(enum account_event event);
/* The hold (route is held) is that of the way back, not the flip's. */
bool lifecycle_is_way_back(enum account_copy copy);

/* Milliseconds until the next try after the n-th failed hold in a row (n >= 1):
   15 minutes, doubling, at most a day. */
int64_t lifecycle_hold_retry_ms(unsigned failures);

/* How the last_error begins of an account whose password libcrypt refuses (512
   bytes and more): it can be copied, and never flipped. */
#define LIFECYCLE_NO_HASH "the password cannot be hashed"

#endif
