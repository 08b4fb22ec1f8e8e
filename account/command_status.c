/*
 * The command `status`: totals, what moves now, what is stuck and why.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/story.h"
#include "account/wire.h"
#include "db/refused.h"

#define STATUS_LIST_MAX 200 /* accounts named one by one */

struct overview {
    json_t *moving, *stuck;
};

static int look_at(void *ctx, const struct account *a)
{
    struct overview *o = ctx;
    const char *at = strrchr(a->address, '@');
    bool is_stuck = story_is_stuck(a);
    bool is_moving = a->copy == COPY_INITIAL || a->copy == COPY_DELTA ||
                     a->copy == COPY_FINAL;
    json_t *list = is_stuck ? o->stuck : is_moving ? o->moving : NULL;

    if (list && json_array_size(list) < STATUS_LIST_MAX)
        json_array_append_new(list, command_account_json(a, at ? at + 1 : ""));
    return 0;
}

/* What is stuck and why, in the words of `account show`. Apart from the walk,
   since it asks of other tables. */
static int tell_stuck(struct command *c, json_t *stuck, struct err *err)
{
    json_t *entry;
    size_t i;

    json_array_foreach(stuck, i, entry)
    {
        struct account a;
        struct domain d;

        if (account_find(c->db, wire_text(entry, "address"), &a, err) != 1 ||
            domain_get(c->db, a.domain_id, &d, err) != 1)
            continue;
        if (command_add_sentence(c, &a, &d, entry, err) == -1)
            return -1;
    }
    return 0;
}

static json_t *totals_json(const struct account_totals *t)
{
    json_t *routes = json_object(), *copies = json_object();

    for (int i = 0; i < ROUTE_COUNT; i++)
        json_object_set_new(routes, account_route_name((enum account_route)i),
                            json_integer(t->by_route[i]));
    for (int i = 0; i < COPY_COUNT; i++)
        json_object_set_new(copies, account_copy_name((enum account_copy)i),
                            json_integer(t->by_copy[i]));
    return json_pack(
        "{s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I}", "accounts",
        (json_int_t)t->accounts, "route", routes, "copy", copies, "messages",
        (json_int_t)t->messages, "bytes", (json_int_t)t->bytes,
        "messages_total", (json_int_t)t->messages_total, "bytes_total",
        (json_int_t)t->bytes_total, "set_aside", (json_int_t)t->set_aside,
        "failing", (json_int_t)t->failing);
}

int command_status(struct command *c, const json_t *args, json_t *result,
                   struct err *err)
{
    const char *name = wire_text(args, "domain");
    struct overview o = {json_array(), json_array()};
    struct account_totals totals;
    struct domain d = {.id = 0};
    int64_t queued, leased, refused;

    json_object_set_new(result, "moving", o.moving);
    json_object_set_new(result, "stuck", o.stuck);
    json_object_set_new(result, "at", json_integer(c->now_ms));
    if (name && command_need_domain(c, name, &d, err) == -1)
        return -1;
    if (account_totals(c->db, d.id, &totals, err) == -1 ||
        job_count(c->db, &queued, &leased, err) == -1 ||
        refused_count(c->db, &refused, err) == -1 ||
        account_each(c->db, d.id, look_at, &o, err) == -1 ||
        tell_stuck(c, o.stuck, err) == -1)
        return -1;
    if (command_brake_status(c, name ? &d : NULL, result, err) == -1)
        return -1;
    json_object_set_new(result, "totals", totals_json(&totals));
    /* the store knows of their move, this db does not: `db rebuild` */
    json_object_set_new(result, "refused", json_integer(refused));
    return json_object_set_new(result, "jobs",
                               json_pack("{s:I,s:I}", "queued",
                                         (json_int_t)queued, "running",
                                         (json_int_t)leased));
}
