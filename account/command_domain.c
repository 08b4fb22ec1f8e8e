/*
 * Commands on domains.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/folder_rules.h"
#include "account/freeze.h"
#include "account/username.h"
#include "account/wire.h"
#include "db/strangers.h"
#include "proto/mail_url.h"

#define HOLD_SECONDS_MIN 4
#define HOLD_SECONDS_MAX 300
#define DAYS_MAX         3650

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static json_t *domain_json(const struct domain *d)
{
    json_t *json = json_pack(
        "{s:s,s:b,s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:o,s:s,s:s,s:i,s:I}", "name",
        d->name, "enabled", d->is_enabled, "imap", text_or_null(d->imap_url),
        "pop3", text_or_null(d->pop3_url), "smtp", text_or_null(d->smtp_url),
        "submission", text_or_null(d->submission_url), "sieve",
        text_or_null(d->sieve_url), "username", d->username_template,
        "master_user", text_or_null(d->master_user), "on_flip",
        text_or_null(d->on_flip), "serve", "after-copy", "cutover",
        domain_cutover_name(d->cutover), "hold_seconds", (int)d->hold_seconds,
        "created_at", (json_int_t)d->created_at);

    json_object_update_new(
        json,
        json_pack("{s:i,s:i,s:i,s:o}", "rollback_days", (int)d->rollback_days,
                  "learn_days", (int)d->learn_days, "quiet_days",
                  (int)d->quiet_days, "closed_at",
                  d->closed_at ? json_integer(d->closed_at) : json_null()));
    json_object_set_new(json, "exclude", text_or_null(d->exclude));
    command_brake_domain(d, json);
    return json;
}

static bool is_domain_name(const char *name)
{
    size_t length = strlen(name), label = 0;

    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (c != '-' && c != '_' && c < 0x80 && !(c >= '0' && c <= '9') &&
            !(c >= 'a' && c <= 'z'))
            return false;
        if (++label > 63)
            return false;
    }
    return label > 0 && length < 254;
}

/* A URL of that protocol, or "" to have none; written in its full form. */
static int take_url(const json_t *args, const char *field,
                    enum mail_protocol protocol, char out[320], struct err *err)
{
    const char *text = wire_text(args, field);
    struct mail_url url;

    if (!text)
        return 0;
    if (!*text) {
        *out = '\0';
        return 0;
    }
    if (mail_url_parse(text, &url, err) == -1)
        return err_prefix(err, "--%s", field);
    if (url.protocol != protocol)
        return err_set(err, ERR_SETUP, "--%s: not an address of that kind: %s",
                       field, text);
    mail_url_format(&url, out);
    return 0;
}

