/*
 * The command `migrate`: take accounts in before they log in, and set going
 * those that stand still. Everything is looked at before anything is written,
 * so that a list with a mistake in it changes nothing.
 */
#include "account/command_parts.h"

#include <stdlib.h>
#include <string.h>

#include "account/freeze.h"
#include "account/foreign_hash.h"
#include "account/lifecycle.h"
#include "account/username.h"
#include "account/wire.h"
#include "base/mem.h"

struct wanted {
    struct account account; /* id 0: to be created */
    struct domain domain;
    struct seal seal;
    bool has_seal;
    char hash[256];  /* of a list, instead of the password; "" : none */
    bool is_changed; /* there already, and to be tried with other values */
};

struct migrate {
    struct command *c;
    struct wanted *wanted; /* owned */
    size_t count;
    bool is_dry;
};

static struct wanted *add_wanted(struct migrate *m)
{
    if ((m->count & (m->count - 1)) == 0)
        m->wanted = mem_grow(m->wanted, (m->count ? m->count * 2 : 1) *
                                            sizeof(*m->wanted));
    memset(&m->wanted[m->count], 0, sizeof(*m->wanted));
    return &m->wanted[m->count++];
}

static int take_legacy_user(struct account *a, const char *legacy_user,
                            struct err *err)
{
    if (strlen(legacy_user) >= sizeof(a->legacy_user))
        return err_set(err, ERR_SETUP, "legacy_user is too long");
    for (const char *p = legacy_user; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, ERR_SETUP,
                           "legacy_user has a control character");
    memcpy(a->legacy_user, legacy_user, strlen(legacy_user) + 1);
    return 0;
}

/* An account that is not there yet, as the name and its domain say. */
static int fill_new(struct wanted *w, const struct username *name,
                    const char *legacy_user, struct err *err)
{
    struct account *a = &w->account;

    memcpy(a->address, name->address, sizeof(a->address));
    a->domain_id = w->domain.id;
    if (!legacy_user || !*legacy_user)
        return username_fill(w->domain.username_template, name, a->legacy_user,
                             sizeof(a->legacy_user), err);
    return take_legacy_user(a, legacy_user, err);
}

static int seal_password(struct migrate *m, struct wanted *w,
                         const char *password, struct err *err)
{
    struct secret secret;
    int rc;

    for (const char *p = password; *p; p++)
        if (*p == '\r' || *p == '\n')
            return err_set(err, ERR_SETUP, "password has a line break");
    if (!m->c->public_key)
        return err_set(err, ERR_SETUP, "the sealing key is missing");
    secret_init(&secret);
    secret_set(&secret, password, strlen(password));
    rc = seal_close(m->c->public_key, w->account.address, &secret, &w->seal,
                    err);
    secret_wipe(&secret);
    w->has_seal = rc == 0;
    return rc;
}

/* One address, with what is known of it from elsewhere (both may be NULL). */
static int want(struct migrate *m, const char *address, const char *legacy_user,
                const char *password, struct err *err)
{
    struct wanted *w = add_wanted(m);
    struct username name;
    int found;

    if (username_parse(address, strlen(address), &name, err) == -1 ||
        !name.domain[0])
        return err_set(err, ERR_SETUP, "not an address: %.200s", address);
    if (command_need_domain(m->c, name.domain, &w->domain, err) == -1 ||
        freeze_refuse(m->c->db, &w->domain, err) == -1 ||
        (found = account_find(m->c->db, name.address, &w->account, err)) ==
            -1 ||
        (found &&
         command_need_account(m->c, name.address, &w->account, err) == -1))
        return -1;
    if (!found && (command_refuse_name(m->c, name.address, err) == -1 ||
                   fill_new(w, &name, legacy_user, err) == -1))
        return -1;
    if (found && w->account.route == ROUTE_LEGACY) {
        bool is_other = legacy_user && *legacy_user &&
                        strcmp(legacy_user, w->account.legacy_user) != 0;

        if (is_other && take_legacy_user(&w->account, legacy_user, err) == -1)
            return -1;
        w->is_changed = is_other || (password && *password);
    }
    if (password && foreign_hash_is_meant(password)) {
        if (foreign_hash_check(password, w->hash, sizeof(w->hash), err) == -1)
            return -1;
    } else if (password && *password) {
        return seal_password(m, w, password, err);
    }
    if (!w->account.has_seal && w->account.route != ROUTE_LOCAL &&
        !w->domain.master_user[0] && w->hash[0])
        return err_set(err, ERR_SETUP,
                       "%s: with a hash alone the old mailbox cannot be read; "
                       "that takes --master-user",
                       name.address);
    if (!w->account.has_seal && w->account.route != ROUTE_LOCAL &&
        !w->domain.master_user[0])
        return err_set(err, ERR_SETUP,
                       "%s: no password is known; it is learnt at the first "
                       "login, or comes with --csv",
                       name.address);
    return 0;
}

static const char *create(struct migrate *m, struct wanted *w, struct err *err)
{
    struct account_state state = {ROUTE_LEGACY, COPY_NONE, 1};
    struct account *a = &w->account;

    if (lifecycle_apply(&state, EVENT_LEARNT, err) == -1)
        return NULL;
    a->route = state.route;
    a->copy = state.copy;
    a->epoch = state.epoch;
    /* proven by the first login of the worker, not before */
    a->password_state = PASSWORD_NONE;
    a->created_at = m->c->now_ms;
    if (account_insert(m->c->db, a, err) == -1)
        return NULL;
    account_difference(NULL, a, m->c->difference);
    if (command_audit(m->c, a->id, "account create", a->address, err) == -1)
        return NULL;
    return "create";
}

