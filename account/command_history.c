/*
 * The command `audit`: who changed what, when and why.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/username.h"
#include "account/wire.h"
#include "db/audit.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     10000

json_t *command_audit_json(const struct audit_entry *entry)
{
    return json_pack("{s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:o}", "at",
                     (json_int_t)entry->at, "actor", entry->actor, "event",
                     entry->event, "address", command_text_json(entry->address),
                     "was", command_text_json(entry->was), "became",
                     command_text_json(entry->became), "reason",
                     command_text_json(entry->reason), "detail",
                     command_text_json(entry->detail));
}

static int append_entry(void *ctx, const struct audit_entry *entry)
{
    json_array_append_new(ctx, command_audit_json(entry));
    return 0;
}

/* An address, of an account or of one that is gone; or the name of a domain. */
static int take_subject(const json_t *args, struct username *name,
                        struct audit_filter *filter, struct err *err)
{
    const char *address = wire_text(args, "address");

    filter->domain = wire_text(args, "domain");
    if (!address)
        return 0;
    if (!strchr(address, '@')) {
        filter->domain = address;
        return 0;
    }
    if (username_parse(address, strlen(address), name, err) == -1)
        return err_set(err, ERR_SETUP, "not an address: %.200s", address);
    filter->address = name->address;
    return 0;
}

int command_audit_list(struct command *c, const json_t *args, json_t *result,
                       struct err *err)
{
    int64_t limit = wire_int(args, "limit", LIMIT_DEFAULT);
    struct audit_filter filter = {.since = wire_int(args, "since", 0)};
    json_t *list = json_array();
    struct username name;

    json_object_set_new(result, "entries", list);
    if (limit < 1 || limit > LIMIT_MAX)
        return err_set(err, ERR_SETUP, "--limit: 1 to %d", LIMIT_MAX);
    filter.limit = (int)limit;
    if (take_subject(args, &name, &filter, err) == -1)
        return -1;
    return audit_each(c->db, &filter, append_entry, list, err);
}
