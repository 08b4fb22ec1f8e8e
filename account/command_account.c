/*
 * Commands on accounts.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/freeze.h"
#include "account/lifecycle.h"
#include "account/mailbox_id.h"
#include "account/wire.h"

static json_t *time_or_null(int64_t at)
{
    return at ? json_integer(at) : json_null();
}

json_t *command_account_json(const struct account *a, const char *domain)
{
    json_t *json =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:s}", "address", a->address,
                  "domain", domain, "legacy_user", a->legacy_user, "route",
                  account_route_name(a->route), "copy",
                  account_copy_name(a->copy), "epoch", (json_int_t)a->epoch,
                  "password_state", password_state_name(a->password_state));

    json_object_update_new(
        json, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "folders",
                        (json_int_t)a->folders, "messages",
                        (json_int_t)a->messages, "bytes", (json_int_t)a->bytes,
                        "messages_total", (json_int_t)a->messages_total,
                        "bytes_total", (json_int_t)a->bytes_total, "set_aside",
                        (json_int_t)a->set_aside));
    json_object_set_new(json, "accepted", json_integer(a->accepted));
    json_object_set_new(json, "question",
                        a->question[0] ? json_string(MAILBOX_QUESTION)
                                       : json_null());
    json_object_set_new(json, "on_flip",
                        command_text_json(on_flip_state_name(a->on_flip)));
    json_object_update_new(
        json, json_pack("{s:o,s:o,s:o}", "last_error",
                        command_text_json(a->last_error), "last_error_kind",
                        command_text_json(a->last_error_kind), "last_error_at",
                        time_or_null(a->last_error_at)));
    return json;
}

/* What only `account show` tells. */
static int add_details(struct command *c, const struct account *a, json_t *json,
                       struct err *err)
{
    json_t *jobs = json_array();

    json_object_set_new(json, "jobs", jobs);
    if (command_gate_show(c, a, json, err) == -1 ||
        command_rollback_json(c, a, json, err) == -1)
        return -1;
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++) {
        struct job job;
        int found = job_find(c->db, a->id, (enum job_kind)kind, &job, err);

        if (found == -1)
            return -1;
        if (found)
            json_array_append_new(jobs,
                                  json_pack("{s:s,s:I,s:b,s:i}", "kind",
                                            job_kind_name(job.kind), "due_at",
                                            (json_int_t)job.due_at, "running",
                                            job.lease_owner[0] != '\0',
                                            "attempts", (int)job.attempts));
    }
    if (command_add_profile(c, a, json, err) == -1)
        return -1;
    json_object_set_new(json, "mailbox_id", command_text_json(a->mailbox_id));
    json_object_update_new(
        json, json_pack("{s:i,s:o,s:o,s:o}", "on_flip_attempts",
                        (int)a->on_flip_attempts, "on_flip_at",
                        time_or_null(a->on_flip_at), "late_mail_at",
                        time_or_null(a->late_mail_at), "trail_ended_at",
                        time_or_null(a->trail_ended_at)));
    return json_object_update_new(
        json,
        json_pack(
            "{s:o,s:o,s:b,s:b,s:b,s:b,s:i,s:o,s:o,s:o,s:o}", "legacy_prefix",
            a->has_prefix ? json_string(a->legacy_prefix) : json_null(),
            "legacy_separator",
            a->has_prefix ? json_string(a->legacy_separator) : json_null(),
            "provisioned", a->provisioned_epoch >= a->epoch, "clean",
            a->is_clean, "wants_flip", a->wants_flip, "password_sealed",
            a->has_seal, "hold_failures", (int)a->hold_failures, "next_flip_at",
            time_or_null(a->next_flip_at), "created_at",
            time_or_null(a->created_at), "copied_at",
            time_or_null(a->copied_at), "flipped_at",
            time_or_null(a->flipped_at)));
}

int command_account_list(struct command *c, const json_t *args, json_t *result,
                         struct err *err)
{
    const char *name = wire_text(args, "domain");
    json_t *list = json_array();
    struct domain d = {.id = 0};
    struct account_page page;

    json_object_set_new(result, "accounts", list);
    if ((name && command_need_domain(c, name, &d, err) == -1) ||
        command_page(c, args, d.id, &page, result, err) == -1)
        return -1;
    for (size_t i = 0; i < page.count; i++) {
        const char *at = strrchr(page.accounts[i].address, '@');

        json_array_append_new(
            list, command_account_json(&page.accounts[i], at ? at + 1 : ""));
    }
    command_page_release(&page);
    return 0;
}

