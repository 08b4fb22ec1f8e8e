/*
 * The command `account import`: make accounts what a list says of them. Each
 * line is compared with what is there; the differences are the answer, and what
 * is written. Nothing is copied by it: `migrate` and first logins do that.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/foreign_hash.h"
#include "account/seal.h"
#include "account/username.h"
#include "account/wire.h"
#include "base/mem.h"
#include "db/credentials.h"
#include "db/names.h"
#include "db/profiles.h"

/* One line of the list, and what it would change. */
struct line {
    struct command *c;
    const json_t *entry;    /* borrowed */
    struct account account; /* id 0: to be created */
    struct domain domain;
    struct profile profile;
    char was_user[ADDRESS_MAX]; /* of account.legacy_user */
    json_t *aliases, *names;    /* owned arrays, canonical; NULL: not said */
    json_t *changes;            /* owned: {field, was, becomes} */
    struct seal seal;
    bool has_seal;
    char hash[256]; /* "" : none is new */
};

static void line_release(struct line *l)
{
    json_decref(l->aliases);
    json_decref(l->names);
    json_decref(l->changes);
    explicit_bzero(&l->seal, sizeof(l->seal));
    explicit_bzero(l->hash, sizeof(l->hash));
}

static void note(struct line *l, const char *field, const char *was,
                 const char *becomes)
{
    json_array_append_new(l->changes,
                          json_pack("{s:s,s:s,s:s}", "field", field, "was", was,
                                    "becomes", becomes));
}

/* --- single columns */

static int check_text(const char *field, const char *text, size_t size,
                      struct err *err)
{
    if (strlen(text) >= size)
        return err_set(err, ERR_SETUP, "%s is too long", field);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, ERR_SETUP, "%s has a control character", field);
    return 0;
}

/* The column's text into out, if it is there and says something else. */
static int take_text(struct line *l, const char *field, char *out, size_t size,
                     struct err *err)
{
    const char *text = wire_text(l->entry, field);

    if (!text || strcmp(text, out) == 0)
        return 0;
    if (check_text(field, text, size, err) == -1)
        return -1;
    note(l, field, out, text);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int take_legacy_user(struct line *l, struct err *err)
{
    struct account *a = &l->account;
    const char *text = wire_text(l->entry, "legacy_user");

    memcpy(l->was_user, a->legacy_user, sizeof(l->was_user));
    if (text && !*text)
        return err_set(err, ERR_SETUP, "legacy_user is empty");
    if (text && a->id && strcmp(text, a->legacy_user) != 0 &&
        a->route != ROUTE_LEGACY)
        return err_set(err, ERR_SETUP,
                       "legacy_user: its mailbox has moved already");
    return take_text(l, "legacy_user", a->legacy_user, sizeof(a->legacy_user),
                     err);
}

static void take_quota(struct line *l)
{
    int64_t bytes = wire_int(l->entry, "quota", -1);
    char was[24], becomes[24];

    if (bytes < 0 || bytes == l->profile.quota_bytes)
        return;
    snprintf(was, sizeof(was), "%lld", (long long)l->profile.quota_bytes);
    snprintf(becomes, sizeof(becomes), "%lld", (long long)bytes);
    note(l, "quota", was, becomes);
    l->profile.quota_bytes = bytes;
}

/* One that local has already is no difference. */
static int take_hash(struct line *l, const char *text, struct err *err)
{
    struct credential_list there = {.count = 0};

    if (l->account.route != ROUTE_LEGACY)
        return err_set(err, ERR_SETUP,
                       "hash: its mailbox has moved already (\"account "
                       "password\" sets one on the new side)");
    if (foreign_hash_check(text, l->hash, sizeof(l->hash), err) == -1)
        return -1;
    if (l->account.id &&
        credential_list(l->c->db, l->account.id, &there, err) == -1)
        return -1;
    for (size_t i = 0; i < there.count; i++)
        if (strcmp(there.items[i].hash, l->hash) == 0) {
            l->hash[0] = '\0';
            return 0;
        }
    note(l, "hash", there.count ? "others" : "", "one more");
    return 0;
}

static int take_password(struct line *l, struct err *err)
{
    const char *password = wire_text(l->entry, "password");
    const char *hash = wire_text(l->entry, "hash");
    struct account *a = &l->account;
    struct secret secret;
    int rc;

    if (password && foreign_hash_is_meant(password)) {
        hash = password;
        password = NULL;
    }
    if (hash && *hash && take_hash(l, hash, err) == -1)
        return -1;
    if (!password || !*password)
        return 0;
    if (check_text("password", password, SEAL_SECRET_MAX + 1, err) == -1)
        return -1;
    /* what a login has proven is worth more than a list */
    if (a->route != ROUTE_LEGACY || a->password_state != PASSWORD_NONE)
        return err_set(err, ERR_SETUP,
                       "a password is known already (\"account password\" "
                       "sets one on the new side)");
    if (!l->c->public_key)
        return err_set(err, ERR_SETUP, "the sealing key is missing");
    secret_init(&secret);
    secret_set(&secret, password, strlen(password));
    rc = seal_close(l->c->public_key, a->address, &secret, &l->seal, err);
    secret_wipe(&secret);
    if (rc == -1)
        return -1;
    l->has_seal = true;
    note(l, "password", a->has_seal ? "sealed" : "", "sealed");
    return 0;
}

/* --- lists of names */

/* An address, or (needs_domain false) whatever the login map may hold. */
static int canonical(const char *text, bool needs_domain, char out[ADDRESS_MAX],
                     struct err *err)
{
    struct username name;

