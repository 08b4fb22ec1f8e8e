#include "account/story.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "account/lifecycle.h"
#include "account/mailbox_id.h"
#include "base/err.h"

#define DAY_S (24 * 60 * 60)

/* A sentence being written; what does not fit is cut. */
struct telling {
    const struct story *s;
    char *out;
    size_t used;
};

static void say(struct telling *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct telling *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->out + t->used, STORY_MAX - t->used, format, args);
    va_end(args);
    if (n > 0)
        t->used += (size_t)n;
    if (t->used >= STORY_MAX)
        t->used = STORY_MAX - 1;
}

void story_time(int64_t at, int64_t now, char out[48])
{
    time_t then = (time_t)(at / 1000), today = (time_t)(now / 1000);
    struct tm a, b;

    localtime_r(&then, &a);
    localtime_r(&today, &b);
    if (a.tm_year == b.tm_year && a.tm_yday == b.tm_yday)
        strftime(out, 48, "%H:%M:%S %Z", &a);
    else if (then > today && then - today < 6 * DAY_S)
        strftime(out, 48, "%a %H:%M %Z", &a);
    else
        strftime(out, 48, "%Y-%m-%d %H:%M %Z", &a);
}

static void say_time(struct telling *t, int64_t at)
{
    char text[48];

    story_time(at, t->s->now, text);
    say(t, "%s", text);
}

/* "in 4 minutes", "now" */
static void say_in(struct telling *t, int64_t at)
{
    int64_t seconds = (at - t->s->now + 999) / 1000;

    if (seconds <= 0)
        say(t, "now");
    else if (seconds < 120)
        say(t, "in %lld seconds", (long long)seconds);
    else if (seconds < 2 * 3600)
        say(t, "in %lld minutes", (long long)(seconds / 60));
    else
        say_time(t, at);
}

static void say_ago(struct telling *t, int64_t at)
{
    int64_t seconds = (t->s->now - at) / 1000;

    if (seconds < 1)
        say(t, "just now");
    else if (seconds < 120)
        say(t, "%lld seconds ago", (long long)seconds);
    else if (seconds < 2 * 3600)
        say(t, "%lld minutes ago", (long long)(seconds / 60));
    else
        say_time(t, at);
}

static const char *plural(int64_t count)
{
    return count == 1 ? "" : "s";
}

static bool has_password(const struct story *s)
{
    return s->account->has_seal || s->domain->master_user[0];
}

static bool is_denied(const struct account *a)
{
    return strcmp(a->last_error_kind, err_kind_name(ERR_DENIED)) == 0;
}

static bool has_no_hash(const struct account *a)
{
    return !a->has_hash && strncmp(a->last_error, LIFECYCLE_NO_HASH,
                                   strlen(LIFECYCLE_NO_HASH)) == 0;
}

static int64_t left_aside(const struct account *a)
{
    return a->set_aside > a->accepted ? a->set_aside - a->accepted : 0;
}

/* --- when the job of that kind comes */

static void say_job(struct telling *t, enum job_kind kind, const char *what)
{
    const struct story_job *job = &t->s->jobs[kind];

    if (job->is_running)
        say(t, "%s runs now", what);
    else if (!job->is_there)
        say(t, "no %s is queued", what);
    else if (job->due_at <= t->s->now)
        say(t, "%s waits for its turn", what);
    else {
        say(t, "%s comes ", what);
        say_in(t, job->due_at);
    }
}

/* "; it failed: ... ; again in 4 minutes" */
static void say_failing(struct telling *t, enum job_kind kind, const char *what)
{
    say(t, "%s failed (%s); ", what, t->s->account->last_error);
    say_job(t, kind, "the next try");
}

/* --- on the old server */

static void tell_none(struct telling *t)
{
    say(t, "nothing is copied until `mailhaul migrate` or `mailhaul account "
           "resume`");
}

static void tell_initial(struct telling *t)
{
    const struct story *s = t->s;
    const struct account *a = s->account;
    bool is_running = s->jobs[JOB_INITIAL].is_running;

    if (is_running) {
        say(t, "the first copy runs: %lld of %lld messages",
            (long long)a->messages, (long long)a->messages_total);
        return;
    }
    if (s->frozen)
        say(t, "the first copy waits until %s is thawed", s->frozen);
    else if (!s->domain->is_enabled)
        say(t, "the first copy waits until %s is enabled", s->domain->name);
    else if (!has_password(s))
        say(t, "the first copy waits for a good login, since no password is "
               "known");
    else if (a->last_error[0] && !has_no_hash(a))
        say_failing(t, JOB_INITIAL, "the first copy");
    else
        say_job(t, JOB_INITIAL, "the first copy");
}

enum story_wait story_wait(const struct story *s)
{
    const struct account *a = s->account;
    bool is_asked = a->wants_flip != FLIP_WISH_NONE;