static int domain_of(struct command *c, const struct account *a,
                     struct domain *d, struct err *err)
{
    if (domain_get(c->db, a->domain_id, d, err) != 1)
        return err_set(err, ERR_SETUP, "%s: its domain is gone", a->address);
    return 0;
}

static int need_both(struct command *c, const json_t *args, struct account *a,
                     struct domain *d, struct err *err)
{
    const char *address = command_need_text(args, "address", err);

    if (!address || command_need_account(c, address, a, err) == -1)
        return -1;
    return domain_of(c, a, d, err);
}

int command_account_show(struct command *c, const json_t *args, json_t *result,
                         struct err *err)
{
    const char *address = command_need_text(args, "address", err);
    struct account a;
    struct domain d;

    if (!address || command_find_account(c, address, &a, err) == -1 ||
        domain_of(c, &a, &d, err) == -1)
        return -1;
    json_object_update_new(result, command_account_json(&a, d.name));
    json_object_set_new(result, "cutover",
                        json_string(domain_cutover_name(d.cutover)));
    command_brake_account(c, &d, result);
    if (command_add_sentence(c, &a, &d, result, err) == -1 ||
        command_add_timeline(c, &a, result, err) == -1)
        return -1;
    if (command_credentials_show(c, &a, result, err) == -1)
        return -1;
    return add_details(c, &a, result, err);
}

int command_account_pause(struct command *c, const json_t *args, json_t *result,
                          struct err *err)
{
    struct account a;
    struct domain d;

    if (need_both(c, args, &a, &d, err) == -1)
        return -1;
    if (a.route == ROUTE_HELD)
        return err_set(err, ERR_RETRY, "%s is just being flipped; ask again",
                       a.address);
    if (a.copy == COPY_DONE)
        return err_set(err, ERR_SETUP, "%s: its trail has ended", a.address);
    a.copy = COPY_PAUSED;
    a.wants_flip = FLIP_WISH_NONE;
    a.wants_rollback = ROLLBACK_NO;
    if (command_store(c, &a, err) == -1 ||
        command_audit(c, a.id, "account pause", a.address, err) == -1)
        return -1;
    /* but a password that was learnt stays learnt */
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++)
        if (kind != JOB_HASH && job_cancel(c->db, a.id, kind, err) == -1)
            return -1;
    command_stop(c, a.id);
    return json_object_update_new(result, command_account_json(&a, d.name));
}

/* Where a paused or failed account goes on: legal for nobody else. */
static enum account_copy copy_to_go_on(const struct account *a)
{
    if (a->route == ROUTE_LOCAL)
        return COPY_TRAIL;
    return a->copied_at ? COPY_DELTA : COPY_INITIAL;
}

static enum job_kind job_of_copy(enum account_copy copy)
{
    if (copy == COPY_TRAIL)
        return JOB_TRAIL;
    return copy == COPY_DELTA ? JOB_DELTA : JOB_INITIAL;
}

int command_set_going(struct command *c, struct account *a,
                      const struct domain *d, const char **what_out,
                      struct err *err)
{
    *what_out = "none";
    switch (a->copy) {
    case COPY_NONE:
    case COPY_FAILED:
    case COPY_PAUSED:
        *what_out = a->copy == COPY_NONE ? "start" : "resume";
        a->copy = copy_to_go_on(a);
        /* whoever goes on looks again; it may be asked again */
        a->last_error[0] = a->last_error_kind[0] = a->question[0] = '\0';
        if (command_store(c, a, err) == -1)
            return -1;
        break;
    case COPY_INITIAL:
    case COPY_DELTA:
    case COPY_TRAIL: *what_out = "refresh"; break;
    case COPY_FINAL:
    case COPY_DONE:
    case COPY_COUNT: return 0;
    }
    return command_queue(c, a, d, job_of_copy(a->copy), err);
}

int command_account_resume(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    const char *what;
    struct account a;
    struct domain d;

    if (need_both(c, args, &a, &d, err) == -1)
        return -1;
    if (a.copy != COPY_PAUSED && a.copy != COPY_FAILED && a.copy != COPY_NONE)
        return err_set(err, ERR_SETUP, "%s is not paused: copy is %s",
                       a.address, account_copy_name(a.copy));
    if (command_set_going(c, &a, &d, &what, err) == -1 ||
        command_audit(c, a.id, "account resume", a.address, err) == -1)
        return -1;
    return json_object_update_new(result, command_account_json(&a, d.name));
}

