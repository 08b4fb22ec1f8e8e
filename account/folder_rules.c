#include "account/folder_rules.h"

#include <string.h>
#include <strings.h>

/* The next pattern without the blanks around it; false: there is none. */
static bool next_pattern(const char **rules, const char **start, size_t *length)
{
    const char *at = *rules;

    if (at == NULL)
        return false;
    at += strspn(at, " ");
    *start = at;
    *length = strcspn(at, ",");
    *rules = at[*length] == ',' ? at + *length + 1 : NULL;
    while (*length > 0 && at[*length - 1] == ' ')
        (*length)--;
    return true;
}

/* The whole pattern against the name, or against a beginning of it that ends
   where a level does. Without recursion: after a mismatch the last '*' takes
   one character more. */
static bool matches(const char *pattern, size_t length, const char *name)
{
    const char *end = pattern + length, *star = NULL, *resume = NULL;

    for (;;) {
        if (pattern == end && (*name == '\0' || *name == '/'))
            return true;
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (pattern < end && *name != '\0' && *pattern == *name) {
            pattern++;
            name++;
        } else if (star != NULL && *resume != '\0') {
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
}

static bool is_inbox(const char *name)
{
    return strcasecmp(name, "INBOX") == 0;
}

bool folder_rules_leave_out(const char *rules, const char *name)
{
    const char *pattern;
    size_t length;

    while (!is_inbox(name) && next_pattern(&rules, &pattern, &length))
        if (length > 0 && matches(pattern, length, name))
            return true;
    return false;
}

int folder_rules_check(const char *rules, struct err *err)
{
    const char *pattern;
    size_t length;

    for (const char *at = rules; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return err_set(err, ERR_SETUP, "a control character");
    if (*rules == '\0')
        return 0;
    while (next_pattern(&rules, &pattern, &length)) {
        if (length == 0)
            return err_set(err, ERR_SETUP, "an empty pattern");
        if (matches(pattern, length, "INBOX"))
            return err_set(err, ERR_SETUP,
                           "\"%.*s\" would leave out INBOX, which is always "
                           "copied",
                           (int)length, pattern);
    }
    return 0;
}
