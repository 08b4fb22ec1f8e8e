/*
 * What the new side is told of accounts: at once, after the commit, or, where
 * many wait for it (local has lost its file, the control db was rebuilt), some
 * at a time by one commit, while others are answered. Until local knows an
 * account it is unavailable, and its mail is put off.
 */
#include "daemon/state.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

#define SETTLED_AT_ONCE 250
#define SETTLE_WAIT_MS  10
#define NOBODY_WAIT_MS  1000 /* local takes nothing at all, perhaps */

static void provision_now(struct state *s, int64_t account_id);

/* False: not now; the line in the log says why. */
static bool tell(struct state *s, const struct account *account)
{
    struct credential_hashes hashes;
    struct err err;

    state_must(credential_hashes(s->db, account->id, &hashes, &err), &err);
    if (provision_apply(s->provision, account, &hashes, &err) == 0)
        return true;
    log_error("account %s is not made known to local: %s", account->address,
              err.text);
    s->is_unsettled = true; /* again with the next tick */
    return false;
}

static void note_told(struct state *s, struct account *account)
{
    if (account->provisioned_epoch != account->epoch) {
        account->provisioned_epoch = account->epoch;
        state_store(s, account);
    }
    state_witness_told(s, account->id);
}

/* Whether its record is in the witness journal; if not, it is on its way. */
static bool has_witness(struct state *s, const struct account *account)
{
    enum state_witness_word word = state_witness_ask(s, account, provision_now);

    if (word == WITNESS_FAILED)
        s->is_unsettled = true; /* again with the next tick */
    return word == WITNESS_KEPT;
}

bool state_provision(struct state *s, struct account *account)
{
    if (!has_witness(s, account) || !tell(s, account))
        return false;
    note_told(s, account);
    return true;
}

static void provision_now(struct state *s, int64_t account_id)
{
    struct account account;

    /* of one who is held local hears when that is over: told now, it would
       refuse mail that comes to it directly, and not end with the hold */
    if (state_load(s, account_id, &account, NULL) &&
        account.route != ROUTE_HELD)
        state_provision(s, &account);
}

void state_provision_later(struct state *s, int64_t account_id)
{
    state_after(s, provision_now, account_id);
}

/* --- many */

struct unsettled {
    struct state *state;
    struct account accounts[SETTLED_AT_ONCE];
    unsigned count;
    int64_t last_id; /* of those looked at; 0: there were none */
};

static int collect(void *ctx, const struct account *account)
{
    struct unsettled *u = ctx;
    struct state *s = u->state;

    u->last_id = account->id;
    if (account->route != ROUTE_HELD && !state_flip_of(s, account->id) &&
        !state_witness_refuses(s, account->address))
        u->accounts[u->count++] = *account;
    return 0;
}

/* Those whose records are there come first in the array; how many. */
static unsigned sort_out(struct unsettled *u)
{
    unsigned ready = 0;

    for (unsigned i = 0; i < u->count; i++)
        if (has_witness(u->state, &u->accounts[i]))
            u->accounts[ready++] = u->accounts[i];
    return ready;
}

/* False: none of them is told. */
static bool tell_at_once(struct unsettled *u)
{
    struct state *s = u->state;
    struct err err;
    bool is_told = provision_begin(s->provision, &err) == 0;

    for (unsigned i = 0; is_told && i < u->count; i++)
        is_told = tell(s, &u->accounts[i]);
    if (is_told && provision_commit(s->provision, &err) == 0)
        return true;
    provision_abort(s->provision);
    return false;
}

/* One of them cannot be told: the others can. False: none can. */
static bool tell_one_by_one(struct unsettled *u)
{
    bool is_told = false;

    for (unsigned i = 0; i < u->count; i++)
        if (state_provision(u->state, &u->accounts[i]))
            is_told = true;
    return is_told;
}

/* The next of them; how long to wait for those behind, -1: there are none. */
static int settle_next(struct unsettled *u)
{
    struct state *s = u->state;
    int wait_ms = SETTLE_WAIT_MS;
    struct err err;

    state_must(account_each_unsettled(s->db, s->settled_to, SETTLED_AT_ONCE,
                                      collect, u, &err),
               &err);
    u->count = sort_out(u);
    if (u->count > 0 && tell_at_once(u)) {
        for (unsigned i = 0; i < u->count; i++)
            note_told(s, &u->accounts[i]);
    } else if (u->count > 0 && !tell_one_by_one(u)) {
        wait_ms = NOBODY_WAIT_MS;
    }
    s->settled_to = u->last_id;
    return u->last_id ? wait_ms : -1;
}

static void settle_some(void *ctx)
{
    struct state *s = ctx;
    struct unsettled *u;
    int wait_ms;

    if (s->is_full)
        return; /* all of them again, when there is room */
    u = mem_alloc(sizeof(*u));
    u->state = s;
    wait_ms = settle_next(u);
    free(u);
    if (wait_ms >= 0)
        timer_start(s->settle, wait_ms);
}

void state_local_settle(struct state *s)
{
    if (!s->settle)
        s->settle = timer_new(s->loop, settle_some, s);
    if (timer_is_running(s->settle))
        return; /* those that lie below are come to with the next tick */
    s->is_unsettled = false;
    s->settled_to = 0;
    settle_some(s);
}

/* Whom local has forgotten (its file was lost, or is an old copy) it would
   refuse for good, and their mail would bounce. */
void state_local_remind(struct state *s)
{
    int64_t known;
    struct err err;
    int rc;

    state_must(provision_count(s->provision, &known, &err), &err);
    state_must(rc = account_recount(s->db, known, &err), &err);
    if (rc == 1)
        log_error("local knows only %lld of the accounts it serves: it is "
                  "told of all of them again",
                  (long long)known);
}

void state_local_tick(struct state *s)
{
    if (s->is_unsettled && !s->is_full)
        state_local_settle(s);
}
