/*
 * The gate before a flip, as far as a worker's report moves it: what is set
 * aside and not accepted, both sides compared, local asked whether it serves
 * the account. Which conditions there are is in schedule.c.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "db/set_aside.h"

#define UNCLEAN_TOLD 2 /* in a row: a user at work makes one */

void state_gate_name(struct state *s, struct account *a,
                     const struct migration_report *report)
{
    int64_t now = clock_unix_ms();
    const json_t *item;
    struct err err;
    size_t i;

    if (report->set_aside == 0 && a->set_aside == 0)
        return;
    state_write(s);
    json_array_foreach(report->items, i, item)
    {
        const char *name = wire_text(item, "item");
        const char *reason = wire_text(item, "reason");

        if (i == SET_ASIDE_LISTED_MAX)
            break;
        if (name != NULL && strlen(name) < SET_ASIDE_ITEM_SIZE)
            state_must(set_aside_put(s->db, a->id, name,
                                     reason != NULL ? reason : "", now, &err),
                       &err);
    }
    state_must(set_aside_forget(s->db, a->id, now, &err), &err);
    a->set_aside = report->set_aside;
    state_must(set_aside_accepted(s->db, a->id, now, &a->accepted, &err), &err);
}

/* ---- unclean in a row; remembered in memory, since it only decides when the
   administrator hears of it */

static int64_t count_unclean(struct state *s, int64_t account_id, bool is_clean)
{
    char key[24];
    int64_t count;

    snprintf(key, sizeof(key), "%lld", (long long)account_id);
    if (is_clean) {
        json_object_del(s->unclean, key);
        return 0;
    }
    count = wire_int(s->unclean, key, 0) + 1;
    json_object_set_new(s->unclean, key, json_integer(count));
    return count;
}

/* The first differences behind what last_error says already. */
static void list_differences(struct account *a,
                             const struct migration_report *report)
{
    const char *between = ": ";
    const json_t *detail;
    size_t i;

    json_array_foreach(report->details, i, detail)
    {
        size_t used = strlen(a->last_error);
        const char *text = json_string_value(detail);

        if (text == NULL || strncmp(text, "note: ", 6) == 0)
            continue;
        if (used + 8 > sizeof(a->last_error))
            return;
        snprintf(a->last_error + used, sizeof(a->last_error) - used, "%s%s",
                 between, text);
        between = "; ";
    }
}

void state_gate_tell(struct account *a, const struct migration_report *report,
                     const char *when)
{
    snprintf(a->last_error, sizeof(a->last_error),
             "%lld difference%s between both sides %s",
             (long long)report->differences,
             report->differences == 1 ? "" : "s", when);
    list_differences(a, report);
    snprintf(a->last_error_kind, sizeof(a->last_error_kind), "%s",
             err_kind_name(ERR_ITEM));
    a->last_error_at = clock_unix_ms();
}

static void take_local(struct account *a, const struct migration_report *report)
{
    if (report->is_local_ready) {
        if (a->local_ready_at == 0)
            a->local_ready_at = clock_unix_ms();
        return;
    }
    if (report->local_fault[0] == '\0')
        return;
    a->local_ready_at = 0;
    snprintf(a->last_error, sizeof(a->last_error), "%s", report->local_fault);
    snprintf(a->last_error_kind, sizeof(a->last_error_kind), "%s",
             err_kind_name(ERR_SETUP));
    a->last_error_at = clock_unix_ms();
    log_error("account %s cannot flip: %s", a->address,
              log_safe(report->local_fault));
}

enum flip_gate state_gate_judge(struct state *s, struct account *a,
                                const struct domain *d,
                                const struct migration_report *report,
                                const struct flip_moment *moment)
{
    enum flip_gate gate;
    int64_t times;

    a->is_clean = report->differences == 0;
    times = count_unclean(s, a->id, a->is_clean);
    if (times >= UNCLEAN_TOLD) {
        char when[40];

        snprintf(when, sizeof(when), "%lld times in a row", (long long)times);
        state_gate_tell(a, report, when);
    }
    take_local(a, report);
    gate = schedule_flip(a, d, moment);
    if (gate == FLIP_NOT_CLEAN && times < UNCLEAN_TOLD)
        gate = FLIP_NOT_VERIFIED; /* perhaps somebody was at work: soon again */
    if (gate == FLIP_READY && !report->is_verified)
        gate = FLIP_NOT_VERIFIED;
    if (gate == FLIP_READY && state_flip_count(s) >= SCHEDULE_FLIPS_MAX)
        gate = FLIP_CROWDED;
    if (gate == FLIP_READY && state_close_runs(s, d->id))
        gate = FLIP_CLOSING;
    return gate;
}

void state_gate_options(const struct state *s, const struct job *job,
                        const struct account *a, const struct domain *d,
                        json_t *options)
{
    struct account clean = *a;
    struct flip_moment moment;
    enum flip_gate gate;

    if (job->kind == JOB_FINAL)
        json_object_set_new(options, "verify", json_true());
    if (job->kind != JOB_DELTA)
        return;
    if (a->local_ready_at == 0)
        json_object_set_new(options, "ask_local", json_true());
    /* if this pass were all that is missing */
    moment = state_brake_moment(s, d);
    clean.is_clean = true;
    clean.accepted = clean.set_aside;
    if (clean.local_ready_at == 0)
        clean.local_ready_at = 1;
    moment.are_peers_known = true;
    gate = schedule_flip(&clean, d, &moment);
    if (gate == FLIP_READY)
        json_object_set_new(options, "verify", json_true());
}
