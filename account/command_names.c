/*
 * The commands `name add|remove|list`: the login map, by which names that are
 * no address of ours log in to one.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <string.h>

#include "account/username.h"
#include "account/wire.h"
#include "db/names.h"

static json_t *name_json(const struct login_name *name)
{
    return json_pack("{s:o,s:s,s:o,s:I}", "name", command_text_json(name->name),
                     "address", name->address, "legacy_user",
                     command_text_json(name->legacy_user), "created_at",
                     (json_int_t)name->created_at);
}

int command_refuse_name(struct command *c, const char *address, struct err *err)
{
    struct login_name name;
    int found = name_find(c->db, address, &name, err);

    if (found == 1)
        return err_set(err, ERR_SETUP,
                       "%s is a login name of %s; `mailhaul name remove` first",
                       address, name.address);
    return found;
}

static int need_name(const json_t *args, char out[ADDRESS_MAX], struct err *err)
{
    const char *text = command_need_text(args, "name", err);

    if (!text)
        return -1;
    if (username_login_name(text, strlen(text), out, err) == -1)
        return err_set(err, ERR_SETUP, "nobody can log in as %.200s", text);
    return 0;
}

/* The address that a name is to mean: of a domain that is served, and no name
   itself. */
static int need_address(struct command *c, const json_t *args,
                        char out[ADDRESS_MAX], struct err *err)
{
    const char *text = command_need_text(args, "address", err);
    struct username name;
    struct domain d;

    if (!text)
        return -1;
    if (username_parse(text, strlen(text), &name, err) == -1 || !name.domain[0])
        return err_set(err, ERR_SETUP, "not an address: %.200s", text);
    memcpy(out, name.address, sizeof(name.address));
    if (command_need_domain(c, name.domain, &d, err) == -1)
        return -1;
    return command_refuse_name(c, out, err);
}

/* Nobody may log in to somebody else by his own address. */
static int check_free(struct command *c, const struct login_name *name,
                      struct login_name *was, struct err *err)
{
    struct account other;
    int found;

    if (strcmp(name->name, name->address) == 0)
        return err_set(err, ERR_SETUP, "%s is its own address", name->name);
    if ((found = account_find(c->db, name->name, &other, err)) == -1)
        return -1;
    if (found)
        return err_set(err, ERR_SETUP, "%s is an account", name->name);
    found = name_find(c->db, name->name, was, err);
    if (found == 1 && strcmp(was->address, name->address) != 0)
        return err_set(err, ERR_SETUP,
                       "%s is a login name of %s; `mailhaul name remove` first",
                       name->name, was->address);
    if (found == 0)
        memset(was, 0, sizeof(*was));
    return found == -1 ? -1 : 0;
}

static void describe(const struct login_name *name, char *out, size_t size)
{
    out[0] = '\0';
    if (name->name[0])
        snprintf(out, size, "login name %s%s%s", name->name,
                 name->legacy_user[0] ? ", legacy user " : "",
                 name->legacy_user);
}

static int write_audit(struct command *c, const char *event,
                       const struct login_name *was,
                       const struct login_name *is, struct err *err)
{
    char before[2 * ADDRESS_MAX + 64], after[2 * ADDRESS_MAX + 64];
    struct audit_entry entry = {.at = c->now_ms,
                                .actor = c->actor,
                                .event = event,
                                .address =
                                    is->name[0] ? is->address : was->address,
                                .was = before,
                                .became = after,
                                .reason = c->reason};
    struct account a;
    int found = account_find(c->db, entry.address, &a, err);

    if (found == -1)
        return -1;
    if (found)
        entry.account_id = a.id;
    describe(was, before, sizeof(before));
    describe(is, after, sizeof(after));
    return audit_append(c->db, &entry, err);
}

int command_name_add(struct command *c, const json_t *args, json_t *result,
                     struct err *err)
{
    struct login_name name = {.created_at = c->now_ms}, was;
    const char *user = wire_text(args, "legacy_user");

    if (need_name(args, name.name, err) == -1 ||
        need_address(c, args, name.address, err) == -1 ||
        check_free(c, &name, &was, err) == -1)
        return -1;
    if (user && (!*user || strlen(user) >= sizeof(name.legacy_user)))
        return err_set(err, ERR_SETUP, "legacy_user: empty or too long");
    for (const char *p = user; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, ERR_SETUP, "legacy_user: a control character");
    if (user)
        memcpy(name.legacy_user, user, strlen(user) + 1);
    if (name_put(c->db, &name, err) == -1 ||
        write_audit(c, "name add", &was, &name, err) == -1)
        return -1;
    return json_object_update_new(result, name_json(&name));
}

int command_name_remove(struct command *c, const json_t *args, json_t *result,
                        struct err *err)
{
    struct login_name was, none = {.created_at = 0};
    char name[ADDRESS_MAX];
    int found;

    if (need_name(args, name, err) == -1 ||
        (found = name_find(c->db, name, &was, err)) == -1)
        return -1;
    if (!found)
        return err_set(err, ERR_SETUP, "no such login name: %s", name);
    if (name_remove(c->db, name, err) == -1 ||
        write_audit(c, "name remove", &was, &none, err) == -1)
        return -1;
    return json_object_set_new(result, "removed", json_string(name));
}

struct name_list {
    json_t *list;       /* borrowed */
    const char *domain; /* NULL: all */
};

static int append_name(void *ctx, const struct login_name *name)
{
    const struct name_list *names = ctx;
    const char *at = strrchr(name->address, '@');

    if (!names->domain || (at && strcmp(at + 1, names->domain) == 0))
        json_array_append_new(names->list, name_json(name));
    return 0;
}

int command_name_list(struct command *c, const json_t *args, json_t *result,
                      struct err *err)
{
    const char *domain = wire_text(args, "domain");
    struct name_list names = {json_array(), NULL};
    struct domain d;

    json_object_set_new(result, "names", names.list);
    if (domain) {
        if (command_need_domain(c, domain, &d, err) == -1)
            return -1;
        names.domain = d.name;
    }
    return name_each(c->db, NULL, append_name, &names, err);
}
