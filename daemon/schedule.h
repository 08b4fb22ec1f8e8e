/*
 * When the next step of a migration is due, and whether the flip may begin.
 * Pure: times come in and go out as Unix milliseconds.
 */
#ifndef DAEMON_SCHEDULE_H
#define DAEMON_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "db/accounts.h"
#include "db/domains.h"

#define SCHEDULE_BUSY_MS                                                       \
    15000 /* until a hold that was "busy" is tried again                       \
           */

/* Accounts held at once; more would only make their users wait longer. */
#define SCHEDULE_FLIPS_MAX 8

/* Distance to the next try after `attempts` failed ones: retry_seconds,
   doubling, at most an hour. */
int64_t schedule_retry_ms(unsigned attempts, unsigned retry_seconds);

/* What stands between an account and its flip; FLIP_READY if nothing. */
enum flip_gate {
    FLIP_READY,
    FLIP_NOT_WANTED,    /* neither by the domain nor by an operator */
    FLIP_NOT_ENABLED,   /* domain */
    FLIP_FROZEN,        /* domain */
    FLIP_NOT_COPIED,    /* or held, or flipped already */
    FLIP_NOT_CLEAN,     /* the last delta had differences */
    FLIP_SET_ASIDE,     /* something is, and nobody has accepted it */
    FLIP_NOT_SERVED,    /* local has not said that it serves the account */
    FLIP_NOT_VERIFIED,  /* both sides are still to be compared */
    FLIP_NOT_LEARNT,    /* local would not know the password */
    FLIP_BLACKOUT,      /* a day on which nothing flips */
    FLIP_WINDOW_SHUT,   /* not the hour for it */
    FLIP_NOT_YET,       /* a failed hold is too fresh */
    FLIP_PEERS_UNKNOWN, /* who else must be quiet is not known yet */
    FLIP_CROWDED,       /* too many accounts are held already */
    FLIP_CLOSING,       /* its domain's trails have their last pass */
    FLIP_GATE_COUNT
};
/* What holds at a moment, beside account and domain. */
struct flip_moment {
    int64_t now; /* Unix ms */
    bool are_peers_known;
    bool is_window_open; /* of the domain */
    bool is_black_day;
    int64_t opens_at; /* the next time it may flip by itself; 0: now, or never*/
};
/* Somebody can log in after the flip: local has a password of his, or, for who
   was copied by a master user, his first login is asked of legacy and learnt.
 */
bool schedule_can_log_in(const struct account *account,
                         const struct domain *domain);

enum flip_gate schedule_flip(const struct account *account,
                             const struct domain *domain,
                             const struct flip_moment *moment);
const char *flip_gate_name(enum flip_gate gate);

/* When the next delta of an account that waits for its flip is due. */
int64_t schedule_delta(const struct account *account, enum flip_gate gate,
                       unsigned delta_seconds,
                       const struct flip_moment *moment);

/* When the next pass of the trail is due: 1, 5, 15 and 60 s after the flip,
   then every inbox_seconds. */
int64_t schedule_trail(int64_t flipped_at, unsigned inbox_seconds, int64_t now);

/* Whether a pass that starts now looks into every folder: the first ones do,
   and then one as soon as full_seconds have passed since the last that did
   (0: none remembered). */
bool schedule_trail_is_full(int64_t flipped_at, int64_t last_full_at,
                            unsigned full_seconds, int64_t now);

#endif
