/*
 * The end of a domain's migration: what stands against closing it, whom legacy
 * may still take mail for, opening it again. The closing itself waits for
 * trails, so it is the state process's own (daemon/state_close.c).
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/lifecycle.h"
#include "account/wire.h"
#include "db/closing.h"
#include "db/counts.h"
#include "db/strangers.h"

#define FIRST_MAX       5    /* addresses named of each bar */
#define ADDRESSES_MAX   5000 /* of one answer */
#define STRANGERS_SHOWN 1000

static int append_text(void *ctx, const char *address)
{
    json_array_append_new(ctx, json_string(address));
    return 0;
}

int command_closing_bars(struct db *db, const struct domain *d, int64_t now,
                         json_t *bars, struct err *err)
{
    int64_t counts[CLOSING_BAR_COUNT];

    if (closing_count(db, d, now, counts, err) == -1)
        return -1;
    for (int i = 0; i < CLOSING_BAR_COUNT; i++) {
        enum closing_bar bar = (enum closing_bar)i;
        json_t *first;

        if (counts[i] == 0)
            continue;
        first = json_array();
        json_array_append_new(
            bars, json_pack("{s:s,s:I,s:o}", "bar", closing_bar_name(bar),
                            "count", (json_int_t)counts[i], "first", first));
        if (closing_each_barred(db, d, now, bar, FIRST_MAX, append_text, first,
                                err) == -1)
            return -1;
    }
    return 0;
}

int command_domain_close_check(struct command *c, const json_t *args,
                               json_t *result, struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    json_t *bars = json_array();
    int64_t accounts;
    struct domain d;

    json_object_set_new(result, "bars", bars);
    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        account_counts_sum(c->db, d.id, &accounts, err) == -1 ||
        command_closing_bars(c->db, &d, c->now_ms, bars, err) == -1)
        return -1;
    return json_object_update_new(
        result, json_pack("{s:s,s:s,s:I,s:I}", "name", d.name, "smtp",
                          d.smtp_url, "accounts", (json_int_t)accounts,
                          "closed_at", (json_int_t)d.closed_at));
}

int command_domain_close_addresses(struct command *c, const json_t *args,
                                   json_t *result, struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    const char *after = wire_text(args, "after");
    json_t *list = json_array();
    struct domain d;

    json_object_set_new(result, "addresses", list);
    return !name || command_need_domain(c, name, &d, err) == -1
               ? -1
               : closing_each_address(c->db, d.id, after ? after : "",
                                      ADDRESSES_MAX, append_text, list, err);
}

/* --- open again */

static int trail_again(struct command *c, const struct domain *d,
                       struct account *a, struct err *err)
{
    struct account_state next = {a->route, a->copy, a->epoch};

    if (lifecycle_apply(&next, EVENT_REOPENED, err) == -1)
        return -1;
    a->copy = next.copy;
    a->trail_ended_at = 0;
    return command_store(c, a, err) == -1 ||
                   command_audit(c, a->id, account_event_name(EVENT_REOPENED),
                                 a->address, err) == -1
               ? -1
               : command_queue(c, a, d, JOB_TRAIL, err);
}

/* The domain itself, before any trail goes on: while it is closed they are
   ended as they are found. */
static int open_domain(struct command *c, struct domain *d, struct err *err)
{
    if (d->closed_at == 0 && (d->reopened_from == 0 || !d->is_enabled))
        return err_set(err, ERR_SETUP, "%s is not closed", d->name);
    if (d->closed_at == 0)
        return 0; /* a page before this one has, or somebody was interrupted */
    d->reopened_from = d->closed_at;
    d->closed_at = 0;
    d->is_enabled = true;
    return command_store_domain(c, d, err) == -1
               ? -1
               : command_audit(c, 0, "domain reopen", d->name, err);
}

static int reopen_page(struct command *c, const struct domain *d,
                       const struct account_page *page, json_t *result,
                       struct err *err)
{
    json_int_t trails = 0, without_password = 0;

    for (size_t i = 0; i < page->count; i++) {
        struct account *a = &page->accounts[i];

        /* an operator has ended it before: it does not come back */
        if (a->route != ROUTE_LOCAL || a->copy != COPY_DONE ||
            a->trail_ended_at < d->reopened_from)
            continue;
        if (!a->has_seal && !d->master_user[0]) {
            without_password++;
            continue;
        }
        if (trail_again(c, d, a, err) == -1)
            return -1;
        trails++;
    }
    return json_object_update_new(
        result, json_pack("{s:s,s:I,s:I}", "name", d->name, "trails", trails,
                          "without_password", without_password));
}

int command_domain_reopen(struct command *c, const json_t *args, json_t *result,
                          struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct account_page page;
    struct domain d;
    int rc;

    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        open_domain(c, &d, err) == -1 ||
        command_page(c, args, d.id, &page, result, err) == -1)
        return -1;
    rc = reopen_page(c, &d, &page, result, err);
    command_page_release(&page);
    if (rc == 0 && json_is_null(json_object_get(result, "next"))) {
        d.reopened_from = 0; /* it is done, and not to be repeated */
        rc = command_store_domain(c, &d, err);
    }
    c->has_queued = true;
    return rc;
}

/* --- strangers */

static int append_stranger(void *ctx, const struct stranger *s)
{
    json_array_append_new(ctx,
                          json_pack("{s:s,s:I,s:I,s:I}", "address", s->address,
                                    "mails", (json_int_t)s->mails, "first_at",
                                    (json_int_t)s->first_at, "last_at",
                                    (json_int_t)s->last_at));
    return 0;
}

int command_domain_strangers(struct command *c, const json_t *args,
                             json_t *result, struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    int64_t limit = wire_int(args, "limit", STRANGERS_SHOWN);
    json_t *list = json_array();
    struct stranger_totals totals;
    struct domain d;

    json_object_set_new(result, "strangers", list);
    if (limit < 1 || limit > STRANGERS_MAX)
        return err_set(err, ERR_SETUP, "--limit: 1 to %d", STRANGERS_MAX);
    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        stranger_totals(c->db, d.id, &totals, err) == -1 ||
        stranger_each(c->db, d.id, (int)limit, append_stranger, list, err) ==
            -1)
        return -1;
    return json_object_update_new(
        result, json_pack("{s:s,s:I,s:I}", "name", d.name, "addresses",
                          (json_int_t)totals.addresses, "unlisted_mails",
                          (json_int_t)totals.unlisted_mails));
}