static int store_seal(struct migrate *m, const struct wanted *w,
                      struct err *err)
{
    struct account_seal stored = {.wrapped_length = sizeof(w->seal.wrapped_key),
                                  .blob_length = w->seal.blob_length};

    memcpy(stored.wrapped_key, w->seal.wrapped_key, stored.wrapped_length);
    memcpy(stored.blob, w->seal.blob, stored.blob_length);
    return account_seal_set(m->c->db, w->account.id, &stored, err);
}

/* Other values for somebody whom legacy serves: legacy has to prove them first,
   and until then local is given no password. */
static int change(struct migrate *m, struct wanted *w, struct err *err)
{
    struct account *a = &w->account;

    if (w->has_seal) {
        a->password_state = PASSWORD_NONE;
        a->has_hash = false;
        if (account_hash_set(m->c->db, a->id, NULL, err) == -1)
            return -1;
    }
    if (command_store(m->c, a, err) == -1 ||
        command_audit(m->c, a->id, "account update", a->address, err) == -1)
        return -1;
    return 0;
}

static void tell(json_t *list, const struct account *a, const char *what)
{
    json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s}", "address",
                                          a->address, "legacy_user",
                                          a->legacy_user, "action", what,
                                          "route", account_route_name(a->route),
                                          "copy", account_copy_name(a->copy)));
}

static int apply(struct migrate *m, struct wanted *w, json_t *list,
                 struct err *err)
{
    const char *what =
        w->account.id ? account_copy_name(w->account.copy) : "create";

    if (!m->is_dry) {
        bool is_new = w->account.id == 0;

        if (is_new && !(what = create(m, w, err)))
            return -1;
        if (w->is_changed && change(m, w, err) == -1)
            return -1;
        /* a password that local's user has proven is not replaced */
        if (w->has_seal && w->account.password_state != PASSWORD_CONFIRMED &&
            store_seal(m, w, err) == -1)
            return -1;
        if (w->hash[0] && w->account.route == ROUTE_LEGACY &&
            foreign_hash_store(m->c->db, w->account.id, w->hash, m->c->now_ms,
                               err) == -1)
            return -1;
        if (is_new ? command_queue(m->c, &w->account, &w->domain, JOB_INITIAL,
                                   err) == -1
                   : command_set_going(m->c, &w->account, &w->domain, &what,
                                       err) == -1)
            return -1;
    }
    if (w->is_changed)
        what = "updated";
    tell(list, &w->account, what);
    return 0;
}

static int want_entries(struct migrate *m, const json_t *entries,
                        const char *domain, struct err *err)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(entries, i, entry)
    {
        int line = (int)wire_int(entry, "line", (int64_t)i + 1);
        const char *address = wire_text(entry, "address");
        const char *at = address ? strrchr(address, '@') : NULL;

        if (!address)
            return err_set(err, ERR_SETUP, "line %d: no address", line);
        if (domain && (!at || strcasecmp(at + 1, domain) != 0))
            return err_set(err, ERR_SETUP, "line %d: not in %s: %.200s", line,
                           domain, address);
        if (want(m, address, wire_text(entry, "legacy_user"),
                 wire_text(entry, "password"), err) == -1)
            return err_prefix(err, "line %d", line);
    }
    return 0;
}

static int want_domain(struct migrate *m, const json_t *args, json_t *result,
                       struct err *err)
{
    json_t *list = json_object_get(result, "accounts");
    struct account_page page;
    struct domain d;
    int rc = 0;

    if (command_need_domain(m->c, wire_text(args, "domain"), &d, err) == -1 ||
        freeze_refuse(m->c->db, &d, err) == -1 ||
        command_page(m->c, args, d.id, &page, result, err) == -1)
        return -1;
    for (size_t i = 0; rc != -1 && i < page.count; i++) {
        rc = command_is_refused(m->c, &page.accounts[i], err);
        if (rc == 1) {
            tell(list, &page.accounts[i], "refused");
        } else if (rc == 0) {
            struct wanted *w = add_wanted(m);

            w->account = page.accounts[i];
            w->domain = d;
        }
    }
    command_page_release(&page);
    return rc == -1 ? -1 : 0;
}

static int want_addresses(struct migrate *m, const json_t *addresses,
                          struct err *err)
{
    const json_t *address;
    size_t i;

    json_array_foreach(addresses, i, address)
    {
        const char *text = json_string_value(address);

        if (text && want(m, text, NULL, NULL, err) == -1)
            return -1;
    }
    return 0;
}

int command_migrate(struct command *c, const json_t *args, json_t *result,
                    struct err *err)
{
    const json_t *entries = json_object_get(args, "entries");
    const char *domain = wire_text(args, "domain");
    struct migrate m = {.c = c, .is_dry = wire_bool(args, "dry_run")};
    json_t *list = json_array();
    int rc;

    json_object_set_new(result, "dry_run", json_boolean(m.is_dry));
    json_object_set_new(result, "accounts", list);
    if (entries)
        rc = want_entries(&m, entries, domain, err);
    else if (domain)
        rc = want_domain(&m, args, result, err);
    else
        rc = want_addresses(&m, json_object_get(args, "addresses"), err);
    for (size_t i = 0; rc == 0 && i < m.count; i++)
        rc = apply(&m, &m.wanted[i], list, err);
    free(m.wanted);
    return rc;
}
