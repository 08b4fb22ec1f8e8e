#include "login-proxy/turn.h"

#include <stddef.h>
#include <string.h>

static void link_into(struct turn **list, struct turn *t)
{
    t->next = *list;
    t->link = list;
    if (t->next != NULL)
        t->next->link = &t->next;
    *list = t;
}

static void unlink_turn(struct turn *t)
{
    *t->link = t->next;
    if (t->next != NULL)
        t->next->link = t->link;
    t->state = TURN_NONE;
}

bool turn_take(struct turns *turns, struct turn *t,
               const struct verified_print *print)
{
    struct turn **bucket = &turns->leaders[print->words[0] % TURN_BUCKETS];
    struct turn *leader = *bucket;

    while (leader != NULL && memcmp(&leader->print, print, sizeof *print) != 0)
        leader = leader->next;
    t->print = *print;
    t->waiting = NULL;
    link_into(leader != NULL ? &leader->waiting : bucket, t);
    t->state = leader != NULL ? TURN_WAITS : TURN_LEADS;
    return leader == NULL;
}

void turn_end(struct turn *t, enum turn_end end)
{
    struct turn *waiting = t->waiting;

    if (t->state == TURN_NONE)
        return;
    if (t->state == TURN_WAITS) {
        unlink_turn(t);
        return;
    }
    unlink_turn(t);
    /* the list is ours now, also should t go away meanwhile; whose turn it is
       may be the end of another */
    t->waiting = NULL;
    if (waiting != NULL)
        waiting->link = &waiting;
    while (waiting != NULL) {
        struct turn *next = waiting;

        unlink_turn(next);
        next->fn(next->ctx, end);
    }
}
