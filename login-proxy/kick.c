/*
 * Holds. One pass over an account's tracked entries decides everything; it runs
 * when the hold comes, every POLL_MS while sessions are not quiet yet, and when
 * something is added or removed.
 */
#include "login-proxy/kick.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define BUCKETS     4096u
#define STRANGER    (-1)
#define POLL_MS     50   /* also how long a "busy" of others is waited for */
#define END_WAIT_MS 3000 /* for legacy's EOF after our half-close */

struct hold {
    struct kick *kick;
    int64_t account_id;
    int64_t epoch;
    enum hold_side side;
    int64_t end_from_ms; /* no session is ended before */
    int64_t force_at_ms;
    int64_t end_wait_ms;
    bool wants_trail;
    bool is_told; /* quiet was said */
    struct timer *poll;
    struct hold *next;
};

struct kick {
    struct loop *loop;           /* borrowed */
    struct directory *directory; /* borrowed */
    int64_t quiet_ms;
    int64_t force_ms;
    struct tracked *bucket[BUCKETS];
    struct tracked *strangers[BUCKETS]; /* by address */
    struct hold *holds;                 /* owned; few at a time */
};

struct kick *kick_new(struct loop *loop, struct directory *directory,
                      int64_t quiet_ms, int64_t force_ms)
{
    struct kick *kick = mem_alloc(sizeof *kick);

    kick->loop = loop;
    kick->directory = directory;
    kick->quiet_ms = quiet_ms;
    kick->force_ms = force_ms;
    return kick;
}

static void hold_drop(struct hold *hold)
{
    struct hold **link = &hold->kick->holds;

    while (*link != hold)
        link = &(*link)->next;
    *link = hold->next;
    timer_free(&hold->poll);
    free(hold);
}

void kick_free(struct kick **kick)
{
    if (*kick == NULL)
        return;
    while ((*kick)->holds != NULL)
        hold_drop((*kick)->holds);
    free(*kick);
    *kick = NULL;
}

static struct tracked **bucket_of(struct kick *kick, int64_t account_id)
{
    return &kick->bucket[(uint64_t)account_id % BUCKETS];
}

static struct hold *hold_of(struct kick *kick, int64_t account_id)
{
    struct hold *hold = kick->holds;

    while (hold != NULL && hold->account_id != account_id)
        hold = hold->next;
    return hold;
}

static void end_session(struct hold *hold, struct tracked *t, bool is_forced)
{
    t->is_ending = true;
    t->end_by_ms = loop_now_ms(hold->kick->loop) + hold->end_wait_ms;
    hold->wants_trail = hold->wants_trail || is_forced;
    log_debug("hold account=%lld ends a session forced=%d",
              (long long)hold->account_id, is_forced);
    t->ops->end(t->ctx, hold->end_wait_ms);
}

/* True if it is still there afterwards. */
static bool press(struct hold *hold, struct tracked *t)
{
    int64_t now = loop_now_ms(hold->kick->loop);
    bool is_forced = now >= hold->force_at_ms;

    switch (t->kind) {
    case TRACK_LOGIN: t->ops->leave(t->ctx); return false;
    case TRACK_IMAP:
        if (!t->is_ending && now >= hold->end_from_ms &&
            (is_forced || t->ops->is_quiet(t->ctx, hold->kick->quiet_ms)))
            end_session(hold, t, is_forced);
        return true;
    case TRACK_POP3: return true;
    }
    return true;
}

static bool concerns(const struct hold *hold, const struct tracked *t)
{
    return t->account_id == hold->account_id && t->side == hold->side;
}

static bool has_pop3(struct hold *hold)
{
    struct tracked *t = *bucket_of(hold->kick, hold->account_id);

    for (; t != NULL; t = t->next) {
        if (concerns(hold, t) && t->kind == TRACK_POP3)
            return true;
    }
    return false;
}

/* Press on everybody of the account; say busy or quiet when that is known. */
static void hold_pass(void *ctx)
{
    struct hold *hold = ctx;
    struct kick *kick = hold->kick;
    struct tracked *next;
    unsigned left = 0;

    if (has_pop3(hold)) {
        directory_busy(kick->directory, hold->account_id, hold->epoch);
        hold_drop(hold);
        return;
    }
    for (struct tracked *t = *bucket_of(kick, hold->account_id); t != NULL;
         t = next) {
        next = t->next;
        if (concerns(hold, t) && press(hold, t))
            left++;
    }
    if (left > 0) {
        timer_start(hold->poll, POLL_MS);
    } else if (!hold->is_told) {
        hold->is_told = true;
        timer_cancel(hold->poll);
        directory_quiet(kick->directory, hold->account_id, hold->epoch,
                        hold->wants_trail);
    }
}

