/*
 * One at a time: of several logins with the same pair that come at once, the
 * first has it verified by local and the others wait for that; mail programs
 * open several connections at a time, and after a restart all come at once.
 * Owns nothing but the list.
 */
#ifndef LOGIN_PROXY_TURN_H
#define LOGIN_PROXY_TURN_H

#include <stdbool.h>

#include "login-proxy/verified.h"

enum turn_state { TURN_NONE, TURN_LEADS, TURN_WAITS };

enum turn_end {
    TURN_GOOD,    /* the pair is remembered now */
    TURN_REFUSED, /* nobody with that pair needs to wait for another */
    TURN_GIVEN_UP /* it is not known; the next may lead */
};

/* The wait is over. May take a turn again. */
typedef void turn_fn(void *ctx, enum turn_end end);

/* Embedded in who logs in; zeroed: none. */
struct turn {
    enum turn_state state;
    struct verified_print print;
    turn_fn *fn; /* these two are the owner's to fill in */
    void *ctx;
    struct turn *next;
    struct turn **link;   /* what points to us */
    struct turn *waiting; /* for us, who leads */
};

#define TURN_BUCKETS 1024u

struct turns { /* zeroed: nobody */
    struct turn *leaders[TURN_BUCKETS];
};

/* True: t leads, and turn_end() follows. False: fn is called when the one who
   leads ends. */
bool turn_take(struct turns *turns, struct turn *t,
               const struct verified_print *print);
/* t needs its turn no more; calls those who wait for it. Nothing happens if it
   has none. */
void turn_end(struct turn *t, enum turn_end end);

#endif