static int take_text(const json_t *args, const char *field, char *out,
                     size_t size, struct err *err)
{
    const char *text = wire_text(args, field);

    if (!text)
        return 0;
    if (strlen(text) >= size)
        return err_set(err, ERR_SETUP, "--%s: too long", field);
    if (strpbrk(text, "\r\n"))
        return err_set(err, ERR_SETUP, "--%s: more than one line", field);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int take_template(const json_t *args, struct domain *d, struct err *err)
{
    struct username example;
    char filled[ADDRESS_MAX];

    if (take_text(args, "username", d->username_template,
                  sizeof(d->username_template), err) == -1)
        return -1;
    if (!d->username_template[0])
        memcpy(d->username_template, "{address}", sizeof("{address}"));
    if (username_parse("user@example.net", 16, &example, err) == -1 ||
        username_fill(d->username_template, &example, filled, sizeof(filled),
                      err) == -1)
        return err_prefix(err, "--username");
    return 0;
}

static int take_exclude(const json_t *args, struct domain *d, struct err *err)
{
    if (take_text(args, "exclude", d->exclude, sizeof(d->exclude), err) == -1)
        return -1;
    return folder_rules_check(d->exclude, err) == -1
               ? err_prefix(err, "--exclude")
               : 0;
}

static int take_days(const json_t *args, const char *field, unsigned *days,
                     struct err *err)
{
    int64_t value = wire_int(args, field, *days);

    if (value < 0 || value > DAYS_MAX)
        return err_set(err, ERR_SETUP, "--%.*s-days: 0 to %d",
                       (int)strcspn(field, "_"), field, DAYS_MAX);
    *days = (unsigned)value;
    return 0;
}

/* What add and set share: every option that is there replaces the member. */
static int take_options(const json_t *args, struct domain *d, struct err *err)
{
    const char *serve = wire_text(args, "serve");
    int64_t hold = wire_int(args, "hold_seconds", d->hold_seconds);

    if (take_url(args, "imap", MAIL_IMAP, d->imap_url, err) == -1 ||
        take_url(args, "pop3", MAIL_POP3, d->pop3_url, err) == -1 ||
        take_url(args, "smtp", MAIL_SMTP, d->smtp_url, err) == -1 ||
        take_url(args, "submission", MAIL_SMTP, d->submission_url, err) == -1 ||
        take_url(args, "sieve", MAIL_SIEVE, d->sieve_url, err) == -1 ||
        take_text(args, "master_user", d->master_user, sizeof(d->master_user),
                  err) == -1 ||
        command_master_check(args, d, err) == -1 ||
        take_template(args, d, err) == -1 ||
        take_text(args, "on_flip", d->on_flip, sizeof(d->on_flip), err) == -1 ||
        take_exclude(args, d, err) == -1 ||
        take_days(args, "rollback_days", &d->rollback_days, err) == -1 ||
        take_days(args, "learn_days", &d->learn_days, err) == -1 ||
        take_days(args, "quiet_days", &d->quiet_days, err) == -1)
        return -1;
    if (!d->imap_url[0])
        return err_set(err, ERR_SETUP, "--imap: the old server is missing");
    if (serve && strcmp(serve, "after-copy") != 0)
        return err_set(err, ERR_SETUP, "--serve: only after-copy is there");
    if (command_brake_options(args, d, err) == -1)
        return -1;
    if (hold < HOLD_SECONDS_MIN || hold > HOLD_SECONDS_MAX)
        return err_set(err, ERR_SETUP, "--hold-seconds: %d to %d",
                       HOLD_SECONDS_MIN, HOLD_SECONDS_MAX);
    d->hold_seconds = (unsigned)hold;
    return 0;
}

/* Lower case, into d->name. */
static int take_name(const char *name, struct domain *d, struct err *err)
{
    if (strlen(name) >= sizeof(d->name))
        return err_set(err, ERR_SETUP, "not a domain: %.100s...", name);
    for (size_t i = 0; name[i]; i++)
        d->name[i] =
            name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
    return is_domain_name(d->name)
               ? 0
               : err_set(err, ERR_SETUP, "not a domain: %s", d->name);
}

int command_check_domain(const json_t *request, bool is_new, struct err *err)
{
    const char *name = command_need_text(request, "name", err);
    struct domain d = {.hold_seconds = HOLD_SECONDS_MIN};

    if (!is_new)
        memcpy(d.imap_url, "imap://it.has.one", sizeof("imap://it.has.one"));
    return name && (!is_new || take_name(name, &d, err) == 0)
               ? take_options(request, &d, err)
               : -1;
}

/* Its name or its hosts may be those of a freeze. */
static int take_freezes(struct command *c, struct domain *d, struct err *err)
{
    c->has_freezes = true;
    return freeze_refresh(c->db, err) == -1 ||
                   domain_get(c->db, d->id, d, err) == -1
               ? -1
               : 0;
}

int command_domain_add(struct command *c, const json_t *args, json_t *result,
                       struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct domain d = {.is_enabled = !wire_bool(args, "disabled"),
                       .cutover = CUTOVER_AUTO,
                       .hold_seconds = 20,
                       .admit_share = DOMAIN_ADMIT_ALL,
                       .learn_days = DOMAIN_LEARN_DAYS,
                       .rollback_days = DOMAIN_ROLLBACK_DAYS,
                       .quiet_days = DOMAIN_QUIET_DAYS,
                       .created_at = c->now_ms / 1000};
    struct domain other;
    int found;

    if (!name)
        return -1;
    if (take_name(name, &d, err) == -1 || take_options(args, &d, err) == -1)
        return -1;
    if ((found = domain_find(c->db, d.name, &other, err)) == -1)
        return -1;
    if (found)
        return err_set(err, ERR_SETUP, "%s is there already", d.name);
    if (domain_insert(c->db, &d, err) == -1)
        return -1;
    domain_difference(NULL, &d, c->difference);
    if (command_audit(c, 0, "domain add", d.name, err) == -1 ||
        command_master_store(c, args, &d, &d, err) == -1 ||
        take_freezes(c, &d, err) == -1)
        return -1;
    return json_object_update_new(result, domain_json(&d));
}

int command_domain_set(struct command *c, const json_t *args, json_t *result,
                       struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct domain d, was;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    was = d;
    if (take_options(args, &d, err) == -1 ||
        command_store_domain(c, &d, err) == -1 ||
        command_audit(c, 0, "domain set", d.name, err) == -1 ||
        command_master_store(c, args, &was, &d, err) == -1 ||
        take_freezes(c, &d, err) == -1)
        return -1;
    return json_object_update_new(result, domain_json(&d));
}

static int append_domain(void *ctx, const struct domain *d)
{
    json_array_append_new(ctx, domain_json(d));
    return 0;
}

int command_domain_list(struct command *c, const json_t *args, json_t *result,
                        struct err *err)
{
    json_t *list = json_array();

    (void)args;
    json_object_set_new(result, "domains", list);
    return domain_each(c->db, append_domain, list, err);
}

int command_domain_show(struct command *c, const json_t *args, json_t *result,
                        struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct account_totals totals;
    struct stranger_totals strangers;
    struct domain d;

    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        account_totals(c->db, d.id, &totals, err) == -1 ||
        stranger_totals(c->db, d.id, &strangers, err) == -1)
        return -1;
    json_object_update_new(result, domain_json(&d));
    json_object_set_new(result, "strangers", json_integer(strangers.addresses));
    if (command_brake_show(c, &d, result, err) == -1)
        return -1;
    json_object_set_new(result, "accounts", json_integer(totals.accounts));
    json_object_set_new(result, "accounts_local",
                        json_integer(totals.by_route[ROUTE_LOCAL]));
    return 0;
}

