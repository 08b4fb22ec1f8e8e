/*
 * What becomes of one RCPT: the decision, without the talking. Pure; one of the
 * four files that can lose mail.
 *
 * A transaction has one next hop, since SMTP has one answer at the end. The
 * first recipient that the hop accepts binds the transaction to it; recipients
 * of another hop are told 452 4.5.3, which makes the sender bring them in a
 * transaction of their own (RFC 5321 4.5.3.1.10).
 */
#ifndef SMTP_PROXY_RECIPIENT_H
#define SMTP_PROXY_RECIPIENT_H

#include <stdbool.h>

#include "account/route.h"
#include "proto/mail_url.h"

enum recipient_side { SIDE_NONE, SIDE_LEGACY, SIDE_LOCAL, SIDE_COUNT };

enum recipient_verdict {
    RECIPIENT_ASK_LEGACY,  /* its legacy host decides */
    RECIPIENT_ASK_LOCAL,   /* local decides */
    RECIPIENT_OTHER_HOP,   /* 452 4.5.3 */
    RECIPIENT_NOT_OURS,    /* 550 5.7.1 */
    RECIPIENT_UNAVAILABLE, /* 451 4.3.0: held too long, or state is away */
    RECIPIENT_NO_HOP,      /* 451 4.3.5: nobody said where it goes */
    RECIPIENT_VERDICT_COUNT
};

struct recipient_question {
    /* the transaction so far */
    enum recipient_side side;     /* of the hop asked last; SIDE_NONE: none */
    unsigned accepted_count;      /* recipients the hop has accepted */
    const struct mail_url *bound; /* that hop; NULL with SIDE_NONE */
    /* this recipient */
    enum route_answer answer;
    const struct mail_url *legacy; /* its legacy host; host may be empty */
    const struct mail_url *local;  /* host may be empty */
};

enum recipient_verdict recipient_decide(const struct recipient_question *q);

/* The same host, port, protocol and TLS. Host names in any case. */
bool recipient_same_hop(const struct mail_url *a, const struct mail_url *b);

const char *recipient_side_name(enum recipient_side side);

/* The reply to the client for a verdict that asks nobody, as code and text;
   0 and NULL for the two that do. */
int recipient_reply(enum recipient_verdict verdict, const char **text_out);

#endif
