#include "db/states.h"

#include <stddef.h>
#include <string.h>

#define LENGTH_OF(names) ((int)(sizeof(names) / sizeof((names)[0])))

static const char *const route_name[] = {"legacy", "held", "local"};
static const char *const copy_name[] = {"none",  "initial", "delta",  "final",
                                        "trail", "done",    "failed", "paused"};
static const char *const password_name[] = {"none", "learnt", "confirmed"};
static const char *const on_flip_name[] = {"", "due", "done", "failed"};
_Static_assert(sizeof(on_flip_name) / sizeof(on_flip_name[0]) == ON_FLIP_COUNT,
               "a name for each state");

static const char *const cutover_name[] = {"auto", "manual"};

_Static_assert(LENGTH_OF(route_name) == ROUTE_COUNT, "a name for each route");
_Static_assert(LENGTH_OF(copy_name) == COPY_COUNT, "a name for each copy");
_Static_assert(LENGTH_OF(password_name) == PASSWORD_COUNT,
               "a name for each password state");
_Static_assert(LENGTH_OF(cutover_name) == CUTOVER_COUNT,
               "a name for each cutover");

static const char *name_at(const char *const *names, int count, unsigned value)
{
    return value < (unsigned)count ? names[value] : "unknown";
}

static int place_of(const char *const *names, int count, const char *name)
{
    if (name == NULL)
        return -1;
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -1;
}

const char *account_route_name(enum account_route route)
{
    return name_at(route_name, ROUTE_COUNT, route);
}

const char *account_copy_name(enum account_copy copy)
{
    return name_at(copy_name, COPY_COUNT, copy);
}

const char *password_state_name(enum password_state state)
{
    return name_at(password_name, PASSWORD_COUNT, state);
}

const char *domain_cutover_name(enum domain_cutover cutover)
{
    return name_at(cutover_name, CUTOVER_COUNT, cutover);
}

int account_route_named(const char *name)
{
    return place_of(route_name, ROUTE_COUNT, name);
}

int account_copy_named(const char *name)
{
    return place_of(copy_name, COPY_COUNT, name);
}

int password_state_named(const char *name)
{
    return place_of(password_name, PASSWORD_COUNT, name);
}

int domain_cutover_named(const char *name)
{
    return place_of(cutover_name, CUTOVER_COUNT, name);
}

const char *on_flip_state_name(enum on_flip_state state)
{
    return name_at(on_flip_name, ON_FLIP_COUNT, state);
}

int on_flip_state_named(const char *name)
{
    return place_of(on_flip_name, ON_FLIP_COUNT, name);
}
