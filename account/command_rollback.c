/*
 * The command `rollback`: ask for the way back of accounts that local serves.
 * Everything that would make it impossible is said here, before anything
 * begins.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/lifecycle.h"
#include "account/wire.h"
#include "db/leftovers.h"

#define DAY_MS (24 * 60 * 60 * 1000LL)

/* What stands between an account and its way back. */
enum refusal {
    GOES,
    IS_LEGACY,
    IS_HELD,
    IS_LATE,
    IS_WITHOUT_SECRET,
    IS_ASKED,
    IS_CLOSED,
    IS_REFUSED
};

static const char *const words[] = {"asked",   "legacy",      "held",
                                    "expired", "no_password", "question",
                                    "closed",  "refused"};

static enum refusal refusal_of(const struct command *c, const struct account *a,
                               const struct domain *d)
{
    if (a->route == ROUTE_LEGACY)
        return IS_LEGACY;
    if (a->route == ROUTE_HELD)
        return lifecycle_is_way_back(a->copy) ? GOES : IS_HELD;
    if (a->question[0])
        return IS_ASKED;
    /* legacy takes no mail for him any more: it would bounce */
    if (d->closed_at != 0)
        return IS_CLOSED;
    if (a->flipped_at + d->rollback_days * DAY_MS <= c->now_ms)
        return IS_LATE;
    return a->has_seal || d->master_user[0] ? GOES : IS_WITHOUT_SECRET;
}

static int refuse(enum refusal refusal, const struct account *a,
                  const struct domain *d, struct err *err)
{
    switch (refusal) {
    case IS_LEGACY:
        return err_set(err, ERR_SETUP, "%s: the old server serves it already",
                       a->address);
    case IS_HELD:
        return err_set(err, ERR_RETRY, "%s is just being flipped; ask again",
                       a->address);
    case IS_LATE:
        return err_set(err, ERR_SETUP,
                       "%s: it was flipped more than %u days ago (the "
                       "domain's rollback_days)",
                       a->address, d->rollback_days);
    case IS_WITHOUT_SECRET:
        return err_set(err, ERR_SETUP,
                       "%s: its password on the old server is not kept any "
                       "more, and the domain has no master user",
                       a->address);
    case IS_ASKED:
        return err_set(err, ERR_SETUP,
                       "%s: the mailbox on the old server may be somebody "
                       "else's; answer that first",
                       a->address);
    case IS_CLOSED:
        return err_set(err, ERR_SETUP,
                       "%s: %s is closed, the old server takes no mail for "
                       "it; `mailhaul domain reopen` first",
                       a->address, d->name);
    case IS_REFUSED: /* by command_need_account() */
    case GOES: break;
    }
    return 0;
}

static int ask(struct command *c, struct account *a, const struct domain *d,
               enum rollback_wish wish, struct err *err)
{
    a->wants_rollback = wish;
    a->wants_flip = false;
    a->hold_failures = 0;
    if (command_store(c, a, err) == -1 ||
        command_audit(c, a->id, "rollback", a->address, err) == -1)
        return -1;
    return a->route == ROUTE_HELD ? 0
                                  : command_queue(c, a, d, JOB_ROLLBACK, err);
}

static void tell(json_t *list, const struct account *a, enum refusal refusal)
{
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:s}", "address", a->address, "rollback",
                        words[refusal], "route", account_route_name(a->route)));
}

static int ask_domain(struct command *c, const json_t *args,
                      enum rollback_wish wish, json_t *result, struct err *err)
{
    json_t *list = json_object_get(result, "accounts");
    struct account_page page;
    struct domain d;
    int rc = 0;

    if (command_need_domain(c, wire_text(args, "domain"), &d, err) == -1 ||
        command_page(c, args, d.id, &page, result, err) == -1)
        return -1;
    for (size_t i = 0; rc != -1 && i < page.count; i++) {
        struct account *a = &page.accounts[i];
        enum refusal refusal = refusal_of(c, a, &d);

        rc = command_is_refused(c, a, err);
        if (rc == 1)
            refusal = IS_REFUSED;
        if (rc == 0 && refusal == GOES)
            rc = ask(c, a, &d, wish, err);
        tell(list, a, refusal);
    }
    command_page_release(&page);
    return rc == -1 ? -1 : 0;
}

int command_rollback(struct command *c, const json_t *args, json_t *result,
                     struct err *err)
{
    enum rollback_wish wish =
        wire_bool(args, "changes") ? ROLLBACK_CHANGES : ROLLBACK_NEW_MAIL;
    json_t *list = json_array();
    const char *address;
    enum refusal refusal;
    struct account a;
    struct domain d;

    json_object_set_new(result, "accounts", list);
    if (wire_text(args, "domain"))
        return ask_domain(c, args, wish, result, err);
    address = command_need_text(args, "address", err);
    if (!address || command_need_account(c, address, &a, err) == -1)
        return -1;
    if (domain_get(c->db, a.domain_id, &d, err) != 1)
        return err_set(err, ERR_SETUP, "%s: its domain is gone", a.address);
    refusal = refusal_of(c, &a, &d);
    if (refuse(refusal, &a, &d, err) == -1 || ask(c, &a, &d, wish, err) == -1)
        return -1;
    tell(list, &a, refusal);
    return 0;
}

static int append_line(void *ctx, const char *line)
{
    json_array_append_new(ctx, command_text_json(line));
    return 0;
}

int command_rollback_json(struct command *c, const struct account *a,
                          json_t *json, struct err *err)
{
    static const char *const wishes[] = {"no", "new_mail", "changes"};
    json_t *lines = json_array();

    json_object_set_new(json, "rollback",
                        json_string(wishes[a->wants_rollback]));
    json_object_set_new(json, "rolled_back_at",
                        a->rolled_back_at ? json_integer(a->rolled_back_at)
                                          : json_null());
    json_object_set_new(json, "left_behind", lines);
    return leftovers_each(c->db, a->id, append_line, lines, err);
}
