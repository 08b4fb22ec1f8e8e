#include "account/command_fields.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "account/wire.h"

#define DOMAIN_FIELDS                                                          \
    " name:text imap:text pop3:text smtp:text submission:text sieve:text"      \
    " serve:text cutover:text blackout:text admit:text admit_rate:text"        \
    " username:text hold_seconds:number rollback_days:number"                  \
    " quiet_days:number learn_days:number master_user:text master:object"      \
    " master_login:text on_flip:text exclude:text disabled:flag "

static const struct {
    const char *cmd;
    const char *fields; /* a space before and behind each */
} takes[] = {
    {"domain add", DOMAIN_FIELDS},
    {"domain set", DOMAIN_FIELDS},
    {"domain list", " "},
    {"domain show", " name:text "},
    {"domain enable", " name:text "},
    {"domain disable", " name:text "},
    {"domain remove", " name:text "},
    {"domain close", " name:text force:flag probe:object "},
    {"domain close check", " name:text "},
    {"domain close addresses", " name:text after:text "},
    {"domain close progress", " name:text "},
    {"domain reopen", " name:text after:text "},
    {"domain strangers", " name:text limit:number "},
    {"domain admit", " name:text addresses:list "},
    {"domain unadmit", " name:text addresses:list "},
    {"account list", " domain:text after:text "},
    {"account show", " address:text "},
    {"account pause", " address:text "},
    {"account resume", " address:text "},
    {"account remove", " address:text "},
    {"account lock", " address:text login:flag submission:flag all:flag "},
    {"account unlock", " address:text login:flag submission:flag all:flag "},
    {"account import", " entries:list dry_run:flag partial:flag "},
    {"account accept", " address:text items:list "},
    {"account password",
     " address:text key:text blob:text label:text keep:flag "},
    {"freeze", " domain:text host:text "},
    {"thaw", " domain:text host:text "},
    {"name add", " name:text address:text legacy_user:text "},
    {"name remove", " name:text "},
    {"name list", " domain:text "},
    {"migrate",
     " domain:text after:text addresses:list entries:list dry_run:flag "},
    {"cutover", " address:text domain:text after:text now:flag "},
    {"rollback", " address:text domain:text after:text changes:flag "},
    {"verify", " address:text "},
    {"status", " domain:text "},
    {"audit", " address:text domain:text since:number limit:number "},
    {"key show", " "},
};

static const char *fields_of(const char *cmd)
{
    for (size_t i = 0; cmd && i < sizeof(takes) / sizeof(takes[0]); i++)
        if (strcmp(takes[i].cmd, cmd) == 0)
            return takes[i].fields;
    return NULL;
}

/* What stands behind " name:" in the list; NULL if the name does not. */
static const char *type_of(const char *fields, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = fields; (at = strchr(at, ' ')) && at[1]; at++)
        if (strncmp(at + 1, name, length) == 0 && at[1 + length] == ':')
            return at + 2 + length;
    return NULL;
}

static bool is_of(const json_t *value, const char *type)
{
    switch (type[0]) {
    case 't': return json_is_string(value);
    case 'n': return json_is_integer(value);
    case 'f': return json_is_boolean(value);
    case 'l': return json_is_array(value);
    default: return json_is_object(value);
    }
}

int command_fields_check(const json_t *request, struct err *err)
{
    const char *fields = fields_of(wire_text(request, "cmd"));
    const char *name, *type;
    const json_t *value;

    json_object_foreach((json_t *)request, name, value)
    {
        if (!fields || strcmp(name, "cmd") == 0 || json_is_null(value))
            continue;
        type = strcmp(name, "reason") == 0 ? "text " : type_of(fields, name);
        if (!type)
            return err_set(err, ERR_SETUP, "%s takes no \"%.60s\"",
                           wire_text(request, "cmd"), name);
        if (!is_of(value, type))
            return err_set(err, ERR_SETUP, "\"%s\" is no %.*s", name,
                           (int)strcspn(type, " "), type);
    }
    return 0;
}
