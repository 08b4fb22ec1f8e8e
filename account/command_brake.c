/*
 * The commands of the brake: freeze, thaw, who is taken in, and what `domain`
 * and `account show` tell of it.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/admission.h"
#include "account/freeze.h"
#include "account/username.h"
#include "account/window.h"
#include "account/wire.h"
#include "base/mem.h"
#include "db/admitted.h"
#include "db/freezes.h"

/* --- freeze, thaw */

/* What --domain or --host names; neither: everything. */
static int take_subject(struct command *c, const json_t *args,
                        struct freeze *out, struct err *err)
{
    const char *domain = wire_text(args, "domain");
    const char *host = wire_text(args, "host");
    struct domain d;

    out->kind = FREEZE_ALL;
    if (domain && host)
        return err_set(err, ERR_SETUP, "--domain or --host, not both");
    if (domain) {
        if (command_need_domain(c, domain, &d, err) == -1)
            return -1;
        out->kind = FREEZE_DOMAIN;
        memcpy(out->name, d.name, sizeof(out->name));
    } else if (host) {
        if (!*host || strlen(host) >= sizeof(out->name))
            return err_set(err, ERR_SETUP, "not a host: %.255s", host);
        out->kind = FREEZE_HOST;
        for (size_t i = 0; host[i]; i++)
            out->name[i] = host[i] >= 'A' && host[i] <= 'Z'
                               ? (char)(host[i] | 0x20)
                               : host[i];
    }
    return 0;
}

static const char *subject_text(const struct freeze *f)
{
    return f->kind == FREEZE_ALL ? "everything" : f->name;
}

struct count_covered {
    const struct freeze *freeze;
    int64_t count;
};

static int count_covered(void *ctx, const struct domain *d)
{
    struct count_covered *covered = ctx;

    covered->count += freeze_covers(covered->freeze, d);
    return 0;
}

/* The freezes that are left, and domains that are frozen. */
static int tell_freezes(struct command *c, json_t *result, struct err *err)
{
    json_t *list = freeze_list_json(c->db, NULL, err);

    return list ? json_object_set_new(result, "freezes", list) : -1;
}

int command_freeze(struct command *c, const json_t *args, json_t *result,
                   struct err *err)
{
    struct freeze f = {.since = c->now_ms};
    struct count_covered covered = {.freeze = &f};
    int rc;

    if (take_subject(c, args, &f, err) == -1 ||
        domain_each(c->db, count_covered, &covered, err) == -1)
        return -1;
    if (f.kind == FREEZE_HOST && covered.count == 0)
        return err_set(err, ERR_SETUP, "no domain has its old servers on %s",
                       f.name);
    snprintf(f.actor, sizeof(f.actor), "%s", c->actor);
    snprintf(f.reason, sizeof(f.reason), "%s", c->reason);
    rc = freeze_put(c->db, &f, err);
    if (rc == -1 || freeze_refresh(c->db, err) == -1 ||
        (rc == 1 && command_audit(c, 0, "freeze", subject_text(&f), err) == -1))
        return -1;
    c->has_freezes = true;
    json_object_set_new(result, "frozen", json_string(subject_text(&f)));
    json_object_set_new(result, "is_new", json_boolean(rc == 1));
    json_object_set_new(result, "domains", json_integer(covered.count));
    return tell_freezes(c, result, err);
}

struct thawing {
    struct freeze *freezes; /* owned */
    size_t count;
};

static int collect_freeze(void *ctx, const struct freeze *f)
{
    struct thawing *t = ctx;

    t->freezes = mem_grow(t->freezes, (t->count + 1) * sizeof(*t->freezes));
    t->freezes[t->count++] = *f;
    return 0;
}

static int end_freeze(struct command *c, const struct freeze *f, json_t *list,
                      struct err *err)
{
    if (freeze_remove(c->db, f->kind, f->name, err) == -1 ||
        command_audit(c, 0, "thaw", subject_text(f), err) == -1)
        return -1;
    return json_array_append_new(list, json_string(subject_text(f)));
}

/* Without --domain or --host: all of them, of whatever kind. */
static int end_all(struct command *c, json_t *list, struct err *err)
{
    struct thawing t = {NULL, 0};
    int rc = freeze_each(c->db, collect_freeze, &t, err);

    for (size_t i = 0; rc == 0 && i < t.count; i++)
        rc = end_freeze(c, &t.freezes[i], list, err);
    free(t.freezes);
    if (rc == 0 && t.count == 0)
        return err_set(err, ERR_SETUP, "nothing is frozen");
    return rc;
}

