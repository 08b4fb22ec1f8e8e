/*
 * The words for the states of domains and accounts, as rows and JSON spell
 * them. Pure.
 */
#ifndef DB_STATES_H
#define DB_STATES_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_MAX 320 /* RFC 5321 4.5.3.1: 64 + 1 + 255 */

enum account_route { ROUTE_LEGACY, ROUTE_HELD, ROUTE_LOCAL, ROUTE_COUNT };

enum account_copy {
    COPY_NONE,
    COPY_INITIAL, /* first copy queued or running */
    COPY_DELTA,   /* copied once; kept up to date */
    COPY_FINAL,   /* the last delta, inside the hold */
    COPY_TRAIL,   /* flipped; what still arrives on legacy is fetched */
    COPY_DONE,    /* the trail has ended: nothing is asked of legacy any more */
    COPY_FAILED,  /* an operator must act; see last_error */
    COPY_PAUSED,
    COPY_COUNT
};

enum password_state {
    PASSWORD_NONE,
    PASSWORD_LEARNT,    /* accepted by legacy; hash and seal are stored */
    PASSWORD_CONFIRMED, /* one good login on local since */
    PASSWORD_COUNT
};

/* The domain's on_flip command and an account. */
enum on_flip_state {
    ON_FLIP_NONE,
    ON_FLIP_DUE,
    ON_FLIP_DONE,
    ON_FLIP_FAILED,
    ON_FLIP_COUNT
};

enum rollback_wish { ROLLBACK_NO, ROLLBACK_NEW_MAIL, ROLLBACK_CHANGES };

/* An operator asks for the flip; NOW: also on a day of the blackout. */
enum flip_wish { FLIP_WISH_NONE, FLIP_WISH_ASKED, FLIP_WISH_NOW };

enum domain_cutover { CUTOVER_AUTO, CUTOVER_MANUAL, CUTOVER_COUNT };

/* The words stored in rows and printed in JSON. */
const char *account_route_name(enum account_route route);
const char *account_copy_name(enum account_copy copy);
const char *password_state_name(enum password_state state);
const char *domain_cutover_name(enum domain_cutover cutover);
const char *on_flip_state_name(enum on_flip_state state); /* "" : none */
/* The value of a word, -1 if there is none. */
int account_route_named(const char *name);
int account_copy_named(const char *name);
int password_state_named(const char *name);
int domain_cutover_named(const char *name);
int on_flip_state_named(const char *name);

#endif
