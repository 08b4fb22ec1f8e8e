#include "account/domain_settings.h"

#include <jansson.h>
#include <stddef.h>
#include <string.h>

struct setting {
    const char *name;
    size_t offset, size;
    enum { SETTING_TEXT, SETTING_NUMBER, SETTING_TIME, SETTING_BOOL } kind;
};

#define TEXT(member)                                                           \
    {                                                                          \
#member, offsetof(struct domain, member),                              \
            sizeof(((struct domain *)NULL)->member), SETTING_TEXT              \
    }
#define OTHER(member, kind)                                                    \
    {                                                                          \
#member, offsetof(struct domain, member), 0, kind                      \
    }

static const struct setting settings[] = {
    TEXT(imap_url),
    TEXT(pop3_url),
    TEXT(smtp_url),
    TEXT(submission_url),
    TEXT(sieve_url),
    TEXT(username_template),
    TEXT(master_user),
    TEXT(on_flip),
    TEXT(cutover_window),
    TEXT(blackout),
    TEXT(exclude),
    OTHER(is_enabled, SETTING_BOOL),
    OTHER(is_admit_listed, SETTING_BOOL),
    OTHER(hold_seconds, SETTING_NUMBER),
    OTHER(admit_share, SETTING_NUMBER),
    OTHER(admit_rate, SETTING_NUMBER),
    OTHER(learn_days, SETTING_NUMBER),
    OTHER(rollback_days, SETTING_NUMBER),
    OTHER(quiet_days, SETTING_NUMBER),
    OTHER(created_at, SETTING_TIME),
    OTHER(closed_at, SETTING_TIME),
};

#define SETTING_COUNT (sizeof(settings) / sizeof(settings[0]))

static json_t *write_one(const struct setting *s, const struct domain *d)
{
    const char *at = (const char *)d + s->offset;

    switch (s->kind) {
    case SETTING_TEXT: return json_string(at);
    case SETTING_NUMBER:
        return json_integer(*(const unsigned *)(const void *)at);
    case SETTING_TIME: return json_integer(*(const int64_t *)(const void *)at);
    case SETTING_BOOL: return json_boolean(*(const bool *)at);
    }
    return NULL;
}

char *domain_settings_write(const struct domain *d)
{
    json_t *object = json_object();
    char *text;

    for (size_t i = 0; i < SETTING_COUNT; i++)
        json_object_set_new(object, settings[i].name,
                            write_one(&settings[i], d));
    json_object_set_new(object, "cutover",
                        json_string(domain_cutover_name(d->cutover)));
    text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return text;
}

static void read_one(const struct setting *s, const json_t *value,
                     struct domain *d)
{
    char *at = (char *)d + s->offset;
    const char *text = json_string_value(value);

    if (s->kind == SETTING_TEXT && text != NULL && strlen(text) < s->size)
        memcpy(at, text, strlen(text) + 1);
    else if (s->kind == SETTING_NUMBER && json_is_integer(value))
        *(unsigned *)(void *)at = (unsigned)json_integer_value(value);
    else if (s->kind == SETTING_TIME && json_is_integer(value))
        *(int64_t *)(void *)at = json_integer_value(value);
    else if (s->kind == SETTING_BOOL && json_is_boolean(value))
        *(bool *)at = json_is_true(value);
}

bool domain_settings_read(const char *text, struct domain *d)
{
    json_t *object = json_loads(text, 0, NULL);
    const char *cutover = json_string_value(json_object_get(object, "cutover"));
    int number = cutover == NULL ? -1 : domain_cutover_named(cutover);

    if (!json_is_object(object)) {
        json_decref(object);
        return false;
    }
    memcpy(d->username_template, "{address}", sizeof("{address}"));
    d->hold_seconds = 20;
    d->admit_share = DOMAIN_ADMIT_ALL;
    d->learn_days = DOMAIN_LEARN_DAYS;
    d->rollback_days = DOMAIN_ROLLBACK_DAYS;
    d->quiet_days = DOMAIN_QUIET_DAYS;
    /* a word of a later version: nothing flips by itself */
    d->cutover = number == -1 ? CUTOVER_MANUAL : (enum domain_cutover)number;
    for (size_t i = 0; i < SETTING_COUNT; i++)
        read_one(&settings[i], json_object_get(object, settings[i].name), d);
    json_decref(object);
    return true;
}