static int end_one(struct command *c, const struct freeze *f, json_t *list,
                   struct err *err)
{
    struct thawing t = {NULL, 0};
    bool is_there = false;
    int rc = freeze_each(c->db, collect_freeze, &t, err);

    for (size_t i = 0; rc == 0 && i < t.count; i++)
        if (t.freezes[i].kind == f->kind &&
            strcmp(t.freezes[i].name, f->name) == 0) {
            is_there = true;
            rc = end_freeze(c, f, list, err);
        }
    free(t.freezes);
    if (rc == 0 && !is_there)
        return err_set(err, ERR_SETUP,
                       "there is no freeze of %s %s itself; `mailhaul status` "
                       "lists those that are",
                       freeze_kind_name(f->kind), f->name);
    return rc;
}

int command_thaw(struct command *c, const json_t *args, json_t *result,
                 struct err *err)
{
    struct freeze f = {.since = 0};
    json_t *list = json_array();

    json_object_set_new(result, "thawed", list);
    if (take_subject(c, args, &f, err) == -1)
        return -1;
    if ((f.kind == FREEZE_ALL ? end_all(c, list, err)
                              : end_one(c, &f, list, err)) == -1 ||
        freeze_refresh(c->db, err) == -1)
        return -1;
    c->has_freezes = true;
    return tell_freezes(c, result, err);
}

/* --- who is taken in */

static int canonical_of(const struct domain *d, const json_t *entry,
                        struct username *out, struct err *err)
{
    const char *text = json_string_value(entry);

    if (!text || username_parse(text, strlen(text), out, err) == -1 ||
        !out->domain[0])
        return err_set(err, ERR_SETUP, "not an address: %.200s",
                       text ? text : "?");
    if (strcmp(out->domain, d->name) != 0)
        return err_set(err, ERR_SETUP, "%s is not in %s", out->address,
                       d->name);
    return 0;
}

static int append_text(void *ctx, const char *address)
{
    return json_array_append_new(ctx, json_string(address));
}

static int tell_admitted(struct command *c, const struct domain *d,
                         int64_t changed, json_t *result, struct err *err)
{
    json_t *list = json_array();

    json_object_set_new(result, "name", json_string(d->name));
    json_object_set_new(result, "changed", json_integer(changed));
    json_object_set_new(result, "admitted", list);
    return admitted_each(c->db, d->id, append_text, list, err);
}

static int change_admitted(struct command *c, const json_t *args, bool is_in,
                           json_t *result, struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    const json_t *list = json_object_get(args, "addresses"), *entry;
    const char *event = is_in ? "domain admit" : "domain unadmit";
    struct username user;
    struct domain d;
    int64_t changed = 0;
    size_t i;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    json_array_foreach(list, i, entry)
    {
        int rc;

        if (canonical_of(&d, entry, &user, err) == -1)
            return -1;
        rc = is_in ? admitted_add(c->db, d.id, user.address, err)
                   : admitted_remove(c->db, d.id, user.address, err);
        if (rc == -1 ||
            (rc == 1 && command_audit(c, 0, event, user.address, err) == -1))
            return -1;
        changed += rc;
    }
    return tell_admitted(c, &d, changed, result, err);
}

int command_domain_admit(struct command *c, const json_t *args, json_t *result,
                         struct err *err)
{
    return change_admitted(c, args, true, result, err);
}

int command_domain_unadmit(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    return change_admitted(c, args, false, result, err);
}

/* --- options of a domain */

static int take_admit(const json_t *args, struct domain *d, struct err *err)
{
    const char *share = wire_text(args, "admit");
    const char *rate = wire_text(args, "admit_rate");

    if (share) {
        d->is_admit_listed = strcmp(share, "list") == 0;
        if (!d->is_admit_listed &&
            admission_parse_share(share, &d->admit_share, err) == -1)
            return err_prefix(err, "--admit");
    }
    if (rate && admission_parse_rate(rate, &d->admit_rate, err) == -1)
        return err_prefix(err, "--admit-rate");
    return 0;
}

