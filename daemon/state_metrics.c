/*
 * What the processes have counted, summed up: those that live, and those that
 * have ended.
 */
#include "daemon/state.h"

#include "account/counts.h"

void state_metrics_counts(struct state_peer *peer, const json_t *message)
{
    json_t *series = json_object_get(message, "series");

    if (!json_is_object(series))
        return;
    json_decref(peer->counts);
    peer->counts = json_incref(series);
}

void state_metrics_forget_peer(struct state *s, const struct state_peer *peer)
{
    if (peer->counts)
        counts_add(s->gone_counts, peer->counts, true);
}