static int set_enabled(struct command *c, const json_t *args, bool is_enabled,
                       json_t *result, struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct domain d;

    if (!name || command_need_domain(c, name, &d, err) == -1)
        return -1;
    if (is_enabled && d.closed_at)
        return err_set(err, ERR_SETUP,
                       "%s is closed: \"domain reopen\" opens it again",
                       d.name);
    d.is_enabled = is_enabled;
    if (command_store_domain(c, &d, err) == -1 ||
        command_audit(c, 0, is_enabled ? "domain enable" : "domain disable",
                      d.name, err) == -1)
        return -1;
    /* what waited for it is due */
    c->has_queued = is_enabled;
    return json_object_update_new(result, domain_json(&d));
}

int command_domain_enable(struct command *c, const json_t *args, json_t *result,
                          struct err *err)
{
    return set_enabled(c, args, true, result, err);
}

int command_domain_disable(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    return set_enabled(c, args, false, result, err);
}

int command_domain_remove(struct command *c, const json_t *args, json_t *result,
                          struct err *err)
{
    const char *name = command_need_text(args, "name", err);
    struct domain d;

    if (!name || command_need_domain(c, name, &d, err) == -1 ||
        domain_delete(c->db, d.id, err) == -1)
        return -1;
    domain_difference(&d, NULL, c->difference);
    if (command_audit(c, 0, "domain remove", d.name, err) == -1)
        return -1;
    return json_object_set_new(result, "removed", json_string(d.name));
}
