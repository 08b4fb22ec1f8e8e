#include "smtp-proxy/recipient.h"

#include <stddef.h>
#include <strings.h>

static const char *const side_name[] = {
    [SIDE_NONE] = "none", [SIDE_LEGACY] = "legacy", [SIDE_LOCAL] = "local"};
_Static_assert(sizeof(side_name) / sizeof(side_name[0]) == SIDE_COUNT,
               "a name for each side");

const char *recipient_side_name(enum recipient_side side)
{
    return (unsigned)side < SIDE_COUNT ? side_name[side] : "none";
}

bool recipient_same_hop(const struct mail_url *a, const struct mail_url *b)
{
    return a->protocol == b->protocol && a->tls == b->tls &&
           a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

/* Without an accepted recipient nothing binds: the hop may have refused all. */
static enum recipient_verdict towards(const struct recipient_question *q,
                                      enum recipient_side side,
                                      const struct mail_url *hop)
{
    bool is_bound = q->side != SIDE_NONE && q->accepted_count > 0;

    if (hop == NULL || hop->host[0] == '\0')
        return RECIPIENT_NO_HOP;
    if (is_bound && (q->side != side || !recipient_same_hop(q->bound, hop)))
        return RECIPIENT_OTHER_HOP;
    return side == SIDE_LOCAL ? RECIPIENT_ASK_LOCAL : RECIPIENT_ASK_LEGACY;
}

enum recipient_verdict recipient_decide(const struct recipient_question *q)
{
    switch (q->answer) {
    case ROUTE_TO_LEGACY:
    case ROUTE_PASS: return towards(q, SIDE_LEGACY, q->legacy);
    case ROUTE_TO_LOCAL: return towards(q, SIDE_LOCAL, q->local);
    case ROUTE_REFUSE: return RECIPIENT_NOT_OURS;
    case ROUTE_WAIT:  /* state waits for us: it answers neither of the two */
    case ROUTE_PROVE: /* to a question about mail */
    case ROUTE_UNAVAILABLE:
    case ROUTE_ANSWER_COUNT: break;
    }
    return RECIPIENT_UNAVAILABLE;
}

int recipient_reply(enum recipient_verdict verdict, const char **text_out)
{
    switch (verdict) {
    case RECIPIENT_OTHER_HOP:
        *text_out = "4.5.3 Send this recipient in another transaction";
        return 452;
    case RECIPIENT_NOT_OURS: *text_out = "5.7.1 Relaying denied"; return 550;
    case RECIPIENT_UNAVAILABLE:
        *text_out = "4.3.0 Mailbox temporarily unavailable";
        return 451;
    case RECIPIENT_NO_HOP:
        *text_out = "4.3.5 No mail server for this recipient";
        return 451;
    case RECIPIENT_ASK_LEGACY:
    case RECIPIENT_ASK_LOCAL:
    case RECIPIENT_VERDICT_COUNT: break;
    }
    *text_out = NULL;
    return 0;
}
