#include "account/difference.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum field_kind {
    FIELD_TEXT,
    FIELD_BOOL,
    FIELD_UNSIGNED,
    FIELD_NUMBER, /* int64_t */
    FIELD_WORD    /* an enum with names */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t at;
    const char *(*word)(int value);
};

static const char *route_word(int value)
{
    return account_route_name((enum account_route)value);
}

static const char *copy_word(int value)
{
    return account_copy_name((enum account_copy)value);
}

static const char *password_word(int value)
{
    return password_state_name((enum password_state)value);
}

static const char *on_flip_word(int value)
{
    return on_flip_state_name((enum on_flip_state)value);
}

static const char *rollback_word(int value)
{
    static const char *const words[] = {"no", "new-mail", "changes"};

    return value >= 0 && value < 3 ? words[value] : "?";
}

static const char *cutover_word(int value)
{
    return domain_cutover_name((enum domain_cutover)value);
}

#define FIELD(name, kind, type, member)                                        \
    {                                                                          \
        name, kind, offsetof(type, member), NULL                               \
    }
#define WORD(name, type, member, fn)                                           \
    {                                                                          \
        name, FIELD_WORD, offsetof(type, member), fn                           \
    }
#define A(name, kind, member) FIELD(name, kind, struct account, member)
#define D(name, kind, member) FIELD(name, kind, struct domain, member)

static const struct field account_fields[] = {
    WORD("route", struct account, route, route_word),
    WORD("copy", struct account, copy, copy_word),
    A("epoch", FIELD_NUMBER, epoch),
    WORD("password", struct account, password_state, password_word),
    A("sealed", FIELD_BOOL, has_seal),
    A("hash", FIELD_BOOL, has_hash),
    A("legacy_user", FIELD_TEXT, legacy_user),
    A("wants_flip", FIELD_UNSIGNED, wants_flip),
    A("next_flip_at", FIELD_NUMBER, next_flip_at),
    A("hold_failures", FIELD_UNSIGNED, hold_failures),
    A("set_aside", FIELD_NUMBER, set_aside),
    A("accepted", FIELD_NUMBER, accepted),
    A("lock_login", FIELD_BOOL, is_login_locked),
    A("lock_submission", FIELD_BOOL, is_submission_locked),
    A("question", FIELD_TEXT, question),
    A("mailbox_id", FIELD_TEXT, mailbox_id),
    A("generation", FIELD_NUMBER, generation),
    WORD("on_flip", struct account, on_flip, on_flip_word),
    A("on_flip_attempts", FIELD_UNSIGNED, on_flip_attempts),
    A("trail_ended_at", FIELD_NUMBER, trail_ended_at),
    A("local_password_at", FIELD_NUMBER, local_password_at),
    WORD("wants_rollback", struct account, wants_rollback, rollback_word),
    A("rolled_back_at", FIELD_NUMBER, rolled_back_at),
    A("flipped_at", FIELD_NUMBER, flipped_at),
};

static const struct field domain_fields[] = {
    D("enabled", FIELD_BOOL, is_enabled),
    D("imap", FIELD_TEXT, imap_url),
    D("pop3", FIELD_TEXT, pop3_url),
    D("smtp", FIELD_TEXT, smtp_url),
    D("submission", FIELD_TEXT, submission_url),
    D("sieve", FIELD_TEXT, sieve_url),
    D("username", FIELD_TEXT, username_template),
    D("master_user", FIELD_TEXT, master_user),
    D("on_flip", FIELD_TEXT, on_flip),
    WORD("cutover", struct domain, cutover, cutover_word),
    D("hold_seconds", FIELD_UNSIGNED, hold_seconds),
    D("window", FIELD_TEXT, cutover_window),
    D("blackout", FIELD_TEXT, blackout),
    D("exclude", FIELD_TEXT, exclude),
    D("admit_share", FIELD_UNSIGNED, admit_share),
    D("admit_listed", FIELD_BOOL, is_admit_listed),
    D("admit_rate", FIELD_UNSIGNED, admit_rate),
    D("learn_days", FIELD_UNSIGNED, learn_days),
    D("rollback_days", FIELD_UNSIGNED, rollback_days),
    D("quiet_days", FIELD_UNSIGNED, quiet_days),
    D("closed_at", FIELD_NUMBER, closed_at),
};

/* A text with a space in it is quoted, as in the log. */
static void print_text(const char *text, char *out, size_t size)
{
    snprintf(out, size, *text == '\0' || strchr(text, ' ') ? "\"%s\"" : "%s",
             text);
}

static void print_field(const struct field *f, const void *row, char *out,
                        size_t size)
{
    const char *at = (const char *)row + f->at;
    int64_t number;
    unsigned count;
    bool flag;
    int word;

    switch (f->kind) {
    case FIELD_TEXT: print_text(at, out, size); break;
    case FIELD_BOOL:
        memcpy(&flag, at, sizeof(flag));
        snprintf(out, size, "%s", flag ? "yes" : "no");
        break;
    case FIELD_UNSIGNED:
        memcpy(&count, at, sizeof(count));
        snprintf(out, size, "%u", count);
        break;
    case FIELD_NUMBER:
        memcpy(&number, at, sizeof(number));
        snprintf(out, size, "%" PRId64, number);
        break;
    case FIELD_WORD:
        memcpy(&word, at, sizeof(word));
        print_text(f->word(word), out, size);
        break;
    }
}

static void append(char *out, const char *name, const char *value)
{
    size_t used = strlen(out);

    snprintf(out + used, DIFFERENCE_MAX - used, "%s%s=%s", used ? " " : "",
             name, value);
}

static bool is_empty(const char *value)
{
    return strcmp(value, "\"\"") == 0 || strcmp(value, "0") == 0 ||
           strcmp(value, "no") == 0;
}

static bool compare(const struct field *fields, size_t count, const void *was,
                    const void *is, struct difference *out)
{
    char one[600] = "", other[600] = "";
    bool has_changed = false;

    out->was[0] = out->became[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (was)
            print_field(&fields[i], was, one, sizeof(one));
        if (is)
            print_field(&fields[i], is, other, sizeof(other));
        if (was && is ? strcmp(one, other) == 0 : is_empty(was ? one : other))
            continue;
        if (was)
            append(out->was, fields[i].name, one);
        if (is)
            append(out->became, fields[i].name, other);
        has_changed = true;
    }
    return has_changed;
}

bool account_difference(const struct account *was, const struct account *is,
                        struct difference *out)
{
    return compare(account_fields,
                   sizeof(account_fields) / sizeof(account_fields[0]), was, is,
                   out);
}

bool domain_difference(const struct domain *was, const struct domain *is,
                       struct difference *out)
{
    return compare(domain_fields,
                   sizeof(domain_fields) / sizeof(domain_fields[0]), was, is,
                   out);
}