/* "auto", "manual", or the windows of an automatic one. */
static int take_cutover(const json_t *args, struct domain *d, struct err *err)
{
    const char *cutover = wire_text(args, "cutover");
    int value = domain_cutover_named(cutover);
    struct window window;

    if (!cutover)
        return 0;
    if (value != -1) {
        d->cutover = (enum domain_cutover)value;
        d->cutover_window[0] = '\0';
        return 0;
    }
    if (window_parse(cutover, "", &window, err) == -1 || window.span_count == 0)
        return err_prefix(err, "--cutover: auto, manual or windows");
    if (strlen(cutover) >= sizeof(d->cutover_window))
        return err_set(err, ERR_SETUP, "--cutover: too long");
    d->cutover = CUTOVER_AUTO;
    memcpy(d->cutover_window, cutover, strlen(cutover) + 1);
    return 0;
}

int command_brake_options(const json_t *args, struct domain *d, struct err *err)
{
    const char *blackout = wire_text(args, "blackout");
    struct window window;

    if (take_admit(args, d, err) == -1 || take_cutover(args, d, err) == -1)
        return -1;
    if (!blackout)
        return 0;
    if (window_parse("", blackout, &window, err) == -1)
        return err_prefix(err, "--blackout");
    if (strlen(blackout) >= sizeof(d->blackout))
        return err_set(err, ERR_SETUP, "--blackout: too long");
    memcpy(d->blackout, blackout, strlen(blackout) + 1);
    return 0;
}

/* --- what is told */

void command_brake_domain(const struct domain *d, json_t *json)
{
    char share[16];

    json_object_update_new(
        json,
        json_pack(
            "{s:b,s:s,s:o,s:o,s:o}", "frozen", d->is_frozen, "admit",
            d->is_admit_listed
                ? "list"
                : admission_share_text(d->admit_share, share, sizeof(share)),
            "admit_rate",
            d->admit_rate ? json_integer(d->admit_rate) : json_null(),
            "cutover_window", command_text_json(d->cutover_window), "blackout",
            command_text_json(d->blackout)));
}

/* When mailboxes of the domain may flip by themselves next, if not now. */
static json_t *opens_json(const struct domain *d, int64_t now_ms,
                          bool *is_open_out)
{
    struct window window;
    struct err err;
    int64_t next;

    *is_open_out = false;
    if (d->cutover != CUTOVER_AUTO ||
        window_parse(d->cutover_window, d->blackout, &window, &err) == -1)
        return json_null();
    next = window_next_ms(&window, now_ms);
    *is_open_out = next == now_ms;
    return next == now_ms || next == 0 ? json_null() : json_integer(next);
}

static void tell_window(const struct domain *d, int64_t now_ms, json_t *json)
{
    bool is_open;
    json_t *opens = opens_json(d, now_ms, &is_open);

    json_object_set_new(json, "window_open", json_boolean(is_open));
    json_object_set_new(json, "opens_at", opens);
}

int command_brake_show(struct command *c, const struct domain *d, json_t *json,
                       struct err *err)
{
    json_t *list = freeze_list_json(c->db, d, err);
    int64_t count;

    if (!list)
        return -1;
    json_object_set_new(json, "freezes", list);
    if (admitted_count(c->db, d->id, &count, err) == -1)
        return -1;
    json_object_set_new(json, "admitted", json_integer(count));
    tell_window(d, c->now_ms, json);
    return 0;
}

void command_brake_account(struct command *c, const struct domain *d,
                           json_t *json)
{
    json_object_set_new(json, "frozen", json_boolean(d->is_frozen));
    tell_window(d, c->now_ms, json);
}

int command_brake_status(struct command *c, const struct domain *d,
                         json_t *json, struct err *err)
{
    json_t *list = freeze_list_json(c->db, d, err);

    return list ? json_object_set_new(json, "freezes", list) : -1;
}

/* --- what an operator may not do */

int command_refuse_blackout(struct command *c, const struct domain *d,
                            struct err *err)
{
    struct window window;

    if (!d->blackout[0])
        return 0;
    if (window_parse(d->cutover_window, d->blackout, &window, err) == -1)
        return -1;
    if (!window_is_black(&window, c->now_ms))
        return 0;
    return err_set(err, ERR_SETUP,
                   "today is a day of the blackout of %s (%s, %s); with --now "
                   "it flips all the same",
                   d->name, d->blackout, window.zone);
}
