#include "base/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

#define DAY_S  86400
#define FOLDER "/usr/share/zoneinfo"
#define MAGIC  "TZif"

/* The environment's zone, put aside. */
struct stay {
    char *before; /* owned; NULL: there was none */
};

static struct stay enter(const char *name)
{
    const char *before = getenv("TZ");
    struct stay stay = {before ? mem_dup_text(before) : NULL};
    char value[ZONE_NAME_MAX + 2];

    snprintf(value, sizeof(value), ":%s", name);
    setenv("TZ", value, 1);
    tzset();
    return stay;
}

static void leave(struct stay *stay)
{
    if (stay->before)
        setenv("TZ", stay->before, 1);
    else
        unsetenv("TZ");
    free(stay->before);
    tzset();
}

bool zone_exists(const char *name)
{
    const char *folder = getenv("TZDIR");
    char path[512], magic[sizeof(MAGIC) - 1];
    bool is_zone;
    FILE *file;

    /* it becomes a path, in the C library too */
    if (!*name || strlen(name) >= ZONE_NAME_MAX || *name == '/' ||
        strstr(name, "..") || strchr(name, ':'))
        return false;
    snprintf(path, sizeof(path), "%s/%s", folder ? folder : FOLDER, name);
    file = fopen(path, "re");
    if (!file)
        return strcmp(name, "UTC") == 0;
    is_zone = fread(magic, 1, sizeof(magic), file) == sizeof(magic) &&
              memcmp(magic, MAGIC, sizeof(magic)) == 0;
    fclose(file);
    return is_zone;
}

/* Within a stay. */
static struct zone_time local_at(int64_t unix_s)
{
    time_t seconds = (time_t)unix_s;
    struct zone_time t = {0, 0, 0};
    struct tm tm;
    int64_t local = unix_s;

    if (localtime_r(&seconds, &tm)) {
        t.offset = (int)tm.tm_gmtoff;
        local += t.offset;
    }
    t.day = local / DAY_S - (local % DAY_S < 0);
    t.second = (int)(local - t.day * DAY_S);
    return t;
}

struct zone_time zone_at(const char *name, int64_t unix_s)
{
    struct stay stay = enter(name);
    struct zone_time t = local_at(unix_s);

    leave(&stay);
    return t;
}

/* Within a stay: what the clock shows, in seconds since its own 1970. */
static int64_t shown_at(int64_t unix_s)
{
    return unix_s + local_at(unix_s).offset;
}

/* Between a moment before, and one after, the only change of offset: the first
   at which the new one holds. */
static int64_t change_between(int64_t before, int64_t after)
{
    int offset = local_at(before).offset;

    while (after - before > 1) {
        int64_t middle = before + (after - before) / 2;

        if (local_at(middle).offset == offset)
            before = middle;
        else
            after = middle;
    }
    return after;
}

int64_t zone_moment(const char *name, int64_t day, int second)
{
    struct stay stay = enter(name);
    int64_t wanted = day * DAY_S + second;
    /* no zone is a day away from UTC, and none changes twice in two days */
    int64_t before = wanted - DAY_S - DAY_S / 2;
    int64_t after = wanted + DAY_S + DAY_S / 2;
    int64_t early = wanted - local_at(before).offset;
    int64_t late = wanted - local_at(after).offset;
    int64_t moment = early;

    if (early != late && shown_at(early) != wanted)
        moment =
            shown_at(late) == wanted ? late : change_between(before, after);
    leave(&stay);
    return moment;
}
