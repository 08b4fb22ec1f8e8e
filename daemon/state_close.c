/*
 * Closing a domain: one last pass over every folder of each of its trails, then
 * the end of them all.
 *
 *   asked -> PASSING -> (closed_at is written) -> the trails end, some at a
 * time
 *                \--> REFUSED: nothing has changed
 *
 * Meanwhile no account of the domain is held: one that flipped after its turn
 * would get no pass.
 *
 * The passes live in memory: who asks again begins again. From closed_at on the
 * row decides, and whoever finds it goes on ending trails until none is left.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/command_parts.h"
#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/closing.h"
#include "db/counts.h"

#define PASSES_MAX   256   /* asked for at once */
#define TRIES_MAX    3     /* of one account's pass */
#define FAILURES_MAX 20    /* in a row: legacy answers nobody */
#define FORGOTTEN_MS 60000 /* nobody has asked how far it is */
#define LOOK_MS      5000  /* whether a pass has got lost */
#define ENDS_A_TURN  200
#define ENDS_WAIT_MS 20
#define FAILED_FIRST 5

enum pass_state {
    PASS_NEW,
    PASS_ASKED, /* queued, or the worker began before it was asked for */
    PASS_RUNS
};

struct pass {
    int64_t account_id;
    enum pass_state state;
    unsigned tries;
};

struct state_close {
    struct state_close *next;
    struct state *state;
    int64_t domain_id;
    char actor[COMMAND_ACTOR_MAX];
    char reason[256];
    bool is_forced;
    json_t *probed;  /* owned; array of bars that force went over */
    json_t *refused; /* owned; array of bars: over, and nothing has changed */
    json_t *failed;  /* owned; the first accounts whose pass failed */
    int64_t failed_count, failed_in_a_row;
    struct pass passes[PASSES_MAX];
    unsigned pass_count;
    int64_t last_id; /* of the accounts asked for */
    int64_t done, total;
    int64_t asked_ms; /* loop time of the last question */
    int64_t looked_ms;
};

static struct state_close *find_close(struct state *s, int64_t domain_id)
{
    struct state_close *close = s->closes;

    while (close && close->domain_id != domain_id)
        close = close->next;
    return close;
}

bool state_close_runs(struct state *s, int64_t domain_id)
{
    const struct state_close *close = find_close(s, domain_id);

    return close && !close->refused;
}

static void close_free(struct state_close *close)
{
    struct state_close **at = &close->state->closes;

    while (*at != close)
        at = &(*at)->next;
    *at = close->next;
    json_decref(close->probed);
    json_decref(close->refused);
    json_decref(close->failed);
    free(close);
}

/* --- how it ends */

static void add_bar(json_t *bars, const char *bar, int64_t count, json_t *first)
{
    json_array_append_new(bars, json_pack("{s:s,s:I,s:o}", "bar", bar, "count",
                                          (json_int_t)count, "first", first));
}

