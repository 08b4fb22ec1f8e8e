/*
 * What commands say and store of passwords: the list in `account show`, and a
 * domain's master user on legacy.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/master_name.h"
#include "account/wire.h"
#include "db/credentials.h"
#include "db/domain_secrets.h"

static json_t *time_or_null(int64_t at)
{
    return at ? json_integer(at) : json_null();
}

static int add_first(struct command *c, const struct account *a, json_t *list,
                     struct err *err)
{
    struct account_seal seal;
    char hash[256];
    int has_hash = account_hash_get(c->db, a->id, hash, sizeof(hash), err);
    int has_seal = account_seal_get(c->db, a->id, &seal, err);

    explicit_bzero(hash, sizeof(hash));
    if (has_hash == -1 || has_seal == -1)
        return -1;
    if (has_hash || has_seal)
        json_array_append_new(
            list,
            json_pack("{s:s,s:s,s:b,s:b,s:o,s:o}", "origin", "legacy", "label",
                      "", "hashed", has_hash, "sealed", has_seal, "created_at",
                      time_or_null(a->created_at), "used_at", json_null()));
    return 0;
}

int command_credentials_show(struct command *c, const struct account *a,
                             json_t *json, struct err *err)
{
    json_t *list = json_array();
    struct credential_list all;

    json_object_set_new(json, "credentials", list);
    json_object_update_new(
        json,
        json_pack("{s:b,s:b,s:o}", "login_locked", a->is_login_locked,
                  "submission_locked", a->is_submission_locked,
                  "local_password_at", time_or_null(a->local_password_at)));
    if (add_first(c, a, list, err) == -1 ||
        credential_list(c->db, a->id, &all, err) == -1)
        return -1;
    for (size_t i = 0; i < all.count; i++) {
        const struct credential *one = &all.items[i];

        json_array_append_new(
            list,
            json_pack("{s:s,s:o,s:b,s:b,s:o,s:o}", "origin",
                      credential_origin_name(one->origin), "label",
                      one->label[0] ? command_text_json(one->label)
                                    : json_string(""),
                      "hashed", one->hash[0] != '\0', "sealed", one->has_seal,
                      "created_at", time_or_null(one->created_at), "used_at",
                      time_or_null(one->used_at)));
    }
    return 0;
}

/* --- the master user */

int command_master_check(const json_t *args, const struct domain *d,
                         struct err *err)
{
    const char *template = wire_text(args, "master_login");
    char filled[640];

    if (template &&
        strlen(template) >= sizeof(((struct domain_secret *)0)->login_template))
        return err_set(err, ERR_SETUP, "--master-login: too long");
    if (template && *template &&
        master_name_fill(template, "user", d->master_user, filled,
                         sizeof(filled), err) == -1)
        return err_prefix(err, "--master-login");
    return 0;
}

static int take_seal(const json_t *args, struct account_seal *out,
                     struct err *err)
{
    struct seal seal;

    if (wire_seal(args, &seal, err) == -1)
        return err_prefix(err, "--master-password-file");
    out->wrapped_length = sizeof(seal.wrapped_key);
    out->blob_length = seal.blob_length;
    memcpy(out->wrapped_key, seal.wrapped_key, out->wrapped_length);
    memcpy(out->blob, seal.blob, out->blob_length);
    return 0;
}

int command_master_store(struct command *c, const json_t *args,
                         const struct domain *was, const struct domain *d,
                         struct err *err)
{
    const json_t *sealed = json_object_get(args, "master");
    const char *template = wire_text(args, "master_login");
    struct domain_secret secret;
    int found;

    if (!d->master_user[0])
        return sealed || (template && *template)
                   ? err_set(err, ERR_SETUP, "--master-user: is missing")
                   : domain_secret_remove(c->db, d->id, err);
    if ((found = domain_secret_get(c->db, d->id, &secret, err)) == -1)
        return -1;
    if (!found)
        memset(&secret, 0, sizeof(secret));
    if (!sealed && (!found || strcmp(was->master_user, d->master_user) != 0))
        return err_set(err, ERR_SETUP,
                       "--master-password-file: the password of %s is missing",
                       d->master_user);
    if (sealed && take_seal(sealed, &secret.seal, err) == -1)
        return -1;
    if (template)
        memcpy(secret.login_template, template, strlen(template) + 1);
    if (!sealed && !template)
        return 0;
    if (domain_secret_set(c->db, d->id, &secret, err) == -1)
        return -1;
    return sealed ? command_audit(c, 0, "domain master password", d->name, err)
                  : 0;
}
