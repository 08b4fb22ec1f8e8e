/*
 * Who an account is on legacy: the answer to the question whether its address
 * was given to somebody else, the end of a trail that would bring another's
 * mail, and another name of the same mailbox.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <string.h>

#include "account/mailbox_id.h"
#include "account/username.h"
#include "account/wire.h"
#include "db/closing.h"
#include "db/credentials.h"
#include "db/names.h"

int command_answer_identity(struct command *c, struct account *a,
                            const struct domain *d, struct err *err)
{
    size_t word = strlen(MAILBOX_QUESTION);
    const char *what;

    if (strncmp(a->question, MAILBOX_QUESTION, word) != 0)
        return err_set(err, ERR_SETUP, "%s: nothing is asked about it",
                       a->address);
    /* the mailbox that was met, and no other: if a third one comes, that is
       asked about again */
    snprintf(a->mailbox_id, sizeof(a->mailbox_id), "%s",
             a->question + word + (a->question[word] == ' '));
    return command_set_going(c, a, d, &what, err);
}

static int need_account(struct command *c, const json_t *args,
                        struct account *a, struct domain *d, struct err *err)
{
    const char *address = command_need_text(args, "address", err);

    if (!address || command_need_account(c, address, a, err) == -1)
        return -1;
    if (domain_get(c->db, a->domain_id, d, err) != 1)
        return err_set(err, ERR_SETUP, "%s: its domain is gone", a->address);
    return 0;
}

static int wipe_secrets(struct command *c, struct account *a, struct err *err)
{
    a->has_seal = false;
    if (account_seal_set(c->db, a->id, NULL, err) == -1)
        return -1;
    return credential_seals_wipe(c->db, a->id, err);
}

int command_account_forget_legacy(struct command *c, const json_t *args,
                                  json_t *result, struct err *err)
{
    struct account_state state;
    struct account a;
    struct domain d;

    if (need_account(c, args, &a, &d, err) == -1)
        return -1;
    if (a.route == ROUTE_LEGACY)
        return err_set(err, ERR_SETUP,
                       "%s: the old server serves it; `mailhaul account "
                       "remove` forgets it",
                       a.address);
    if (d.closed_at)
        return err_set(err, ERR_SETUP,
                       "%s: %s is closed, no trail goes on in it", a.address,
                       d.name);
    state = (struct account_state){a.route, a.copy, a.epoch};
    if (lifecycle_apply(&state, EVENT_TRAIL_ENDED, err) == -1)
        return err_set(err, a.route == ROUTE_HELD ? ERR_RETRY : ERR_SETUP,
                       "%s: route=%s copy=%s, there is no trail to end",
                       a.address, account_route_name(a.route),
                       account_copy_name(a.copy));
    a.copy = state.copy;
    a.trail_ended_at = c->now_ms;
    a.wants_rollback = ROLLBACK_NO;
    a.question[0] = a.last_error[0] = a.last_error_kind[0] = '\0';
    if (wipe_secrets(c, &a, err) == -1 || command_store(c, &a, err) == -1 ||
        command_audit(c, a.id, "account forget-legacy", a.address, err) == -1)
        return -1;
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++)
        if (kind != JOB_HASH && job_cancel(c->db, a.id, kind, err) == -1)
            return -1;
    command_stop(c, a.id);
    return json_object_update_new(result, command_account_json(&a, d.name));
}

/* --- another name */

struct renaming {
    struct account *a;
    struct username name; /* the new one */
    struct domain domain; /* of the new one */
    char was[ADDRESS_MAX];
};

static int check_target(struct command *c, const struct renaming *r,
                        struct err *err)
{
    struct account other;
    int found;

    if (r->a->route != ROUTE_LEGACY || r->a->flipped_at != 0)
        return err_set(err, ERR_SETUP,
                       "%s: its mailbox is on the new server under this "
                       "address; `mailhaul name add %s %s` lets him log in by "
                       "the new one",
                       r->was, r->name.address, r->was);
    if ((found = account_find(c->db, r->name.address, &other, err)) == -1)
        return -1;
    if (found)
        return err_set(err, ERR_SETUP, "%s is an account already",
                       other.address);
    if (command_refuse_name(c, r->name.address, err) == -1)
        return -1;
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++) {
        struct job job;

        if ((found = job_find(c->db, r->a->id, kind, &job, err)) == -1)
            return -1;
        if (found && job.lease_owner[0])
            return err_set(err, ERR_RETRY,
                           "%s: a %s job runs; pause the account first, then "
                           "ask again",
                           r->was, job_kind_name(job.kind));
    }
    return 0;
}

