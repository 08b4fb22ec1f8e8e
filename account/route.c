#include "account/route.h"

#include <stddef.h>
#include <string.h>

static const char *const answer_name[] = {
    "legacy", "local", "prove", "pass", "wait", "refuse", "unavailable"};

_Static_assert(sizeof(answer_name) / sizeof(answer_name[0]) ==
                   ROUTE_ANSWER_COUNT,
               "a name for each answer");

static enum route_answer decide_known(const struct route_question *q)
{
    switch (q->route) {
    case ROUTE_LEGACY: return ROUTE_TO_LEGACY;
    case ROUTE_HELD: return ROUTE_WAIT;
    case ROUTE_LOCAL:
        /* local does not know the account as the row says it yet: its "no such
           user" would bounce mail, so nobody is sent there */
        return q->is_provisioned ? ROUTE_TO_LOCAL : ROUTE_UNAVAILABLE;
    case ROUTE_COUNT: break;
    }
    return ROUTE_UNAVAILABLE;
}

/* Nobody we know logs in. */
static bool is_taken_in(const struct route_question *q)
{
    return q->is_domain_enabled && !q->is_frozen && q->is_admitted &&
           !q->is_crowded;
}

enum route_answer route_decide(const struct route_question *q)
{
    /* A domain's switch says who is taken in; those who are keep their way. An
       account without its domain cannot be: act on neither. */
    if (q->has_account && q->is_locked && q->service == SERVICE_LOGIN)
        return ROUTE_REFUSE;
    if (q->has_account)
        return q->has_domain ? decide_known(q) : ROUTE_UNAVAILABLE;
    if (!q->has_domain || q->is_domain_closed)
        return ROUTE_REFUSE;
    switch (q->service) {
    case SERVICE_LOGIN: return is_taken_in(q) ? ROUTE_PROVE : ROUTE_PASS;
    case SERVICE_MAIL: return ROUTE_PASS;
    }
    return ROUTE_UNAVAILABLE;
}

const char *route_answer_name(enum route_answer answer)
{
    return (unsigned)answer < ROUTE_ANSWER_COUNT ? answer_name[answer]
                                                 : "unknown";
}

int route_answer_named(const char *name)
{
    if (name == NULL)
        return -1;
    for (int i = 0; i < ROUTE_ANSWER_COUNT; i++) {
        if (strcmp(answer_name[i], name) == 0)
            return i;
    }
    return -1;
}
