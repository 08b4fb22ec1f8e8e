/*
 * Local time of any zone of the system's tz database. The C library knows one
 * zone at a time, that of the environment: it is put there for the length of a
 * call. For processes of one thread only.
 */
#ifndef BASE_ZONE_H
#define BASE_ZONE_H

#include <stdbool.h>
#include <stdint.h>

#define ZONE_NAME_MAX 64

/* A moment as a calendar and a clock of that zone show it. */
struct zone_time {
    int64_t day; /* days since 1970-01-01, of the local date */
    int second;  /* of the day: 0 to 86399 */
    int offset;  /* seconds east of UTC */
};

/* Whether the tz database has a zone of that name ("Europe/Berlin", "UTC"). */
bool zone_exists(const char *name);
/* The local time of a Unix time (seconds). A zone that is not there is UTC. */
struct zone_time zone_at(const char *name, int64_t unix_s);
/* The first moment of that local day at which the clock shows `second` or later
   (86400: the end of the day): a time that comes twice counts the first time, a
   time that the clock jumps over is the moment of the jump. */
int64_t zone_moment(const char *name, int64_t day, int second);

#endif
