/*
 * The way back of an account, as far as it is not the flip's machine: a first
 * pass while local still serves, so that the hold is short; then the hold, the
 * last pass inside it, and what the end of either means for the row.
 *
 *   wanted -> first pass -> (state_flip.c: QUIETING -> COPYING -> TELLING)
 *                ^                 |
 *                +-----------------+ given up: local again, tried later
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/counters.h"
#include "db/leftovers.h"

#define CROWDED_MS 2000

static void note_leftovers(struct state *s, const struct account *account,
                           const struct migration_report *report)
{
    const json_t *line;
    struct err err;
    size_t i;

    state_write(s);
    state_must(leftovers_clear(s->db, account->id, &err), &err);
    json_array_foreach(report->details, i, line)
    {
        const char *text = json_string_value(line);

        if (text)
            state_must(leftovers_add(s->db, account->id, text, &err), &err);
    }
}

/* It will not be tried again before somebody asks for it again. */
static void refuse(struct state *s, struct account *account,
                   const struct err *outcome)
{
    snprintf(account->last_error, sizeof(account->last_error), "%s",
             outcome->text);
    snprintf(account->last_error_kind, sizeof(account->last_error_kind), "%s",
             err_kind_name(outcome->kind));
    account->last_error_at = clock_unix_ms();
    if (outcome->kind != ERR_RETRY && outcome->kind != ERR_PEER) {
        struct account was = *account;

        account->wants_rollback = ROLLBACK_NO;
        state_audit_change(s, &was, account, "back-refused", outcome->text);
    }
    log_warn("account %s way back failed kind=%s: %s", account->address,
             err_kind_name(outcome->kind), log_safe(outcome->text));
    state_store(s, account);
}

void state_back_passed(struct state *s, struct account *account,
                       const struct domain *domain,
                       const struct migration_report *report,
                       const struct err *outcome)
{
    if (account->wants_rollback == ROLLBACK_NO ||
        account->route != ROUTE_LOCAL || domain->closed_at != 0)
        return;
    if (outcome->kind != ERR_NONE) {
        refuse(s, account, outcome);
        return;
    }
    log_info("account %s first pass back appended=%lld left=%lld",
             account->address, (long long)report->appended,
             (long long)report->differences);
    note_leftovers(s, account, report);
    if (!s->are_peers_known || state_flip_count(s) >= SCHEDULE_FLIPS_MAX ||
        state_close_runs(s, domain->id))
        state_jobs_queue(s, account, domain, JOB_ROLLBACK,
                         clock_unix_ms() + CROWDED_MS);
    else
        state_flip_begin(s, account, domain, FLIP_BACK);
}

void state_back_given_up(struct state *s, const struct account *account,
                         const struct domain *domain, int64_t wait_ms)
{
    int64_t now = clock_unix_ms();

    state_jobs_stop(s, account->id, JOB_ROLLBACK);
    if (account->wants_rollback != ROLLBACK_NO)
        state_jobs_queue(s, account, domain, JOB_ROLLBACK, now + wait_ms);
    if (account->copy == COPY_TRAIL)
        state_jobs_queue(s, account, domain, JOB_TRAIL, now);
}

bool state_back_commit(struct state *s, struct account *account,
                       const struct domain *domain,
                       const struct migration_report *report)
{
    int64_t now = clock_unix_ms();
    char why[64];
    struct err err;

    note_leftovers(s, account, report);
    state_write(s);
    state_must(
        counter_raise(s->db, COUNTER_GENERATION, &account->generation, &err),
        &err);
    snprintf(why, sizeof(why), "appended=%lld left=%lld",
             (long long)report->appended, (long long)report->differences);
    if (account->on_flip == ON_FLIP_DUE)
        account->on_flip = ON_FLIP_NONE; /* nobody has been flipped */
    account->trail_ended_at = 0;
    account->rolled_back_at = now;
    account->wants_rollback = ROLLBACK_NO;
    account->wants_flip = false;
    account->is_clean = false;
    account->hold_failures = 0;
    account->next_flip_at = 0;
    account->last_error[0] = account->last_error_kind[0] = '\0';
    if (!state_change(s, account, EVENT_BACK, why))
        return false;
    state_jobs_stop(s, account->id, JOB_TRAIL);
    state_jobs_queue(s, account, domain, JOB_DELTA, now);
    return true;
}