static void link_into(struct tracked **bucket, struct tracked *t,
                      int64_t account_id)
{
    t->account_id = account_id;
    t->is_ending = false;
    t->next = *bucket;
    t->link = bucket;
    if (t->next != NULL)
        t->next->link = &t->next;
    *bucket = t;
}

void kick_add(struct kick *kick, struct tracked *t, int64_t account_id,
              int64_t epoch, enum track_kind kind)
{
    struct hold *hold = hold_of(kick, account_id);

    if (account_id == 0)
        return;
    kick_remove(kick, t);
    t->kind = kind;
    link_into(bucket_of(kick, account_id), t, account_id);
    if (hold == NULL)
        return;
    /* An answer younger than the hold: its release was lost with a state
       process that died. */
    if (epoch > hold->epoch)
        hold_drop(hold);
    else
        timer_start(hold->poll, 0);
}

static struct tracked **strangers_of(struct kick *kick, const char *address)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *address != '\0'; address++)
        hash = (hash ^ (unsigned char)*address) * 1099511628211u;
    return &kick->strangers[hash % BUCKETS];
}

void kick_add_stranger(struct kick *kick, struct tracked *t,
                       const char *address, enum track_kind kind)
{
    kick_remove(kick, t);
    t->kind = kind;
    t->side = HOLD_LEGACY;
    t->address = address;
    link_into(strangers_of(kick, address), t, STRANGER);
}

void kick_adopt(struct kick *kick, int64_t account_id, const char *address)
{
    struct tracked *t = *strangers_of(kick, address);
    struct tracked *next;

    for (; t != NULL; t = next) {
        next = t->next;
        if (strcmp(t->address, address) != 0)
            continue;
        kick_remove(kick, t);
        link_into(bucket_of(kick, account_id), t, account_id);
    }
}

void kick_change(struct kick *kick, struct tracked *t, enum track_kind kind)
{
    struct hold *hold;

    t->kind = kind;
    hold = t->account_id != 0 ? hold_of(kick, t->account_id) : NULL;
    if (hold != NULL)
        timer_start(hold->poll, 0);
}

void kick_remove(struct kick *kick, struct tracked *t)
{
    struct hold *hold;

    if (t->account_id == 0)
        return;
    hold = hold_of(kick, t->account_id);
    *t->link = t->next;
    if (t->next != NULL)
        t->next->link = t->link;
    t->account_id = 0;
    if (hold == NULL)
        return;
    if (t->is_ending && loop_now_ms(kick->loop) >= t->end_by_ms)
        hold->wants_trail = true;
    timer_start(hold->poll, 0);
}

void kick_hold(struct kick *kick, const struct directory_hold *told)
{
    struct hold *hold = hold_of(kick, told->account_id);
    int64_t quiet_within_ms = told->quiet_within_ms;
    int64_t force_ms = kick->force_ms;

    if (hold != NULL)
        hold_drop(hold);
    if (force_ms > quiet_within_ms / 2)
        force_ms = quiet_within_ms / 2;
    hold = mem_alloc(sizeof *hold);
    hold->kick = kick;
    hold->account_id = told->account_id;
    hold->epoch = told->epoch;
    hold->side = told->side;
    /* where another process has a POP3 session, this hold is over at once, and
       no session shall have been ended for nothing */
    hold->end_from_ms = loop_now_ms(kick->loop) + POLL_MS;
    hold->force_at_ms = loop_now_ms(kick->loop) + force_ms;
    hold->end_wait_ms =
        quiet_within_ms / 4 < END_WAIT_MS ? quiet_within_ms / 4 : END_WAIT_MS;
    hold->poll = timer_new(kick->loop, hold_pass, hold);
    hold->next = kick->holds;
    kick->holds = hold;
    hold_pass(hold);
}

void kick_release(struct kick *kick, int64_t account_id, int64_t epoch)
{
    struct hold *hold = hold_of(kick, account_id);

    if (hold != NULL && hold->epoch <= epoch)
        hold_drop(hold);
}

static struct tracked *find_account(struct kick *kick, int64_t account_id)
{
    struct tracked *t = *bucket_of(kick, account_id);

    while (t != NULL && t->account_id != account_id)
        t = t->next;
    return t;
}

static struct tracked *find_stranger(struct kick *kick, const char *address)
{
    struct tracked *t = *strangers_of(kick, address);

    while (t != NULL && strcmp(t->address, address) != 0)
        t = t->next;
    return t;
}

void kick_out(struct kick *kick, int64_t account_id, const char *address,
              const char *reason)
{
    struct tracked *t;

    /* the end of one may be the end of another: no place in a list is kept */
    while ((account_id > 0 && (t = find_account(kick, account_id)) != NULL) ||
           (t = find_stranger(kick, address)) != NULL) {
        kick_remove(kick, t);
        if (t->kind == TRACK_LOGIN)
            t->ops->leave(t->ctx);
        else
            t->ops->cut(t->ctx, reason);
    }
}
