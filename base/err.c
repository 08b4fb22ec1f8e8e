#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_name[] = {
    "none", "retry", "denied", "item", "peer", "setup",
};
_Static_assert(sizeof kind_name / sizeof *kind_name == ERR_COUNT,
               "one name for each kind");

int err_set(struct err *err, enum err_kind kind, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;

    if (err == NULL)
        return -1;
    /* by way of a copy: the arguments may point into err->text */
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(err->text, text, sizeof text);
    err->kind = kind;
    return -1;
}

int err_prefix(struct err *err, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;
    size_t used;

    if (err == NULL)
        return -1;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    used = strlen(text);
    if (used + 2 < sizeof text) {
        size_t room = sizeof text - used - 2, length = strlen(err->text);

        if (length > room - 1)
            length = room - 1;
        memcpy(text + used, ": ", 2);
        memcpy(text + used + 2, err->text, length);
        text[used + 2 + length] = '\0';
    }
    memcpy(err->text, text, sizeof text);
    return -1;
}

void err_clear(struct err *err)
{
    if (err == NULL)
        return;
    err->kind = ERR_NONE;
    err->text[0] = '\0';
}

enum err_kind err_kind_of_errno(int number)
{
    return number == ENOSPC || number == EDQUOT ? ERR_RETRY : ERR_SETUP;
}

const char *err_kind_name(enum err_kind kind)
{
    if ((unsigned)kind >= ERR_COUNT)
        return kind_name[ERR_RETRY];
    return kind_name[kind];
}

enum err_kind err_kind_named(const char *name)
{
    int i;

    for (i = 0; name != NULL && i < ERR_COUNT; i++)
        if (strcmp(name, kind_name[i]) == 0)
            return (enum err_kind)i;
    return ERR_RETRY;
}
