#include "daemon/schedule.h"

#define HOUR_MS      (60 * 60 * 1000LL)
#define FIRST_PASSES (60 * 1000LL) /* of a trail: every folder each time */
#define SOON_MS      2000 /* what keeps the gate shut passes by itself */

static const char *const gate_names[] = {
    "ready",        "not_wanted",    "not_enabled", "frozen",
    "not_copied",   "not_clean",     "set_aside",   "not_served",
    "not_verified", "not_learnt",    "blackout",    "window_shut",
    "not_yet",      "peers_unknown", "crowded",     "closing"};
_Static_assert(sizeof(gate_names) / sizeof(gate_names[0]) == FLIP_GATE_COUNT,
               "a name for each gate");

const char *flip_gate_name(enum flip_gate gate)
{
    return gate_names[gate];
}

int64_t schedule_retry_ms(unsigned attempts, unsigned retry_seconds)
{
    int64_t wait_ms = (int64_t)retry_seconds * 1000;

    while (attempts-- > 0 && wait_ms < HOUR_MS)
        wait_ms *= 2;
    return wait_ms < HOUR_MS ? wait_ms : HOUR_MS;
}

bool schedule_can_log_in(const struct account *account,
                         const struct domain *domain)
{
    return account->has_hash ||
           (domain->master_user[0] != '\0' && domain->learn_days > 0);
}

enum flip_gate schedule_flip(const struct account *account,
                             const struct domain *domain,
                             const struct flip_moment *moment)
{
    if (!domain->is_enabled)
        return FLIP_NOT_ENABLED;
    if (domain->is_frozen)
        return FLIP_FROZEN;
    if (!account->wants_flip && (domain->cutover != CUTOVER_AUTO ||
                                 account->rolled_back_at > account->flipped_at))
        return FLIP_NOT_WANTED; /* who was taken back is moved by name only */
    if (account->route != ROUTE_LEGACY || account->copy != COPY_DELTA)
        return FLIP_NOT_COPIED;
    if (!account->is_clean)
        return FLIP_NOT_CLEAN;
    if (account->accepted < account->set_aside)
        return FLIP_SET_ASIDE;
    if (account->local_ready_at == 0)
        return FLIP_NOT_SERVED;
    if (!schedule_can_log_in(account, domain))
        return FLIP_NOT_LEARNT;
    /* who asks for it by name knows what hour it is, but maybe not what day */
    if (moment->is_black_day && account->wants_flip != FLIP_WISH_NOW)
        return FLIP_BLACKOUT;
    if (!moment->is_window_open && account->wants_flip == FLIP_WISH_NONE)
        return FLIP_WINDOW_SHUT;
    if (account->next_flip_at > moment->now)
        return FLIP_NOT_YET;
    if (!moment->are_peers_known)
        return FLIP_PEERS_UNKNOWN;
    return FLIP_READY;
}

int64_t schedule_delta(const struct account *account, enum flip_gate gate,
                       unsigned delta_seconds, const struct flip_moment *moment)
{
    int64_t due = moment->now + (int64_t)delta_seconds * 1000;

    if (gate == FLIP_NOT_VERIFIED)
        return moment->now;
    if (gate == FLIP_PEERS_UNKNOWN || gate == FLIP_CROWDED ||
        gate == FLIP_CLOSING)
        return moment->now + SOON_MS;
    if ((gate == FLIP_WINDOW_SHUT || gate == FLIP_BLACKOUT) &&
        moment->opens_at > moment->now && moment->opens_at < due)
        return moment->opens_at;
    if (gate == FLIP_NOT_YET && account->next_flip_at < due)
        return account->next_flip_at;
    return due;
}

int64_t schedule_trail(int64_t flipped_at, unsigned inbox_seconds, int64_t now)
{
    static const int64_t first_ms[] = {1000, 5000, 15000, 60000};

    for (unsigned i = 0; i < sizeof(first_ms) / sizeof(first_ms[0]); i++)
        if (flipped_at + first_ms[i] > now)
            return flipped_at + first_ms[i];
    return now + (int64_t)inbox_seconds * 1000;
}

bool schedule_trail_is_full(int64_t flipped_at, int64_t last_full_at,
                            unsigned full_seconds, int64_t now)
{
    /* the last of the first passes may start a little late */
    if (now <= flipped_at + FIRST_PASSES + 5000)
        return true;
    return last_full_at + (int64_t)full_seconds * 1000 <= now;
}