    if (!needs_domain)
        return username_login_name(text, strlen(text), out, err);
    if (username_parse(text, strlen(text), &name, err) == -1)
        return -1;
    memcpy(out, name.address, sizeof(name.address));
    return name.domain[0] ? 0 : -1;
}

/* The canonical forms of a column's names, each once; NULL if it is not there,
   or (*rc_out -1) one of them cannot be. */
static json_t *canonical_list(const struct line *l, const char *field,
                              bool needs_domain, int *rc_out, struct err *err)
{
    const json_t *texts = json_object_get(l->entry, field);
    json_t *list = json_is_array(texts) ? json_array() : NULL;

    *rc_out = 0;
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        char name[ADDRESS_MAX];
        bool is_known = false;

        if (!text || canonical(text, needs_domain, name, err) == -1) {
            *rc_out = err_set(err, ERR_SETUP, "%s: not a name: %.200s", field,
                              text ? text : "");
            break;
        }
        for (size_t j = 0; j < json_array_size(list); j++)
            is_known |=
                strcmp(json_string_value(json_array_get(list, j)), name) == 0;
        if (!is_known)
            json_array_append_new(list, json_string(name));
    }
    return list;
}

/* A name may be somebody's address already. */
static int refuse_accounts(const struct line *l, const char *field,
                           const json_t *list, struct err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        struct account other;
        int found;

        if (strcmp(name, l->account.address) == 0)
            return err_set(err, ERR_SETUP, "%s: %s is its own address", field,
                           name);
        if ((found = account_find(l->c->db, name, &other, err)) == -1)
            return -1;
        if (found)
            return err_set(err, ERR_SETUP, "%s: %s is an account", field, name);
    }
    return 0;
}

static void join(const json_t *list, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(list) && used < size; i++) {
        int length = snprintf(out + used, size - used, "%s%s", i ? " " : "",
                              json_string_value(json_array_get(list, i)));

        used += length < 0 ? 0 : (size_t)length;
    }
}

static int append_alias(void *ctx, const char *alias)
{
    return json_array_append_new(ctx, json_string(alias));
}

static int append_name(void *ctx, const struct login_name *name)
{
    return json_array_append_new(ctx, json_string(name->name));
}

static bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return true;
    return false;
}

static bool are_same(const json_t *one, const json_t *two)
{
    if (json_array_size(one) != json_array_size(two))
        return false;
    for (size_t i = 0; i < json_array_size(one); i++)
        if (!has_text(two, json_string_value(json_array_get(one, i))))
            return false;
    return true;
}

#define LIST_TEXT_MAX 4096

