/*
 * What stands between an account and its flip: items set aside, told by
 * `account show` and accepted by name.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <string.h>

#include "account/mailbox_id.h"
#include "account/wire.h"
#include "db/audit.h"
#include "db/set_aside.h"

static json_t *time_or_null(int64_t at)
{
    return at ? json_integer(at) : json_null();
}

static int append_item(void *ctx, const struct set_aside *row)
{
    json_array_append_new(
        ctx,
        json_pack("{s:o,s:o,s:I,s:o,s:o}", "item", command_text_json(row->item),
                  "reason", command_text_json(row->reason), "seen_at",
                  (json_int_t)row->seen_at, "accepted_at",
                  time_or_null(row->accepted_at), "accepted_by",
                  command_text_json(row->accepted_by)));
    return 0;
}

int command_gate_show(struct command *c, const struct account *a, json_t *json,
                      struct err *err)
{
    json_t *items = json_array();

    json_object_set_new(json, "items", items);
    json_object_set_new(json, "local_ready_at",
                        time_or_null(a->local_ready_at));
    if (a->set_aside == 0)
        return 0;
    return set_aside_each(c->db, a->id, append_item, items, err);
}

/* As many as an error has room for. */
static int append_name(void *ctx, const struct set_aside *row)
{
    struct err *err = ctx;
    size_t used = strlen(err->text);

    if (used + strlen(row->item) + 8 > sizeof(err->text)) {
        snprintf(err->text + used, sizeof(err->text) - used, " ...");
        return 1;
    }
    snprintf(err->text + used, sizeof(err->text) - used, " %s", row->item);
    return 0;
}

static int refuse_item(struct command *c, const struct account *a,
                       const char *item, struct err *err)
{
    struct err unused;

    err_set(err, ERR_SETUP, "%s: \"%.80s\" is not set aside; %s", a->address,
            item, a->set_aside == 0 ? "nothing is" : "set aside are:");
    set_aside_each(c->db, a->id, append_name, err, &unused);
    return -1;
}

static int accept_item(struct command *c, const struct account *a,
                       const char *item, struct err *err)
{
    struct audit_entry entry = {.at = c->now_ms,
                                .account_id = a->id,
                                .actor = c->actor,
                                .event = "account accept",
                                .detail = item,
                                .address = a->address,
                                .was = "set aside",
                                .became = "accepted",
                                .reason = c->reason};
    int found = set_aside_accept(c->db, a->id, item, c->actor, c->now_ms, err);

    if (found == -1)
        return -1;
    if (found == 0)
        return refuse_item(c, a, item, err);
    return audit_append(c->db, &entry, err);
}

int command_account_accept(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    const char *address = command_need_text(args, "address", err);
    const json_t *items = json_object_get(args, "items"), *item;
    struct account a;
    struct domain d;
    size_t i;

    if (!address || command_need_account(c, address, &a, err) == -1)
        return -1;
    if (domain_get(c->db, a.domain_id, &d, err) != 1)
        return err_set(err, ERR_SETUP, "%s: its domain is gone", a.address);
    if (json_array_size(items) == 0)
        return err_set(err, ERR_SETUP, "\"items\" is missing");
    json_array_foreach(items, i, item)
    {
        const char *name = json_string_value(item);

        if (!name)
            return err_set(err, ERR_SETUP, "an item is no text");
        if (strcmp(name, MAILBOX_QUESTION) == 0) {
            if (command_answer_identity(c, &a, &d, err) == -1 ||
                command_audit(c, a.id, "account accept", a.address, err) == -1)
                return -1;
            continue;
        }
        if (accept_item(c, &a, name, err) == -1)
            return -1;
    }
    if (set_aside_accepted(c->db, a.id, 0, &a.accepted, err) == -1 ||
        account_update(c->db, &a, err) == -1)
        return -1;
    /* the next pass opens the gate */
    if (a.copy == COPY_DELTA && a.accepted >= a.set_aside &&
        command_queue(c, &a, &d, JOB_DELTA, err) == -1)
        return -1;
    json_object_update_new(result, command_account_json(&a, d.name));
    return command_gate_show(c, &a, result, err);
}