/* The store's path, the ledger and the seals are of the old address: all of
   them are made anew. Clients see nothing of that, since legacy serves them. */
static int move_row(struct command *c, struct renaming *r, struct err *err)
{
    struct account *a = r->a;

    if (job_cancel(c->db, a->id, -1, err) == -1 ||
        (c->provision && provision_remove(c->provision, r->was, err) == -1) ||
        credential_remove_others(c->db, a->id, 0, err) == -1 ||
        wipe_secrets(c, a, err) == -1 ||
        account_hash_set(c->db, a->id, "", err) == -1 ||
        account_rename(c->db, a->id, r->name.address, r->domain.id, err) ==
            -1 ||
        name_move(c->db, r->was, r->name.address, err) == -1)
        return -1;
    memcpy(a->address, r->name.address, sizeof(a->address));
    a->domain_id = r->domain.id;
    a->copy = r->domain.master_user[0] ? COPY_INITIAL : COPY_NONE;
    a->password_state = PASSWORD_NONE;
    a->has_hash = a->is_clean = false;
    a->folders = a->messages = a->bytes = a->messages_total = 0;
    a->bytes_total = a->set_aside = a->accepted = a->copied_at = 0;
    a->delta_at = a->local_ready_at = a->provisioned_epoch = 0;
    a->question[0] = a->mailbox_id[0] = '\0';
    a->last_error[0] = a->last_error_kind[0] = '\0';
    return 0;
}

/* What legacy calls him now: what was said, or what the domain makes of the new
   address. */
static int take_legacy_user(struct renaming *r, const char *user,
                            struct err *err)
{
    struct account *a = r->a;

    if (!user)
        return username_fill(r->domain.username_template, &r->name,
                             a->legacy_user, sizeof(a->legacy_user), err);
    if (!*user || strlen(user) >= sizeof(a->legacy_user))
        return err_set(err, ERR_SETUP, "legacy_user: empty or too long");
    for (const char *p = user; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, ERR_SETUP, "legacy_user: a control character");
    memcpy(a->legacy_user, user, strlen(user) + 1);
    return 0;
}

static int finish(struct command *c, const struct renaming *r, json_t *result,
                  struct err *err)
{
    const char *what;

    if (command_store(c, r->a, err) == -1 ||
        command_audit(c, r->a->id, "account rename", r->was, err) == -1)
        return -1;
    /* under the new name what a refused one has stopped may go on */
    if ((r->a->copy == COPY_INITIAL || r->a->copy == COPY_TRAIL) &&
        command_set_going(c, r->a, &r->domain, &what, err) == -1)
        return -1;
    json_object_set_new(result, "was", json_string(r->was));
    return json_object_update_new(result,
                                  command_account_json(r->a, r->domain.name));
}

int command_account_rename(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    const char *to = command_need_text(args, "to", err);
    struct account a;
    struct renaming r = {.a = &a};
    struct domain was;

    if (!to || need_account(c, args, &a, &was, err) == -1)
        return -1;
    memcpy(r.was, a.address, sizeof(r.was));
    if (username_parse(to, strlen(to), &r.name, err) == -1 || !r.name.domain[0])
        return err_set(err, ERR_SETUP, "not an address: %.200s", to);
    if (command_need_domain(c, r.name.domain, &r.domain, err) == -1)
        return -1;
    if (strcmp(r.name.address, r.was) == 0) {
        if (!wire_text(args, "legacy_user"))
            return err_set(err, ERR_SETUP, "%s is its address already", r.was);
    } else if (check_target(c, &r, err) == -1 || move_row(c, &r, err) == -1) {
        return -1;
    }
    if (take_legacy_user(&r, wire_text(args, "legacy_user"), err) == -1)
        return -1;
    return finish(c, &r, result, err);
}