static void compare_lists(struct line *l, const char *field,
                          const json_t *there, json_t **said)
{
    char was[LIST_TEXT_MAX], becomes[LIST_TEXT_MAX];

    if (are_same(there, *said)) {
        json_decref(*said);
        *said = NULL;
        return;
    }
    join(there, was, sizeof(was));
    join(*said, becomes, sizeof(becomes));
    note(l, field, was, becomes);
}

static int take_aliases(struct line *l, struct err *err)
{
    json_t *there;
    int rc;

    l->aliases = canonical_list(l, "aliases", true, &rc, err);
    if (rc == -1 || !l->aliases)
        return rc;
    if (refuse_accounts(l, "aliases", l->aliases, err) == -1)
        return -1;
    for (size_t i = 0; i < json_array_size(l->aliases); i++) {
        const char *alias = json_string_value(json_array_get(l->aliases, i));
        int64_t owner;
        int found = alias_find(l->c->db, alias, &owner, err);

        if (found == -1)
            return -1;
        if (found && owner != l->account.id)
            return err_set(err, ERR_SETUP, "aliases: another account has %s",
                           alias);
    }
    there = json_array();
    rc = l->account.id
             ? alias_each(l->c->db, l->account.id, append_alias, there, err)
             : 0;
    if (rc == 0)
        compare_lists(l, "aliases", there, &l->aliases);
    json_decref(there);
    return rc;
}

static int take_names(struct line *l, struct err *err)
{
    json_t *there;
    int rc;

    l->names = canonical_list(l, "names", false, &rc, err);
    if (rc == -1 || !l->names)
        return rc;
    if (refuse_accounts(l, "names", l->names, err) == -1)
        return -1;
    for (size_t i = 0; i < json_array_size(l->names); i++) {
        const char *text = json_string_value(json_array_get(l->names, i));
        struct login_name name;
        int found = name_find(l->c->db, text, &name, err);

        if (found == -1)
            return -1;
        if (found && strcmp(name.address, l->account.address) != 0)
            return err_set(err, ERR_SETUP, "names: %s is a name of %s", text,
                           name.address);
    }
    there = json_array();
    rc = name_each(l->c->db, l->account.address, append_name, there, err);
    if (rc == 0)
        compare_lists(l, "names", there, &l->names);
    json_decref(there);
    return rc;
}

static int take_forward(struct line *l, struct err *err)
{
    char becomes[sizeof(l->profile.forward) + ADDRESS_MAX];
    int rc;
    json_t *list = canonical_list(l, "forward", true, &rc, err);

    if (rc == 0 && list) {
        join(list, becomes, sizeof(becomes));
        if (strlen(becomes) >= sizeof(l->profile.forward)) {
            rc = err_set(err, ERR_SETUP, "forward is too long");
        } else if (strcmp(becomes, l->profile.forward) != 0) {
            note(l, "forward", l->profile.forward, becomes);
            memcpy(l->profile.forward, becomes, strlen(becomes) + 1);
        }
    }
    json_decref(list);
    return rc;
}

/* --- what is there */

int command_add_profile(struct command *c, const struct account *a,
                        json_t *json, struct err *err)
{
    json_t *names = json_array(), *aliases = json_array();
    json_t *forward = json_array();
    struct profile p;

    json_object_set_new(json, "names", names);
    json_object_set_new(json, "aliases", aliases);
    json_object_set_new(json, "forward", forward);
    if (profile_get(c->db, a->id, &p, err) == -1 ||
        name_each(c->db, a->address, append_name, names, err) == -1 ||
        alias_each(c->db, a->id, append_alias, aliases, err) == -1)
        return -1;
    for (const char *at = p.forward; *at;) {
        size_t length = strcspn(at, " ");

        json_array_append_new(forward, json_stringn(at, length));
        at += length;
        at += strspn(at, " ");
    }
    return json_object_update_new(
        json, json_pack("{s:I,s:s,s:s}", "quota", (json_int_t)p.quota_bytes,
                        "owner", p.owner, "group", p.group));
}

/* --- a line as a whole */