/* "late_mail=2 way_back=1": what force has gone over. */
static void describe_bars(const json_t *bars, char *out, size_t size)
{
    const json_t *bar;
    size_t i, used = 0;

    out[0] = '\0';
    json_array_foreach(bars, i, bar)
    {
        int n = snprintf(out + used, size - used, "%s%s=%lld", i ? " " : "",
                         wire_text(bar, "bar"),
                         (long long)wire_int(bar, "count", 0));

        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

static void close_domain(struct state_close *close, struct domain *d,
                         const json_t *bars)
{
    struct state *s = close->state;
    char over[256], detail[600];
    struct audit_entry entry = {.at = clock_unix_ms(),
                                .actor = close->actor,
                                .event = "domain close",
                                .detail = detail,
                                .address = d->name,
                                .was = "open",
                                .became = "closed",
                                .reason = close->reason};
    struct err err;

    describe_bars(bars, over, sizeof(over));
    snprintf(detail, sizeof(detail), "%s trails=%lld%s%s", d->name,
             (long long)close->total, over[0] ? " in spite of: " : "", over);
    d->closed_at = entry.at;
    d->reopened_from = 0;
    state_keys_newest(s, d->closed_key, sizeof(d->closed_key));
    d->is_enabled = false;
    state_write(s);
    state_must(domain_update(s->db, d, &err), &err);
    state_must(audit_append(s->db, &entry, &err), &err);
    log_info("domain %s closed by %s", detail, close->actor);
    s->has_ends = true;
    state_close_tick(s);
}

/* Every pass has ended: what was true at the beginning must still be. */
static void settle(struct state_close *close)
{
    struct state *s = close->state;
    json_t *bars = json_copy(close->probed);
    struct domain d;
    struct err err;
    int found = domain_get(s->db, close->domain_id, &d, &err);

    state_must(found, &err);
    if (found)
        state_must(command_closing_bars(s->db, &d, clock_unix_ms(), bars, &err),
                   &err);
    if (close->failed_count > 0)
        add_bar(bars, "pass_failed", close->failed_count,
                json_incref(close->failed));
    if (!found || (json_array_size(bars) > 0 && !close->is_forced)) {
        close->refused = bars;
        return;
    }
    close_domain(close, &d, bars);
    json_decref(bars);
    close_free(close);
}

/* --- the passes */

static int ask_for_pass(void *ctx, int64_t account_id)
{
    struct state_close *close = ctx;

    close->passes[close->pass_count++] =
        (struct pass){.account_id = account_id, .state = PASS_NEW};
    close->last_id = account_id;
    return 0;
}

static void drop_pass(struct state_close *close, struct pass *pass)
{
    *pass = close->passes[--close->pass_count];
    close->done++;
}

static void pass_failed(struct state_close *close, struct pass *pass,
                        const struct account *a, const char *why)
{
    char text[ADDRESS_MAX + 200];

    snprintf(text, sizeof(text), "%s: %s", a->address, log_safe(why));
    close->failed_count++;
    if (json_array_size(close->failed) < FAILED_FIRST)
        json_array_append_new(close->failed, json_string(text));
    drop_pass(close, pass);
}

/* See to it that this pass comes. False: it cannot, and is dropped. */
static bool see_to_pass(struct state_close *close, struct pass *pass)
{
    struct state *s = close->state;
    struct account account;
    struct domain domain;
    struct job job;
    struct err err;
    int found;

    if (!state_load(s, pass->account_id, &account, &domain)) {
        drop_pass(close, pass);
        return false;
    }
    if (account.copy != COPY_TRAIL) {
        pass_failed(close, pass, &account, account_copy_name(account.copy));
        return false;
    }
    found = job_find(s->db, account.id, JOB_TRAIL, &job, &err);
    state_must(found, &err);
    /* one that runs already does not count: another follows it */
    if (!found || pass->state == PASS_NEW)
        state_jobs_queue(s, &account, &domain, JOB_TRAIL, clock_unix_ms());
    if (pass->state == PASS_NEW)
        pass->state = PASS_ASKED;
    return true;
}

static void see_to_passes(struct state_close *close)
{
    unsigned i = 0;

    while (i < close->pass_count)
        if (see_to_pass(close, &close->passes[i]))
            i++;
}

/* More passes, as those before have ended; or the end. May free it. */
static void advance(struct state_close *close)
{
    struct state *s = close->state;
    int64_t last_id;
    struct err err;

    if (close->refused)
        return;
    do {
        last_id = close->last_id;
        if (close->is_forced && close->failed_in_a_row >= FAILURES_MAX) {
            /* legacy is gone: nobody waits for the rest of them */
            close->pass_count = 0;
            break;
        }
        if (close->pass_count < PASSES_MAX / 2)
            state_must(closing_each_trail(s->db, close->domain_id,
                                          close->last_id,
                                          (int)(PASSES_MAX - close->pass_count),
                                          ask_for_pass, close, &err),
                       &err);
        if (close->last_id != last_id)
            see_to_passes(close);
    } while (close->pass_count == 0 && close->last_id != last_id);
    if (close->pass_count == 0)
        settle(close);
}

static struct pass *find_pass(struct state *s, int64_t account_id,
                              struct state_close **close_out)
{
    for (struct state_close *close = s->closes; close; close = close->next)
        for (unsigned i = 0; i < close->pass_count; i++)
            if (close->passes[i].account_id == account_id) {
                *close_out = close;
                return &close->passes[i];
            }
    return NULL;
}

bool state_close_leased(struct state *s, int64_t account_id)
{
    struct state_close *close;
    struct pass *pass = find_pass(s, account_id, &close);

    if (pass)
        pass->state = PASS_RUNS;
    return pass != NULL;
}

void state_close_trailed(struct state *s, const struct account *a,
                         const struct err *outcome)
{
    struct state_close *close;
    struct pass *pass = find_pass(s, a->id, &close);

    if (!pass || pass->state != PASS_RUNS)
        return; /* one that began before it was asked for */
    if (outcome->kind == ERR_NONE) {
        close->failed_in_a_row = 0;
        drop_pass(close, pass);
    } else if ((outcome->kind == ERR_RETRY || outcome->kind == ERR_PEER) &&
               ++pass->tries < TRIES_MAX && !close->is_forced) {
        pass->state = PASS_ASKED;
        return;
    } else {
        close->failed_in_a_row++;
        pass_failed(close, pass, a, outcome->text);
    }
    advance(close);
}

/* Nobody tells of a trail that was paused, or of a job that was dropped. */
static void look_after(struct state_close *close)
{
    close->looked_ms = loop_now_ms(close->state->loop);
    see_to_passes(close);
    advance(close);
}

/* --- the ends */

struct unended {
    int64_t ids[ENDS_A_TURN];
    unsigned count;
};

static int note_unended(void *ctx, int64_t account_id)
{
    struct unended *u = ctx;

    u->ids[u->count++] = account_id;
    return 0;
}

/* Nothing is asked of legacy any more: what was sealed for that goes. */
static void end_trail(struct state *s, int64_t account_id)
{
    struct account account;
    struct domain domain;
    struct err err;

    if (!state_load(s, account_id, &account, &domain))
        return;
    /* never before its domain's end, whatever the clock does: reopening it
       brings back what ended then */
    account.trail_ended_at = clock_unix_ms();
    if (account.trail_ended_at < domain.closed_at)
        account.trail_ended_at = domain.closed_at;
    account.has_seal = false;
    account.wants_rollback = ROLLBACK_NO; /* legacy takes no mail for him */
    account.last_error[0] = account.last_error_kind[0] = '\0';
    if (!state_change(s, &account, EVENT_TRAIL_ENDED, "its domain is closed"))
        return;
    state_must(account_seal_set(s->db, account_id, NULL, &err), &err);
    state_must(credential_seals_wipe(s->db, account_id, &err), &err);
    state_jobs_stop(s, account_id, JOB_TRAIL);
    state_jobs_stop(s, account_id, JOB_ROLLBACK);
}

static void end_some(void *ctx)
{
    struct state *s = ctx;
    struct unended unended = {.count = 0};
    struct err err;
    int rc;

    if (s->is_full)
        return;
    state_must(
        closing_each_unended(s->db, ENDS_A_TURN, note_unended, &unended, &err),
        &err);
    for (unsigned i = 0; i < unended.count; i++)
        end_trail(s, unended.ids[i]);
    if (unended.count == 0) {
        state_must(rc = closing_has_unended(s->db, &err), &err);
        s->has_ends = rc == 1;
    } else {
        timer_start(s->ends, ENDS_WAIT_MS);
    }
}

void state_close_tick(struct state *s)
{
    struct state_close *next;

    if (!s->ends)
        s->ends = timer_new(s->loop, end_some, s);
    if (s->has_ends && !timer_is_running(s->ends))
        timer_start(s->ends, 0);
    for (struct state_close *close = s->closes; close; close = next) {
        int64_t now = loop_now_ms(s->loop);

        next = close->next;
        if (close->asked_ms + FORGOTTEN_MS < now)
            close_free(close);
        else if (!close->refused && close->looked_ms + LOOK_MS < now)
            look_after(close);
    }
}

/* --- who asks */

/* What the probe of legacy found, as bars. */
static void add_probe_bars(const json_t *probe, int64_t accounts, json_t *bars)
{
    static const char *const kinds[] = {"accepted", "unclear"};
    static const char *const names[] = {"legacy_accepts", "legacy_unclear"};
    int64_t asked = wire_int(probe, "asked", 0);

    for (int i = 0; i < 2; i++) {
        int64_t count = wire_int(probe, kinds[i], 0);
        char first[32];
        json_t *list;

        snprintf(first, sizeof(first), "%s_first", kinds[i]);
        list = json_object_get(probe, first);
        if (count > 0)
            add_bar(bars, names[i], count,
                    json_is_array(list) ? json_incref(list) : json_array());
    }
    if (asked < accounts + 1) /* and a name that nobody has */
        add_bar(bars, "not_probed", accounts + 1 - asked, json_array());
}

static json_t *progress_json(struct state *s, const struct domain *d,
                             struct state_close *close)
{
    int64_t left;
    struct err err;
    json_t *json;

    if (close && close->refused) {
        json = json_pack("{s:s,s:s,s:O}", "name", d->name, "state", "refused",
                         "bars", close->refused);
        close_free(close);
        return json;
    }
    if (close) {
        close->asked_ms = loop_now_ms(s->loop);
        return json_pack("{s:s,s:s,s:I,s:I}", "name", d->name, "state",
                         "passing", "done", (json_int_t)close->done, "total",
                         (json_int_t)close->total);
    }
    state_must(closing_count_trails(s->db, d->id, &left, &err), &err);
    return json_pack("{s:s,s:s,s:I,s:I,s:s}", "name", d->name, "state",
                     !d->closed_at ? "open"
                     : left > 0    ? "ending"
                                   : "closed",
                     "left", (json_int_t)left, "closed_at",
                     (json_int_t)d->closed_at, "closed_key", d->closed_key);
}

int state_close_progress(struct state *s, struct command *c,
                         const json_t *request, json_t **result_out,
                         struct err *err)
{
    const char *name = command_need_text(request, "name", err);
    struct domain d;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    *result_out = progress_json(s, &d, find_close(s, d.id));
    return 0;
}

static void begin(struct state *s, const struct domain *d, const char *actor,
                  const json_t *request, json_t *probed)
{
    const char *reason = wire_text(request, "reason");
    struct state_close *close = mem_alloc(sizeof(*close));
    struct err err;

    close->state = s;
    close->domain_id = d->id;
    close->is_forced = wire_bool(request, "force");
    close->failed = json_array();
    close->probed = json_incref(probed);
    close->asked_ms = close->looked_ms = loop_now_ms(s->loop);
    snprintf(close->actor, sizeof(close->actor), "%s", actor);
    snprintf(close->reason, sizeof(close->reason), "%s", reason ? reason : "");
    close->next = s->closes;
    s->closes = close;
    state_must(closing_count_trails(s->db, d->id, &close->total, &err), &err);
    advance(close);
}

/* Whatever force goes over, not this: it passes within seconds. */
static int refuse_held(const json_t *bars, struct err *err)
{
    for (size_t i = 0; i < json_array_size(bars); i++) {
        const char *bar = wire_text(json_array_get(bars, i), "bar");

        if (strcmp(bar, closing_bar_name(CLOSING_HELD)) == 0)
            return err_set(err, ERR_RETRY,
                           "accounts are just being flipped; ask again");
    }
    return 0;
}

static json_t *probe_bars(struct state *s, const struct domain *d,
                          const json_t *request)
{
    json_t *bars = json_array();
    int64_t accounts;
    struct err err;

    state_must(account_counts_sum(s->db, d->id, &accounts, &err), &err);
    add_probe_bars(json_object_get(request, "probe"), accounts, bars);
    return bars;
}

/* Those of the probe and all others. New reference; NULL: not even force may go
   over them. */
static json_t *all_bars(struct state *s, const struct domain *d, json_t *probed,
                        struct err *err)
{
    json_t *bars = json_copy(probed);

    if (command_closing_bars(s->db, d, clock_unix_ms(), bars, err) == 0 &&
        refuse_held(bars, err) == 0)
        return bars;
    json_decref(bars);
    return NULL;
}

int state_close_begin(struct state *s, struct command *c, const json_t *request,
                      json_t **result_out, struct err *err)
{
    const char *name = command_need_text(request, "name", err);
    bool is_forced = wire_bool(request, "force");
    struct state_close *close;
    json_t *probed, *bars;
    struct domain d;
    char newest[sizeof(d.closed_key)];
    int rc = 0;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    if (s->is_full)
        return err_set(err, ERR_RETRY, "no room on the disk of state_dir");
    if (is_forced && !command_need_text(request, "reason", err))
        return -1;
    state_keys_newest(s, newest, sizeof(newest));
    if (!newest[0])
        return err_set(err, ERR_RETRY, "the sealing keys are not known yet");
    close = find_close(s, d.id);
    if (close && close->refused) {
        close_free(close); /* of who did not wait for it */
        close = NULL;
    }
    if (close && close->is_forced != is_forced)
        return err_set(err, ERR_RETRY,
                       "%s is just being closed by %s, %s force; ask again",
                       d.name, close->actor,
                       close->is_forced ? "with" : "without");
    if (d.closed_at || close)
        return state_close_progress(s, c, request, result_out, err);
    probed = probe_bars(s, &d, request);
    bars = all_bars(s, &d, probed, err);
    if (bars && json_array_size(bars) > 0 && !is_forced) {
        *result_out = json_pack("{s:s,s:s,s:O}", "name", d.name, "state",
                                "refused", "bars", bars);
    } else if (bars) {
        begin(s, &d, c->actor, request, probed);
        rc = state_close_progress(s, c, request, result_out, err);
    } else {
        rc = -1;
    }
    json_decref(probed);
    json_decref(bars);
    return rc;
}