    if (!s->domain->is_enabled)
        return STORY_ENABLING;
    if (s->frozen)
        return STORY_THAW;
    if (!is_asked && (s->domain->cutover != CUTOVER_AUTO ||
                      a->rolled_back_at > a->flipped_at))
        return STORY_OPERATOR;
    if (!a->is_clean)
        return STORY_CLEAN;
    if (left_aside(a) > 0)
        return STORY_ACCEPTING;
    if (a->local_ready_at == 0)
        return STORY_LOCAL;
    if (!a->has_hash)
        return STORY_PASSWORD;
    if (s->is_black_day && a->wants_flip != FLIP_WISH_NOW)
        return STORY_BLACKOUT;
    if (!is_asked && !s->is_window_open)
        return STORY_WINDOW;
    return a->next_flip_at > s->now ? STORY_HOLD_RETRY : STORY_READY;
}

static void tell_password_wait(struct telling *t)
{
    const struct account *a = t->s->account;

    if (has_no_hash(a))
        say(t, "cannot flip: %s", a->last_error);
    else if (a->password_state == PASSWORD_NONE)
        say(t, "waits for a good login, since the new server has no password "
               "yet");
    else
        say(t, "waits for the hash of its password");
}

static void tell_hold_retry(struct telling *t)
{
    const struct account *a = t->s->account;

    if (a->hold_failures > 0)
        say(t, "its flip did not come off %u time%s; the next try comes ",
            a->hold_failures, plural(a->hold_failures));
    else
        say(t, "its flip was put off; the next try comes ");
    say_in(t, a->next_flip_at);
}

static void tell_opening(struct telling *t, const char *what)
{
    say(t, "waits for %s", what);
    if (t->s->opens_at) {
        say(t, " ");
        say_time(t, t->s->opens_at);
    }
}

static void tell_wait(struct telling *t, enum story_wait wait)
{
    const struct account *a = t->s->account;
    const struct domain *d = t->s->domain;

    switch (wait) {
    case STORY_READY: say(t, "flips with its next clean delta"); return;
    case STORY_ENABLING: say(t, "waits until %s is enabled", d->name); return;
    case STORY_THAW:
        say(t, "waits until %s is thawed", t->s->frozen);
        if (t->s->frozen_why && *t->s->frozen_why)
            say(t, " (%s)", t->s->frozen_why);
        return;
    case STORY_OPERATOR:
        if (d->cutover == CUTOVER_AUTO)
            say(t, "waits for `mailhaul cutover`, since who was taken back "
                   "flips by name only");
        else
            say(t, "waits for `mailhaul cutover`, since %s is cut over by hand",
                d->name);
        return;
    case STORY_CLEAN:
        say(t, "waits for a delta that finds both sides the same");
        return;
    case STORY_ACCEPTING:
        say(t,
            "waits for somebody to accept %lld message%s that cannot be had "
            "(`mailhaul account accept`)",
            (long long)left_aside(a), plural(left_aside(a)));
        return;
    case STORY_LOCAL:
        say(t, "waits for the new server to say that it serves the mailbox");
        return;
    case STORY_PASSWORD: tell_password_wait(t); return;
    case STORY_BLACKOUT: tell_opening(t, "the end of the blackout,"); return;
    case STORY_WINDOW: tell_opening(t, "the window that opens"); return;
    case STORY_HOLD_RETRY: tell_hold_retry(t); return;
    case STORY_WAIT_COUNT: break;
    }
}

static void tell_delta(struct telling *t)
{
    const struct story *s = t->s;
    const struct account *a = s->account;
    enum story_wait wait = story_wait(s);

    say(t, "copied; ");
    if (a->wants_flip)
        say(t, "its flip was asked for and ");
    tell_wait(t, wait);
    say(t, "; ");
    if (a->last_error[0] && !has_no_hash(a)) {
        say_failing(t, JOB_DELTA, "the last delta");
        return;
    }
    if (a->delta_at) {
        say(t, "last delta ");
        say_ago(t, a->delta_at);
        say(t, ", %s", a->is_clean ? "clean" : "not clean");
        if (!s->jobs[JOB_DELTA].is_there)
            return;
        say(t, "; ");
    }
    if (s->frozen)
        say(t, "no delta runs meanwhile");
    else
        say_job(t, JOB_DELTA, "the next delta");
}

static void tell_failed(struct telling *t)
{
    const struct account *a = t->s->account;

    if (is_denied(a))
        say(t, "the copying stopped because the old server refuses the "
               "password; the next good login sets it going");
    else
        say(t,
            "the copying stopped (%s); mend that, then `mailhaul account "
            "resume`",
            a->last_error[0] ? a->last_error : "no reason is known");
}

static void tell_legacy(struct telling *t)
{
    const struct account *a = t->s->account;

    say(t, "On the old server: ");
    if (a->rolled_back_at) {
        say(t, "taken back ");
        say_time(t, a->rolled_back_at);
        say(t, "; ");
    }
    if (a->question[0]) {
        say(t,
            "nothing is copied or flipped until somebody answers its question: "
            "%s `mailhaul account accept %s " MAILBOX_QUESTION
            "` says that it is, `mailhaul account remove` that it is not",
            a->last_error, a->address);
        return;
    }
    switch (a->copy) {
    case COPY_NONE: tell_none(t); return;
    case COPY_INITIAL: tell_initial(t); return;
    case COPY_DELTA: tell_delta(t); return;
    case COPY_FAILED: tell_failed(t); return;
    case COPY_PAUSED:
        say(t, "its copying is paused; `mailhaul account resume` goes on");
        return;
    case COPY_FINAL:
    case COPY_TRAIL:
    case COPY_DONE:
    case COPY_COUNT: break;
    }
    say(t,
        "its row says copy=%s, which does not go with that; tell the "
        "makers",
        account_copy_name(a->copy));
}