static int find_account(struct line *l, struct err *err)
{
    const char *address = wire_text(l->entry, "address");
    struct username name;
    struct login_name other;
    struct account *a = &l->account;
    int64_t owner;
    int found;

    if (!address ||
        username_parse(address, strlen(address), &name, err) == -1 ||
        !name.domain[0])
        return err_set(err, ERR_SETUP, "not an address: %.200s",
                       address ? address : "");
    if (command_need_domain(l->c, name.domain, &l->domain, err) == -1 ||
        (found = account_find(l->c->db, name.address, a, err)) == -1)
        return -1;
    if (found)
        return profile_get(l->c->db, a->id, &l->profile, err) == -1 ? -1 : 0;
    memset(a, 0, sizeof(*a));
    memcpy(a->address, name.address, sizeof(a->address));
    a->domain_id = l->domain.id;
    if ((found = alias_find(l->c->db, a->address, &owner, err)) == 0)
        found = name_find(l->c->db, a->address, &other, err);
    if (found == -1)
        return -1;
    if (found)
        return err_set(err, ERR_SETUP, "%s is another account's name",
                       a->address);
    return username_fill(l->domain.username_template, &name, a->legacy_user,
                         sizeof(a->legacy_user), err);
}

/* What the line says, compared with what is there. Writes nothing. */
static int line_compare(struct line *l, struct err *err)
{
    if (find_account(l, err) == -1 || take_legacy_user(l, err) == -1 ||
        take_password(l, err) == -1 || take_names(l, err) == -1 ||
        take_aliases(l, err) == -1 || take_forward(l, err) == -1 ||
        take_text(l, "owner", l->profile.owner, sizeof(l->profile.owner),
                  err) == -1 ||
        take_text(l, "group", l->profile.group, sizeof(l->profile.group),
                  err) == -1)
        return -1;
    take_quota(l);
    return 0;
}

static int write_account(struct line *l, struct err *err)
{
    struct account *a = &l->account;
    struct account_seal stored = {.wrapped_length = sizeof(l->seal.wrapped_key),
                                  .blob_length = l->seal.blob_length};

    if (a->id == 0) {
        a->route = ROUTE_LEGACY;
        a->copy = COPY_NONE;
        a->epoch = 1;
        a->password_state = PASSWORD_NONE;
        a->created_at = l->c->now_ms;
        if (account_insert(l->c->db, a, err) == -1)
            return -1;
    } else if (strcmp(a->legacy_user, l->was_user) != 0) {
        a->updated_at = l->c->now_ms;
        if (account_update(l->c->db, a, err) == -1)
            return -1;
    }
    if (l->hash[0] &&
        foreign_hash_store(l->c->db, a->id, l->hash, l->c->now_ms, err) == -1)
        return -1;
    if (!l->has_seal)
        return 0;
    memcpy(stored.wrapped_key, l->seal.wrapped_key, stored.wrapped_length);
    memcpy(stored.blob, l->seal.blob, stored.blob_length);
    return account_seal_set(l->c->db, a->id, &stored, err);
}

static int write_aliases(struct line *l, struct err *err)
{
    json_t *there;
    int rc;

    if (!l->aliases)
        return 0;
    there = json_array();
    rc = alias_each(l->c->db, l->account.id, append_alias, there, err);
    for (size_t i = 0; rc == 0 && i < json_array_size(there); i++)
        rc = alias_remove(l->c->db, json_string_value(json_array_get(there, i)),
                          err);
    for (size_t i = 0; rc == 0 && i < json_array_size(l->aliases); i++)
        rc = alias_put(l->c->db,
                       json_string_value(json_array_get(l->aliases, i)),
                       l->account.id, err);
    json_decref(there);
    return rc;
}

static int write_names(struct line *l, struct err *err)
{
    json_t *there;
    int rc;

    if (!l->names)
        return 0;
    there = json_array();
    rc = name_each(l->c->db, l->account.address, append_name, there, err);
    for (size_t i = 0; rc == 0 && i < json_array_size(there); i++) {
        const char *text = json_string_value(json_array_get(there, i));

        if (!has_text(l->names, text) && name_remove(l->c->db, text, err) == -1)
            rc = -1;
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(l->names); i++) {
        struct login_name name = {.created_at = l->c->now_ms};
        const char *text = json_string_value(json_array_get(l->names, i));

        if (has_text(there, text))
            continue;
        memcpy(name.name, text, strlen(text) + 1);
        memcpy(name.address, l->account.address, sizeof(name.address));
        rc = name_put(l->c->db, &name, err);
    }
    json_decref(there);
    return rc;
}