int command_account_remove(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    struct account a;
    struct domain d;

    if (need_both(c, args, &a, &d, err) == -1)
        return -1;
    /* legacy would serve him again, without what local has received */
    if (a.route != ROUTE_LEGACY)
        return err_set(err, ERR_SETUP,
                       "%s: route is %s; only an account "
                       "served by legacy can be removed",
                       a.address, account_route_name(a.route));
    if (job_cancel(c->db, a.id, -1, err) == -1)
        return -1;
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++) {
        struct job job;
        int found = job_find(c->db, a.id, (enum job_kind)kind, &job, err);

        if (found == -1)
            return -1;
        if (found)
            return err_set(err, ERR_RETRY,
                           "%s: a %s job runs; pause the "
                           "account first, then ask again",
                           a.address, job_kind_name(job.kind));
    }
    if (c->provision && provision_remove(c->provision, a.address, err) == -1)
        return -1;
    if (account_delete(c->db, a.id, err) == -1)
        return -1;
    account_difference(&a, NULL, c->difference);
    if (command_audit(c, a.id, "account remove", a.address, err) == -1)
        return -1;
    return json_object_set_new(result, "removed", json_string(a.address));
}

static void tell_cutover(json_t *list, const struct account *a,
                         const char *what)
{
    json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "address",
                                          a->address, "cutover", what, "route",
                                          account_route_name(a->route)));
}

struct cutover {
    struct command *c;
    enum flip_wish wish;
    json_t *list; /* borrowed */
};

/* He shall stay: a way back that was asked for, and is not in its hold yet, is
   asked for no more. */
static int stay(struct command *c, struct account *a, struct err *err)
{
    if (a->wants_rollback == ROLLBACK_NO)
        return 0;
    a->wants_rollback = ROLLBACK_NO;
    command_stop(c, a->id);
    if (command_store(c, a, err) == -1 ||
        job_cancel(c->db, a->id, JOB_ROLLBACK, err) == -1)
        return -1;
    return command_audit(c, a->id, "cutover", a->address, err);
}

static int cut_over(const struct cutover *cutover, struct account *a,
                    const struct domain *d, struct err *err)
{
    struct command *c = cutover->c;
    const char *what = "asked";
    int refused = command_is_refused(c, a, err);

    if (refused == -1)
        return -1;
    if (refused) {
        tell_cutover(cutover->list, a, "refused");
        return 0;
    }
    if (a->route == ROUTE_LOCAL && stay(c, a, err) == -1)
        return -1;
    if (a->route == ROUTE_LOCAL)
        what = "local";
    else if (a->copy == COPY_FAILED || a->copy == COPY_PAUSED ||
             a->copy == COPY_NONE)
        what = account_copy_name(a->copy);
    else if (!a->has_hash && strncmp(a->last_error, LIFECYCLE_NO_HASH,
                                     strlen(LIFECYCLE_NO_HASH)) == 0)
        what = "no_hash";
    else if (a->accepted < a->set_aside)
        what = "set_aside";
    if (strcmp(what, "asked") == 0) {
        a->wants_flip = cutover->wish;
        a->next_flip_at = 0;
        a->hold_failures = 0;
        if (command_store(c, a, err) == -1 ||
            command_audit(c, a->id, "cutover", a->address, err) == -1)
            return -1;
        if (a->copy == COPY_DELTA &&
            command_queue(c, a, d, JOB_DELTA, err) == -1)
            return -1;
    }
    tell_cutover(cutover->list, a, what);
    return 0;
}

/* A freeze is for operators too, and so are the days of the blackout unless
   they say --now; the window is for what happens by itself. */
static int refuse_cutover(const struct cutover *cutover, const struct domain *d,
                          struct err *err)
{
    if (freeze_refuse(cutover->c->db, d, err) == -1)
        return -1;
    return cutover->wish == FLIP_WISH_NOW
               ? 0
               : command_refuse_blackout(cutover->c, d, err);
}

int command_cutover(struct command *c, const json_t *args, json_t *result,
                    struct err *err)
{
    const char *name = wire_text(args, "domain");
    struct account_page page;
    struct cutover cutover = {
        c, wire_bool(args, "now") ? FLIP_WISH_NOW : FLIP_WISH_ASKED,
        json_array()};
    struct domain d;
    struct account a;
    int rc = 0;

    json_object_set_new(result, "accounts", cutover.list);
    if (!name) {
        if (need_both(c, args, &a, &d, err) == -1 ||
            refuse_cutover(&cutover, &d, err) == -1)
            return -1;
        return cut_over(&cutover, &a, &d, err);
    }
    if (command_need_domain(c, name, &d, err) == -1 ||
        refuse_cutover(&cutover, &d, err) == -1 ||
        command_page(c, args, d.id, &page, result, err) == -1)
        return -1;
    for (size_t i = 0; rc == 0 && i < page.count; i++)
        rc = cut_over(&cutover, &page.accounts[i], &d, err);
    command_page_release(&page);
    return rc;
}
