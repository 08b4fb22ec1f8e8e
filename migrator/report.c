#include "migrator/report.h"

#include <stdio.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"

static const struct {
    const char *key;
    size_t offset;
} numbers[] = {
#define NUMBER(name)                                                           \
    {                                                                          \
#name, offsetof(struct migration_report, name)                         \
    }
    NUMBER(folders),        NUMBER(messages),    NUMBER(bytes),
    NUMBER(messages_total), NUMBER(bytes_total), NUMBER(copied),
    NUMBER(removed),        NUMBER(reflagged),   NUMBER(appended),
    NUMBER(set_aside),      NUMBER(differences), NUMBER(credential),
#undef NUMBER
};
#define NUMBER_COUNT (sizeof(numbers) / sizeof(numbers[0]))

json_t *migration_report_encode(const struct migration_report *report)
{
    json_t *m = json_object();

    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        int64_t value;

        memcpy(&value, (const char *)report + numbers[i].offset, sizeof(value));
        json_object_set_new(m, numbers[i].key, json_integer(value));
    }
    json_object_set_new(m, "is_quiet", json_boolean(report->is_quiet));
    if (report->has_prefix) {
        json_object_set_new(m, "prefix", json_string(report->prefix));
        json_object_set_new(m, "separator", json_string(report->separator));
    }
    if (report->details != NULL)
        json_object_set(m, "details", report->details);
    if (report->items != NULL)
        json_object_set(m, "items", report->items);
    json_object_set_new(m, "is_master_good",
                        json_boolean(report->is_master_good));
    json_object_set_new(m, "is_verified", json_boolean(report->is_verified));
    json_object_set_new(m, "is_local_ready",
                        json_boolean(report->is_local_ready));
    if (json_object_set_new(m, "local_fault",
                            json_string(report->local_fault)) == -1)
        json_object_set_new(m, "local_fault",
                            json_string(log_safe(report->local_fault)));
    json_object_set_new(m, "mailbox_id", json_string(report->mailbox_id));
    json_object_set_new(m, "question", json_string(report->question));
    json_object_set_new(m, "renewal", json_string(report->renewal));
    if (report->refused_count > 0) {
        json_t *list = json_array();

        for (unsigned i = 0; i < report->refused_count; i++)
            json_array_append_new(list, json_integer(report->refused[i]));
        json_object_set_new(m, "refused", list);
    }
    return m;
}

static void take_text(const json_t *message, const char *key, char *out,
                      size_t size)
{
    const char *text = json_string_value(json_object_get(message, key));

    snprintf(out, size, "%s", text != NULL ? text : "");
}

void migration_report_decode(const json_t *message,
                             struct migration_report *out)
{
    const char *prefix = json_string_value(json_object_get(message, "prefix"));
    const char *separator =
        json_string_value(json_object_get(message, "separator"));
    json_t *details = json_object_get(message, "details");
    json_t *items = json_object_get(message, "items");
    const char *fault =
        json_string_value(json_object_get(message, "local_fault"));
    const json_t *refused;
    size_t at;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        int64_t value =
            json_integer_value(json_object_get(message, numbers[i].key));

        memcpy((char *)out + numbers[i].offset, &value, sizeof(value));
    }
    out->is_quiet = json_is_true(json_object_get(message, "is_quiet"));
    out->has_prefix = prefix != NULL && separator != NULL;
    snprintf(out->prefix, sizeof(out->prefix), "%s",
             prefix != NULL ? prefix : "");
    snprintf(out->separator, sizeof(out->separator), "%s",
             separator != NULL ? separator : "");
    if (json_is_array(details))
        out->details = json_incref(details);
    if (json_is_array(items))
        out->items = json_incref(items);
    out->is_master_good =
        json_is_true(json_object_get(message, "is_master_good"));
    out->is_verified = json_is_true(json_object_get(message, "is_verified"));
    out->is_local_ready =
        json_is_true(json_object_get(message, "is_local_ready"));
    snprintf(out->local_fault, sizeof(out->local_fault), "%s",
             fault != NULL ? fault : "");
    take_text(message, "mailbox_id", out->mailbox_id, sizeof(out->mailbox_id));
    take_text(message, "question", out->question, sizeof(out->question));
    take_text(message, "renewal", out->renewal, sizeof(out->renewal));
    json_array_foreach(json_object_get(message, "refused"), at, refused)
    {
        if (out->refused_count < MIGRATION_REFUSED_MAX)
            out->refused[out->refused_count++] = json_integer_value(refused);
    }
}

void migration_report_release(struct migration_report *report)
{
    json_decref(report->details);
    json_decref(report->items);
    report->details = report->items = NULL;
}
