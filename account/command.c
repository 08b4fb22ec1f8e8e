#include "account/command.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "account/command_parts.h"
#include "account/username.h"
#include "account/wire.h"
#include "account/work.h"
#include "db/audit.h"

#define REASON_MAX 400

static const struct {
    const char *name;
    command_fn *run;
} commands[] = {
    {"domain add", command_domain_add},
    {"domain set", command_domain_set},
    {"domain list", command_domain_list},
    {"domain show", command_domain_show},
    {"domain enable", command_domain_enable},
    {"domain disable", command_domain_disable},
    {"domain remove", command_domain_remove},
    {"domain close check", command_domain_close_check},
    {"domain close addresses", command_domain_close_addresses},
    {"domain reopen", command_domain_reopen},
    {"domain strangers", command_domain_strangers},
    {"account list", command_account_list},
    {"account show", command_account_show},
    {"account pause", command_account_pause},
    {"account resume", command_account_resume},
    {"account remove", command_account_remove},
    {"account lock", command_account_lock},
    {"account unlock", command_account_unlock},
    {"account import", command_account_import},
    {"account accept", command_account_accept},
    {"domain admit", command_domain_admit},
    {"domain unadmit", command_domain_unadmit},
    {"freeze", command_freeze},
    {"thaw", command_thaw},
    {"account forget-legacy", command_account_forget_legacy},
    {"account rename", command_account_rename},
    {"name add", command_name_add},
    {"name remove", command_name_remove},
    {"name list", command_name_list},
    {"migrate", command_migrate},
    {"cutover", command_cutover},
    {"rollback", command_rollback},
    {"status", command_status},
    {"audit", command_audit_list},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static command_fn *command_named(const char *name)
{
    for (size_t i = 0; name && i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run;
    return NULL;
}

bool command_is_known(const char *name)
{
    return command_named(name) != NULL;
}

int command_run(struct command *c, const json_t *request, json_t **result_out,
                struct err *err)
{
    command_fn *run = command_named(wire_text(request, "cmd"));
    const char *reason = wire_text(request, "reason");
    struct difference difference = {.was = ""};
    json_t *result;
    int rc;

    if (!run)
        return err_set(err, ERR_SETUP, "no such command");
    if (reason && strlen(reason) > REASON_MAX)
        return err_set(err, ERR_SETUP, "--reason: too long");
    result = json_object();
    c->reason = reason ? reason : "";
    c->difference = &difference;
    rc = run(c, request, result, err);
    c->difference = NULL;
    c->reason = NULL;
    if (rc == -1) {
        json_decref(result);
        return -1;
    }
    *result_out = result;
    return 0;
}

/* A server's words may have been cut inside a UTF-8 character. */
json_t *command_text_json(const char *text)
{
    char ascii[DIFFERENCE_MAX];
    json_t *json;
    size_t i;

    if (!text || !*text)
        return json_null();
    if ((json = json_string(text)))
        return json;
    for (i = 0; text[i] && i < sizeof(ascii) - 1; i++)
        ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    ascii[i] = '\0';
    return json_string(ascii);
}

int command_need_domain(struct command *c, const char *name, struct domain *out,
                        struct err *err)
{
    char folded[sizeof(out->name)];
    size_t length = strlen(name);

    if (length == 0 || length >= sizeof(folded))
        return err_set(err, ERR_SETUP, "no such domain: %.255s", name);
    for (size_t i = 0; i <= length; i++)
        folded[i] =
            name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
    switch (domain_find(c->db, folded, out, err)) {
    case 1: return 0;
    case 0: return err_set(err, ERR_SETUP, "no such domain: %s", folded);
    default: return -1;
    }
}

int command_find_account(struct command *c, const char *address,
                         struct account *out, struct err *err)
{
    struct username name;

    if (username_parse(address, strlen(address), &name, err) == -1)
        return err_set(err, ERR_SETUP, "not an address: %.200s", address);
    switch (account_find(c->db, name.address, out, err)) {
    case 1: return 0;
    case 0: return err_set(err, ERR_SETUP, "no such account: %s", name.address);
    default: return -1;
    }
}

int command_need_account(struct command *c, const char *address,
                         struct account *out, struct err *err)
{
    int refused;

    if (command_find_account(c, address, out, err) == -1 ||
        (refused = command_is_refused(c, out, err)) == -1)
        return -1;
    if (refused)
        return err_set(err, ERR_SETUP,
                       "%s: the store knows more of it than this control db, "
                       "which is an older copy: \"db check --repair\" or \"db "
                       "rebuild\" first",
                       out->address);
    return 0;
}

const char *command_need_text(const json_t *args, const char *field,
                              struct err *err)
{
    const char *text = wire_text(args, field);

    if (!text || !*text) {
        err_set(err, ERR_SETUP, "\"%s\" is missing", field);
        return NULL;
    }
    return text;
}

int command_queue(struct command *c, const struct account *a,
                  const struct domain *d, enum job_kind kind, struct err *err)
{
    c->has_queued = true;
    return work_queue(c->db, a, d, kind, c->now_ms, err);
}

void command_stop(struct command *c, int64_t account_id)
{
    if (c->stopped_count < sizeof(c->stopped) / sizeof(c->stopped[0]))
        c->stopped[c->stopped_count++] = account_id;
}

static void note_difference(struct command *c, bool has_changed,
                            const struct difference *difference)
{
    if (has_changed && c->difference)
        *c->difference = *difference;
}

int command_store(struct command *c, const struct account *a, struct err *err)
{
    struct difference difference;
    struct account was;

    if (account_get(c->db, a->id, &was, err) == -1 ||
        account_update(c->db, a, err) == -1)
        return -1;
    note_difference(c, account_difference(&was, a, &difference), &difference);
    return 0;
}

int command_store_domain(struct command *c, const struct domain *d,
                         struct err *err)
{
    struct difference difference;
    struct domain was;

    if (domain_get(c->db, d->id, &was, err) == -1 ||
        domain_update(c->db, d, err) == -1)
        return -1;
    note_difference(c, domain_difference(&was, d, &difference), &difference);
    return 0;
}

void command_actor(uid_t uid, char out[COMMAND_ACTOR_MAX])
{
    const struct passwd *user = getpwuid(uid);

    if (user)
        snprintf(out, COMMAND_ACTOR_MAX, "uid %u (%.32s)", (unsigned)uid,
                 user->pw_name);
    else
        snprintf(out, COMMAND_ACTOR_MAX, "uid %u", (unsigned)uid);
}

int command_audit(struct command *c, int64_t account_id, const char *event,
                  const char *about, struct err *err)
{
    struct audit_entry entry = {
        .at = c->now_ms,
        .account_id = account_id,
        .actor = c->actor,
        .event = event,
        .address = about,
        .reason = c->reason,
        .was = c->difference ? c->difference->was : NULL,
        .became = c->difference ? c->difference->became : NULL};
    int rc = audit_append(c->db, &entry, err);

    if (c->difference)
        c->difference->was[0] = c->difference->became[0] = '\0';
    return rc;
}