static void append_word(char *out, size_t size, size_t *used,
                        const json_t *change, const char *side)
{
    int length =
        snprintf(out + *used, size - *used, "%s%s=%.80s", *used ? " " : "",
                 wire_text(change, "field"), wire_text(change, side));

    if (length < 0 || (size_t)length >= size - *used)
        out[*used] = '\0'; /* no room: whole words only */
    else
        *used += (size_t)length;
}

/* For the audit: what stands in several tables, as one row. */
static void tell_changes(struct line *l)
{
    struct difference *d = l->c->difference;
    size_t was = 0, became = 0;

    if (!d)
        return;
    for (size_t i = 0; i < json_array_size(l->changes); i++) {
        const json_t *change = json_array_get(l->changes, i);

        append_word(d->was, sizeof(d->was), &was, change, "was");
        append_word(d->became, sizeof(d->became), &became, change, "becomes");
    }
}

static int line_write(struct line *l, struct err *err)
{
    bool is_new = l->account.id == 0;

    if (write_account(l, err) == -1 ||
        profile_put(l->c->db, l->account.id, &l->profile, err) == -1 ||
        write_aliases(l, err) == -1 || write_names(l, err) == -1)
        return -1;
    tell_changes(l);
    return command_audit(l->c, l->account.id,
                         is_new ? "account create" : "account update",
                         l->account.address, err);
}

/* --- the list */

struct counts {
    int created, changed, unchanged, refused;
};

static json_t *line_answer(const struct line *l, const char *action)
{
    return json_pack(
        "{s:I,s:s,s:s,s:O}", "line", (json_int_t)wire_int(l->entry, "line", 0),
        "address", l->account.address, "action", action, "changes", l->changes);
}

static json_t *line_refusal(const struct line *l, const struct err *problem)
{
    const char *address = wire_text(l->entry, "address");

    return json_pack("{s:I,s:s,s:s,s:s}", "line",
                     (json_int_t)wire_int(l->entry, "line", 0), "address",
                     address ? address : "", "action", "refused", "error",
                     problem->text);
}

/* Compare, answer and write one line; -1 only if the database fails: then
   nothing of the list may be kept. */
static int take_entry(struct line *l, json_t *list, struct counts *counts,
                      struct err *err)
{
    struct err problem;
    const char *action = "create";

    if (line_compare(l, &problem) == -1) {
        counts->refused++;
        json_array_append_new(list, line_refusal(l, &problem));
        return 0;
    }
    if (l->account.id == 0) {
        counts->created++;
    } else if (json_array_size(l->changes)) {
        counts->changed++;
        action = "change";
    } else {
        counts->unchanged++;
        action = "none";
    }
    json_array_append_new(list, line_answer(l, action));
    return *action == 'n' ? 0 : line_write(l, err);
}

int command_account_import(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    const json_t *entries = json_object_get(args, "entries");
    bool is_dry = wire_bool(args, "dry_run");
    bool is_applied;
    struct counts counts = {0};
    json_t *list = json_array();

    json_object_set_new(result, "accounts", list);
    for (size_t i = 0; i < json_array_size(entries); i++) {
        struct line l = {.c = c,
                         .entry = json_array_get(entries, i),
                         .changes = json_array()};
        int rc = take_entry(&l, list, &counts, err);

        line_release(&l);
        if (rc == -1)
            return err_prefix(err, "line %lld",
                              (long long)wire_int(l.entry, "line", 0));
    }
    is_applied = !is_dry && (counts.refused == 0 || wire_bool(args, "partial"));
    c->is_undone = !is_applied;
    return json_object_update_new(
        result, json_pack("{s:b,s:b,s:i,s:i,s:i,s:i}", "dry_run", is_dry,
                          "applied", is_applied, "created", counts.created,
                          "changed", counts.changed, "unchanged",
                          counts.unchanged, "refused", counts.refused));
}