/* --- in between */

static void tell_held(struct telling *t)
{
    const struct story *s = t->s;

    if (s->account->copy != COPY_FINAL) {
        say(t,
            "Being taken back to the old server: logins and mail wait while "
            "what is new is written there, at most %u seconds",
            s->domain->hold_seconds);
        return;
    }
    say(t,
        "Being flipped: logins and mail wait %s, at most %u seconds; then the "
        "new server serves it, or the old one again",
        s->jobs[JOB_FINAL].is_there ? "while the last delta runs"
                                    : "until its sessions have ended",
        s->domain->hold_seconds);
}

/* --- on the new server */

static void tell_trail(struct telling *t)
{
    const struct story *s = t->s;
    const struct account *a = s->account;

    if (!s->jobs[JOB_TRAIL].is_there)
        say(t, "what still arrives on the old one is not fetched: no pass is "
               "queued");
    else if (is_denied(a)) {
        say(t, "the old one refuses the password, so that what still arrives "
               "there cannot be fetched; ");
        say_job(t, JOB_TRAIL, "the next try");
    } else if (a->last_error[0] && !has_no_hash(a)) {
        say_failing(t, JOB_TRAIL, "fetching what still arrived on the old one");
    } else {
        say(t, "what still arrives on the old one is fetched; ");
        say_job(t, JOB_TRAIL, "the next pass");
    }
    if (a->late_mail_at) {
        say(t, "; late mail came last ");
        say_ago(t, a->late_mail_at);
    }
}

static void tell_on_flip(struct telling *t)
{
    const struct account *a = t->s->account;

    if (a->on_flip == ON_FLIP_FAILED)
        say(t, "; the on_flip command has failed %u time%s, for good",
            a->on_flip_attempts, plural(a->on_flip_attempts));
    else if (a->on_flip == ON_FLIP_DUE && a->on_flip_attempts > 0)
        say(t, "; the on_flip command has failed %u time%s and is tried again",
            a->on_flip_attempts, plural(a->on_flip_attempts));
    else if (a->on_flip == ON_FLIP_DUE)
        say(t, "; the on_flip command is due");
}

static void tell_local(struct telling *t)
{
    const struct account *a = t->s->account;

    if (a->provisioned_epoch < a->epoch) {
        say(t, "Flipped, but the new server could not be told of it yet: "
               "logins and mail are put off until it can");
        return;
    }
    say(t, "On the new server");
    if (a->flipped_at) {
        say(t, " since ");
        say_time(t, a->flipped_at);
    }
    say(t, ": ");
    if (a->wants_rollback != ROLLBACK_NO) {
        say(t, "the way back was asked for; ");
        say_job(t, JOB_ROLLBACK, "it");
        return;
    }
    if (a->copy == COPY_TRAIL)
        tell_trail(t);
    else if (a->copy == COPY_DONE)
        say(t, "its trail has ended, nothing is fetched from the old one");
    else if (a->question[0])
        say(t,
            "nothing is fetched from the old one until somebody answers its "
            "question: %s `mailhaul account accept %s " MAILBOX_QUESTION
            "` says that it is, `mailhaul account forget-legacy` that it is "
            "not",
            a->last_error, a->address);
    else if (a->copy == COPY_PAUSED)
        say(t, "its trail is paused, and what still arrives on the old one "
               "stays there; `mailhaul account resume` goes on");
    else
        say(t,
            "its row says copy=%s, which does not go with that; tell the "
            "makers",
            account_copy_name(a->copy));
    tell_on_flip(t);
}

static void tell_locks(struct telling *t)
{
    const struct account *a = t->s->account;

    if (a->is_login_locked && a->is_submission_locked)
        say(t, " Its logins and its submission are locked.");
    else if (a->is_login_locked)
        say(t, " Its logins are locked.");
    else if (a->is_submission_locked)
        say(t, " Its submission is locked.");
}

void story_tell(const struct story *s, char out[STORY_MAX])
{
    struct telling t = {.s = s, .out = out};

    out[0] = '\0';
    switch (s->account->route) {
    case ROUTE_LEGACY: tell_legacy(&t); break;
    case ROUTE_HELD: tell_held(&t); break;
    case ROUTE_LOCAL: tell_local(&t); break;
    case ROUTE_COUNT: break;
    }
    say(&t, ".");
    tell_locks(&t);
}

bool story_is_stuck(const struct account *a)
{
    return a->last_error[0] || a->question[0] || a->copy == COPY_FAILED ||
           left_aside(a) > 0 || a->hold_failures > 0 ||
           a->on_flip == ON_FLIP_FAILED ||
           (a->route == ROUTE_LOCAL && a->provisioned_epoch < a->epoch);
}
