/*
 * Who serves a user or a recipient now: the one decision behind every session
 * and every mail. Pure; one of the four files that can lose mail.
 */
#ifndef ACCOUNT_ROUTE_H
#define ACCOUNT_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "db/states.h"

enum route_service { SERVICE_LOGIN, SERVICE_MAIL };

enum route_answer {
    ROUTE_TO_LEGACY,   /* a known account, served by legacy */
    ROUTE_TO_LOCAL,    /* a known account, served by local */
    ROUTE_PROVE,       /* login of nobody we know: legacy decides, then learn */
    ROUTE_PASS,        /* mail for nobody we know, or a login that is not to be
                          taken in: legacy, nothing recorded */
    ROUTE_WAIT,        /* held: ask again when released */
    ROUTE_REFUSE,      /* not our domain: like a wrong password; 550 */
    ROUTE_UNAVAILABLE, /* temporarily: a row we must not act on */
    ROUTE_ANSWER_COUNT
};

struct route_question {
    enum route_service service;
    bool has_domain;        /* the domain is in the control db */
    bool is_domain_enabled; /* disabled: served by legacy, nobody taken in */
    bool is_frozen;         /* the domain */
    bool is_admitted;       /* by its share or by name */
    bool is_crowded;        /* as many as its rate allows are in already */
    bool is_domain_closed;  /* legacy takes nothing for it any more */
    bool has_account;
    bool is_locked;           /* his logins are refused, his mail is not */
    enum account_route route; /* if has_account */
    bool is_provisioned;      /* what local reads is as new as the row */
};

enum route_answer route_decide(const struct route_question *q);
const char *route_answer_name(enum route_answer answer);
int route_answer_named(const char *name);

#endif
