#include "account/lifecycle.h"

#include <stddef.h>

#define MINUTE_MS           60000
#define HOLD_RETRY_FIRST_MS (15 * MINUTE_MS)
#define HOLD_RETRY_MOST_MS  (24 * 60 * MINUTE_MS)

static const char *const event_name[] = {
    "learnt",      "copied",   "hold",      "flip", "hold-failed",
    "broken",      "retried",  "back-hold", "back", "back-failed",
    "trail-ended", "reopened", "asked"};
_Static_assert(sizeof(event_name) / sizeof(event_name[0]) == EVENT_COUNT,
               "a name for each event");

/* What an event makes of a state. Whatever is not in the table is not legal. */
struct change {
    enum account_event event;
    enum account_route route;
    enum account_copy copy;
    enum account_route next_route;
    enum account_copy next_copy;
};

static const struct change changes[] = {
    {EVENT_LEARNT, ROUTE_LEGACY, COPY_NONE, ROUTE_LEGACY, COPY_INITIAL},
    {EVENT_COPIED, ROUTE_LEGACY, COPY_INITIAL, ROUTE_LEGACY, COPY_DELTA},
    {EVENT_HOLD, ROUTE_LEGACY, COPY_DELTA, ROUTE_HELD, COPY_FINAL},
    {EVENT_FLIP, ROUTE_HELD, COPY_FINAL, ROUTE_LOCAL, COPY_TRAIL},
    {EVENT_HOLD_FAILED, ROUTE_HELD, COPY_FINAL, ROUTE_LEGACY, COPY_DELTA},
    /* nothing breaks an account that is held: its hold fails first */
    {EVENT_BROKEN, ROUTE_LEGACY, COPY_NONE, ROUTE_LEGACY, COPY_FAILED},
    {EVENT_BROKEN, ROUTE_LEGACY, COPY_INITIAL, ROUTE_LEGACY, COPY_FAILED},
    {EVENT_BROKEN, ROUTE_LEGACY, COPY_DELTA, ROUTE_LEGACY, COPY_FAILED},
    /* the first copy finds what the ledger has already */
    {EVENT_RETRIED, ROUTE_LEGACY, COPY_FAILED, ROUTE_LEGACY, COPY_INITIAL},
    {EVENT_BACK_HOLD, ROUTE_LOCAL, COPY_TRAIL, ROUTE_HELD, COPY_TRAIL},
    {EVENT_BACK_HOLD, ROUTE_LOCAL, COPY_DONE, ROUTE_HELD, COPY_DONE},
    {EVENT_BACK_HOLD, ROUTE_LOCAL, COPY_PAUSED, ROUTE_HELD, COPY_PAUSED},
    {EVENT_BACK, ROUTE_HELD, COPY_TRAIL, ROUTE_LEGACY, COPY_DELTA},
    {EVENT_BACK, ROUTE_HELD, COPY_DONE, ROUTE_LEGACY, COPY_DELTA},
    {EVENT_BACK, ROUTE_HELD, COPY_PAUSED, ROUTE_LEGACY, COPY_DELTA},
    {EVENT_BACK_FAILED, ROUTE_HELD, COPY_TRAIL, ROUTE_LOCAL, COPY_TRAIL},
    {EVENT_BACK_FAILED, ROUTE_HELD, COPY_DONE, ROUTE_LOCAL, COPY_DONE},
    {EVENT_BACK_FAILED, ROUTE_HELD, COPY_PAUSED, ROUTE_LOCAL, COPY_PAUSED},
    {EVENT_TRAIL_ENDED, ROUTE_LOCAL, COPY_TRAIL, ROUTE_LOCAL, COPY_DONE},
    /* closed by force */
    {EVENT_TRAIL_ENDED, ROUTE_LOCAL, COPY_PAUSED, ROUTE_LOCAL, COPY_DONE},
    {EVENT_REOPENED, ROUTE_LOCAL, COPY_DONE, ROUTE_LOCAL, COPY_TRAIL},
    {EVENT_ASKED, ROUTE_LEGACY, COPY_INITIAL, ROUTE_LEGACY, COPY_FAILED},
    {EVENT_ASKED, ROUTE_LEGACY, COPY_DELTA, ROUTE_LEGACY, COPY_FAILED},
    {EVENT_ASKED, ROUTE_LOCAL, COPY_TRAIL, ROUTE_LOCAL, COPY_PAUSED},
};

int lifecycle_apply(struct account_state *state, enum account_event event,
                    struct err *err)
{
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];

        if (c->event != event || c->route != state->route ||
            c->copy != state->copy)
            continue;
        if (c->next_route != c->route)
            state->epoch++;
        state->route = c->next_route;
        state->copy = c->next_copy;
        return 0;
    }
    return err_set(err, ERR_SETUP, "\"%s\" is not legal while %s, %s",
                   account_event_name(event), account_route_name(state->route),
                   account_copy_name(state->copy));
}

const char *account_event_name(enum account_event event)
{
    return (unsigned)event < EVENT_COUNT ? event_name[event] : "unknown";
}

bool lifecycle_is_way_back(enum account_copy copy)
{
    return copy != COPY_FINAL;
}

int64_t lifecycle_hold_retry_ms(unsigned failures)
{
    int64_t wait_ms = HOLD_RETRY_FIRST_MS;

    for (unsigned i = 1; i < failures && wait_ms < HOLD_RETRY_MOST_MS; i++)
        wait_ms *= 2;
    return wait_ms < HOLD_RETRY_MOST_MS ? wait_ms : HOLD_RETRY_MOST_MS;
}
