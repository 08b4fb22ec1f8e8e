/*
 * What the new side is told of accounts: at once, after the commit, or, where
 * many wait for it (local has lost its file, the control db was rebuilt), some
 * at a time by one commit, while others are answered. Until local knows an
 * account it is unavailable, and its mail is put off.
 */
#include "daemon/state.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/counters.h"

#define SETTLED_AT_ONCE 250
#define SETTLE_WAIT_MS  10
#define NOBODY_WAIT_MS  1000 /* local takes nothing at all, perhaps */
#define PAUSE_MOST_MS   8000 /* between two passes */

#define COUNTER_AUTH_ID      "auth_id" /* of auth.db, see db/auth.h */
#define COUNTER_AUTH_CHANGES "auth_changes"

static void provision_now(struct state *s, int64_t account_id);

static int tell(struct state *s, const struct account *account, struct err *err)
{
    struct credential_hashes hashes;
    struct err own;

    state_must(credential_hashes(s->db, account->id, &hashes, &own), &own);
    return provision_apply(s->provision, account, &hashes, err);
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
    struct err err;

    if (!has_witness(s, account))
        return false;
    if (tell(s, account, &err) == -1) {
        log_error("account %s is not made known to local: %s", account->address,
                  err.text);
        s->is_unsettled = true; /* again with the next tick */
        return false;
    }
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

/* By one commit; -1: none of them is told. *is_one_out: local takes the others,
   but not this one. */
static int tell_at_once(struct unsettled *u, bool *is_one_out, struct err *err)
{
    struct state *s = u->state;

    *is_one_out = false;
    if (provision_begin(s->provision, err) == -1)
        return -1;
    for (unsigned i = 0; i < u->count; i++)
        if (tell(s, &u->accounts[i], err) == -1) {
            *is_one_out = err->kind != ERR_RETRY;
            provision_abort(s->provision);
            return -1;
        }
    if (provision_commit(s->provision, err) == 0)
        return 0;
    provision_abort(s->provision);
    return -1;
}

/* As many as local takes; how many it does not, and why the last of them. */
static unsigned tell_one_by_one(struct unsettled *u, struct err *why)
{
    struct state *s = u->state;
    unsigned failed = 0;
    struct err err;

    for (unsigned i = 0; i < u->count; i++) {
        if (tell(s, &u->accounts[i], &err) == 0) {
            note_told(s, &u->accounts[i]);
            continue;
        }
        *why = err;
        failed++;
        if (err.kind == ERR_RETRY)
            return u->count - i + failed - 1; /* nor will the others be */
    }
    return failed;
}

/* The next of them; how long to wait for those behind, -1: there are none. */
static int settle_next(struct unsettled *u)
{
    struct state *s = u->state;
    int wait_ms = SETTLE_WAIT_MS;
    unsigned failed = 0;
    bool is_one;
    struct err err;

    state_must(account_each_unsettled(s->db, s->settled_to, SETTLED_AT_ONCE,
                                      collect, u, &err),
               &err);
    u->count = sort_out(u);
    if (u->count > 0 && tell_at_once(u, &is_one, &err) == 0)
        for (unsigned i = 0; i < u->count; i++)
            note_told(s, &u->accounts[i]);
    else if (u->count > 0)
        failed = is_one ? tell_one_by_one(u, &err) : u->count;
    if (failed > 0) {
        log_error("%u account%s not made known to local: %s", failed,
                  failed == 1 ? " is" : "s are", err.text);
        s->has_untold = s->is_unsettled = true;
    }
    if (failed > 0 && failed == u->count)
        wait_ms = NOBODY_WAIT_MS;
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

/* A pass behind one in which somebody could not be told comes later, and later
   again: the log is not to be filled with them. */
static void begin_pass(struct state *s)
{
    int64_t now = loop_now_ms(s->loop);

    if (!s->settle)
        s->settle = timer_new(s->loop, settle_some, s);
    if (timer_is_running(s->settle) || now < s->settle_from_ms)
        return; /* those that lie below are come to with a later tick */
    s->settle_pause_ms = !s->has_untold ? 0
                         : s->settle_pause_ms * 2 < PAUSE_MOST_MS
                             ? s->settle_pause_ms * 2 + 1000
                             : PAUSE_MOST_MS;
    s->settle_from_ms = now + s->settle_pause_ms;
    s->has_untold = s->is_unsettled = false;
    s->settled_to = 0;
    settle_some(s);
}

/* --- the file that local reads */

static void remind(struct state *s, const char *why)
{
    struct err err;

    log_error("%s: local is told of all accounts again", why);
    state_write(s);
    state_must(account_remind_all(s->db, &err), &err);
    state_audit(s, 0, "local reminded", "%s", why);
    s->is_unsettled = true;
    s->settle_from_ms = 0;
}

/* Whether it is the one that we have written to, with all that we have written.
   Whom local has forgotten it would refuse for good, and their mail would
   bounce; whom it remembers otherwise it would serve with an old password. */
static void check_file(struct state *s)
{
    struct auth_changes is;
    int64_t id, count, known, told;
    struct err err;

    if (provision_changes(s->provision, &is, &err) == -1 ||
        provision_count(s->provision, &known, &err) == -1) {
        log_error("%s", err.text);
        return;
    }
    s->auth_applied = provision_applied(s->provision);
    if (is.id == 0)
        return; /* there is no such file, by configuration */
    state_must(counter_get(s->db, COUNTER_AUTH_ID, &id, &err), &err);
    state_must(counter_get(s->db, COUNTER_AUTH_CHANGES, &count, &err), &err);
    state_must(account_count_told(s->db, &told, &err), &err);
    if (id != 0 && is.id != id)
        remind(s, "auth.db is another file");
    else if (id != 0 && is.count < count)
        remind(s, "auth.db is an older copy");
    else if (known < told)
        remind(s, "auth.db lacks accounts");
    if (is.id != id) {
        state_write(s);
        state_must(counter_set(s->db, COUNTER_AUTH_ID, is.id, &err), &err);
    }
    if (is.count != count) {
        state_write(s);
        state_must(counter_set(s->db, COUNTER_AUTH_CHANGES, is.count, &err),
                   &err);
    }
}

void state_local_note(struct state *s)
{
    struct auth_changes is;
    int64_t count;
    struct err err;

    if (s->auth_applied == provision_applied(s->provision))
        return;
    if (provision_changes(s->provision, &is, &err) == -1) {
        log_error("%s", err.text);
        return; /* what is noted is less than what is there */
    }
    s->auth_applied = provision_applied(s->provision);
    state_must(counter_get(s->db, COUNTER_AUTH_CHANGES, &count, &err), &err);
    if (is.count < count) /* written over where it lies */
        remind(s, "auth.db is an older copy");
    if (is.count != count)
        state_must(counter_set(s->db, COUNTER_AUTH_CHANGES, is.count, &err),
                   &err);
}

/* As after any other file that cannot be relied on: the next life of this
   process opens what is there, and looks what it lacks. */
static void look_for_another(struct state *s)
{
    if (!provision_is_replaced(s->provision))
        return;
    log_error("auth.db was replaced; begins anew with what is there. The local "
              "server must open it again, too");
    state_settle(s);
    _exit(1);
}

void state_local_start(struct state *s)
{
    check_file(s);
    s->settle_from_ms = 0;
    begin_pass(s);
}

void state_local_tick(struct state *s)
{
    if (s->is_full)
        return;
    look_for_another(s);
    if (s->is_unsettled)
        begin_pass(s);
}
