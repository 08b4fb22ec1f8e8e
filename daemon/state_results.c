/*
 * What the end of a job means for its account.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "account/mailbox_id.h"
#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/tally.h"

#define TRAIL_DENIED_MS (60 * 60 * 1000LL)

void state_results_count(struct account *a,
                         const struct migration_report *report)
{
    a->folders = report->folders;
    a->messages = report->messages;
    a->bytes = report->bytes;
    a->messages_total = report->messages_total;
    a->bytes_total = report->bytes_total;
}

static bool has_no_hash(const struct account *a)
{
    return !a->has_hash && strncmp(a->last_error, LIFECYCLE_NO_HASH,
                                   strlen(LIFECYCLE_NO_HASH)) == 0;
}

/* Remembered once and for all, unless the provider has made it anew. */
static void take_mailbox(struct account *a,
                         const struct migration_report *report)
{
    if (report->mailbox_id[0] &&
        (!a->mailbox_id[0] || mailbox_id_uidvalidity(a->mailbox_id) !=
                                  mailbox_id_uidvalidity(report->mailbox_id)))
        snprintf(a->mailbox_id, sizeof(a->mailbox_id), "%s",
                 report->mailbox_id);
}

static void take_report(struct state *s, struct account *a,
                        const struct migration_report *report)
{
    state_results_count(a, report);
    state_gate_name(s, a, report);
    if (report->has_prefix) {
        a->has_prefix = true;
        memcpy(a->legacy_prefix, report->prefix, sizeof(a->legacy_prefix));
        memcpy(a->legacy_separator, report->separator,
               sizeof(a->legacy_separator));
    }
    take_mailbox(a, report);
    /* that a copy went well does not mend this */
    if (!has_no_hash(a))
        a->last_error[0] = a->last_error_kind[0] = '\0';
}

static void note_error(struct account *a, const struct err *outcome)
{
    snprintf(a->last_error, sizeof(a->last_error), "%s", outcome->text);
    snprintf(a->last_error_kind, sizeof(a->last_error_kind), "%s",
             err_kind_name(outcome->kind));
    a->last_error_at = clock_unix_ms();
}

/* Legacy has accepted a password that nobody had proven before (from a list):
   now local may know it. */
static void take_as_learnt(struct state *s, struct account *a,
                           const struct domain *d)
{
    if (!a->has_seal || a->password_state != PASSWORD_NONE)
        return;
    a->password_state = PASSWORD_LEARNT;
    state_jobs_queue(s, a, d, JOB_HASH, clock_unix_ms());
}

/* Legacy refuses the password: it has been changed there. What is sealed is of
   no more use; the next good login brings the new one. */
static void denied(struct state *s, struct account *a)
{
    struct err err;

    if (a->password_state != PASSWORD_CONFIRMED)
        a->password_state = PASSWORD_NONE;
    a->has_seal = false;
    state_must(account_seal_set(s->db, a->id, NULL, &err), &err);
    if (a->route != ROUTE_LEGACY ||
        !state_change(s, a, EVENT_BROKEN, "legacy refuses the password"))
        state_store(s, a);
}

/* report: what is known of it all the same. */
struct failure {
    const struct job *job;
    const struct migration_report *report;
    const struct err *outcome;
};

/* The address may be somebody else's by now: nothing more is brought from there
   until an operator says whose it is. */
static void asked(struct state *s, const struct failure *failure,
                  struct account *a)
{
    snprintf(a->question, sizeof(a->question), MAILBOX_QUESTION " %.31s",
             failure->report->mailbox_id);
    a->wants_flip = FLIP_WISH_NONE;
    a->is_clean = false;
    if (!state_change(s, a, EVENT_ASKED, failure->outcome->text))
        state_store(s, a);
}

static void failed(struct state *s, const struct failure *failure,
                   struct account *a, const struct domain *d)
{
    const struct job *job = failure->job;
    const struct err *outcome = failure->outcome;
    int64_t now = clock_unix_ms();

    note_error(a, outcome);
    log_warn("account %s job=%s failed kind=%s: %s", a->address,
             job_kind_name(job->kind), err_kind_name(outcome->kind),
             log_safe(outcome->text));
    if (outcome->kind == ERR_DENIED && job->kind == JOB_TRAIL) {
        /* legacy may mean it for an hour only, and nobody who is served by
           local brings this password again: it is kept, and tried rarely */
        state_store(s, a);
        state_jobs_queue(s, a, d, JOB_TRAIL, now + TRAIL_DENIED_MS);
        return;
    }
    state_credentials_sort(s, a, failure->report);
    if (failure->report->question[0]) {
        asked(s, failure, a);
        return;
    }
    if (outcome->kind == ERR_DENIED) {
        denied(s, a);
        return;
    }
    if ((outcome->kind == ERR_SETUP || outcome->kind == ERR_ITEM) &&
        a->route == ROUTE_LEGACY &&
        state_change(s, a, EVENT_BROKEN, err_kind_name(outcome->kind)))
        return;
    state_store(s, a);
    /* the trail of somebody local serves never ends by itself */
    if (job->kind == JOB_TRAIL && outcome->kind != ERR_RETRY &&
        outcome->kind != ERR_PEER)
        state_jobs_queue(s, a, d, JOB_TRAIL,
                         now + s->conf->jobs.trail_seconds * 1000LL);
}

