/*
 * The end of a domain's migration: what stands against closing it, whom legacy
 * may still take mail for, opening it again. The closing itself waits for
 * trails, so it is the state process's own (daemon/state_close.c).
 */
#include "account/command_parts.h"

#include <stdlib.h>
#include <string.h>

#include "account/lifecycle.h"
#include "account/wire.h"
#include "base/mem.h"
#include "db/closing.h"
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
    struct account_totals totals;
    struct domain d;

    json_object_set_new(result, "bars", bars);
    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        account_totals(c->db, d.id, &totals, err) == -1 ||
        command_closing_bars(c->db, &d, c->now_ms, bars, err) == -1)
        return -1;
    return json_object_update_new(
        result, json_pack("{s:s,s:s,s:I,s:I}", "name", d.name, "smtp",
                          d.smtp_url, "accounts", (json_int_t)totals.accounts,
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

struct ended {
    int64_t *ids; /* owned */
    size_t count;
    int64_t without_password;
    bool has_master;
};

static int note_ended(void *ctx, const struct account *a)
{
    struct ended *e = ctx;

    if (a->route != ROUTE_LOCAL || a->copy != COPY_DONE)
        return 0;
    if (!a->has_seal && !e->has_master) {
        e->without_password++;
        return 0;
    }
    if ((e->count & (e->count - 1)) == 0)
        e->ids =
            mem_grow(e->ids, (e->count ? e->count * 2 : 1) * sizeof(*e->ids));
    e->ids[e->count++] = a->id;
    return 0;
}

static int trail_again(struct command *c, const struct domain *d, int64_t id,
                       struct err *err)
{
    struct account_state next;
    struct account a;

    if (account_get(c->db, id, &a, err) != 1)
        return -1;
    next = (struct account_state){a.route, a.copy, a.epoch};
    if (lifecycle_apply(&next, EVENT_REOPENED, err) == -1)
        return -1;
    a.copy = next.copy;
    a.trail_ended_at = 0;
    return command_store(c, &a, err) == -1 ||
                   command_audit(c, a.id, account_event_name(EVENT_REOPENED),
                                 a.address, err) == -1
               ? -1
               : command_queue(c, &a, d, JOB_TRAIL, err);
}

int command_reopen(struct command *c, struct domain *d, json_t *result,
                   struct err *err)
{
    struct ended ended = {.has_master = d->master_user[0] != '\0'};
    int rc;

    d->closed_at = 0;
    d->is_enabled = true;
    rc = account_each(c->db, d->id, note_ended, &ended, err);
    for (size_t i = 0; rc == 0 && i < ended.count; i++)
        rc = trail_again(c, d, ended.ids[i], err);
    free(ended.ids);
    if (rc == -1)
        return -1;
    c->has_queued = true;
    return json_object_update_new(
        result,
        json_pack("{s:I,s:I}", "trails", (json_int_t)ended.count,
                  "without_password", (json_int_t)ended.without_password));
}

int command_domain_reopen(struct command *c, const json_t *args, json_t *result,
                          struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct domain d;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    if (!d.closed_at)
        return err_set(err, ERR_SETUP, "%s is not closed", d.name);
    if (command_reopen(c, &d, result, err) == -1 ||
        command_store_domain(c, &d, err) == -1 ||
        command_audit(c, 0, "domain reopen", d.name, err) == -1)
        return -1;
    return json_object_set_new(result, "name", json_string(d.name));
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