static void copied(struct state *s, struct account *a, const struct domain *d,
                   const struct migration_report *report)
{
    state_credentials_sort(s, a, report);
    take_report(s, a, report);
    a->copied_at = a->delta_at = clock_unix_ms();
    take_as_learnt(s, a, d);
    if (!state_change(s, a, EVENT_COPIED, ""))
        return;
    state_jobs_queue(s, a, d, JOB_DELTA, clock_unix_ms());
    state_provision_later(s, a->id);
}

static void refreshed(struct state *s, struct account *a,
                      const struct domain *d,
                      const struct migration_report *report)
{
    struct flip_moment moment = state_brake_moment(s, d);
    enum flip_gate gate;

    if (a->copy != COPY_DELTA)
        return; /* paused meanwhile */
    a->delta_at = clock_unix_ms();
    state_credentials_sort(s, a, report);
    take_report(s, a, report);
    take_as_learnt(s, a, d);
    gate = state_gate_judge(s, a, d, report, &moment);
    log_info("account %s delta copied=%lld removed=%lld reflagged=%lld "
             "set_aside=%lld flip=%s",
             a->address, (long long)report->copied, (long long)report->removed,
             (long long)report->reflagged, (long long)report->set_aside,
             flip_gate_name(gate));
    if (gate == FLIP_READY) {
        state_flip_begin(s, a, d, FLIP_FORTH);
        return;
    }
    state_store(s, a);
    state_jobs_queue(
        s, a, d, JOB_DELTA,
        schedule_delta(a, gate, s->conf->jobs.delta_seconds, &moment));
}

static void trailed(struct state *s, struct account *a, const struct domain *d,
                    const struct migration_report *report)
{
    int64_t now = clock_unix_ms();

    if (a->copy != COPY_TRAIL || a->route != ROUTE_LOCAL)
        return;
    state_credentials_sort(s, a, report);
    if (a->last_error[0] || a->set_aside != report->set_aside ||
        a->set_aside > 0 || report->appended > 0 || report->mailbox_id[0]) {
        take_mailbox(a, report);
        a->last_error[0] = a->last_error_kind[0] = '\0';
        state_gate_name(s, a, report);
        tally_add(report->appended, "late_mail_total");
        if (report->appended > 0)
            a->late_mail_at = now;
        state_store(s, a);
    }
    if (report->appended > 0)
        log_info("account %s trail appended=%lld", a->address,
                 (long long)report->appended);
    state_jobs_queue(
        s, a, d, JOB_TRAIL,
        schedule_trail(a->flipped_at, s->conf->jobs.trail_inbox_seconds, now));
}

void state_results_take(struct state *s, const struct job *job,
                        const json_t *message, const struct err *outcome)
{
    struct migration_report report;
    struct account a;
    struct domain d;

    if (!state_load(s, job->account_id, &a, &d))
        return;
    memset(&report, 0, sizeof(report));
    if (message)
        migration_report_decode(message, &report);
    if (report.renewal[0])
        state_audit(s, a.id, "mailbox-renewed", "%s", report.renewal);
    if (job->kind == JOB_HASH)
        state_credentials_hashed(s, &a, &d, message, outcome);
    else if (job->kind == JOB_VERIFY)
        state_control_verified(s, &a, &report, outcome);
    else if (job->kind == JOB_FINAL ||
             (job->kind == JOB_ROLLBACK && state_flip_of(s, a.id)))
        state_flip_copied(s, job, &report, outcome);
    else if (job->kind == JOB_ROLLBACK)
        state_back_passed(s, &a, &d, &report, outcome);
    else if (a.copy == COPY_PAUSED)
        log_info("account %s job=%s ended while paused", a.address,
                 job_kind_name(job->kind));
    else if (outcome->kind != ERR_NONE) {
        if (job->kind == JOB_TRAIL && report.folders > 0)
            state_gate_name(s, &a, &report);
        if (job->kind == JOB_TRAIL && report.appended > 0)
            a.late_mail_at = clock_unix_ms();
        failed(s, &(struct failure){job, &report, outcome}, &a, &d);
    } else if (job->kind == JOB_INITIAL)
        copied(s, &a, &d, &report);
    else if (job->kind == JOB_DELTA)
        refreshed(s, &a, &d, &report);
    else if (job->kind == JOB_TRAIL)
        trailed(s, &a, &d, &report);
    if (job->kind == JOB_TRAIL)
        state_close_trailed(s, &a, outcome);
    migration_report_release(&report);
}
