/*
 * When mailboxes may flip by themselves: windows of the week, and days on which
 * nothing does. Pure but for the tz database.
 *
 *   windows   [DAYS] HH:MM-HH:MM [, [DAYS] HH:MM-HH:MM ...] [ZONE]
 *             DAYS: Mo Tu We Th Fr Sa Su, lists and ranges: "Mo,We-Fr"; none:
 *             every day. An end that is not after the start lies on the next
 *             day; the window belongs to the day on which it begins.
 *             24:00 is the end of the day. ZONE of the tz database, or UTC.
 *   blackout  2026-12-24..2026-12-26 2027-01-01: local days of that zone
 *
 * When the clock changes, an edge that comes twice counts the first time, one
 * that is jumped over is the moment of the jump.
 */
#ifndef ACCOUNT_WINDOW_H
#define ACCOUNT_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/zone.h"

#define WINDOW_SPANS_MAX 16
#define WINDOW_DAYS_MAX  48

struct window {
    char zone[ZONE_NAME_MAX];
    unsigned span_count; /* 0: open at any time */
    struct window_span {
        unsigned days; /* bit 0 is Monday */
        int start_s;   /* 0 to 86399 */
        int end_s;     /* up to 86400 */
        bool is_over_midnight;
    } spans[WINDOW_SPANS_MAX];
    unsigned black_count;
    struct window_black {
        int64_t first, last; /* days since 1970-01-01 */
    } blacks[WINDOW_DAYS_MAX];
};

/* Both texts may be "". ERR_SETUP says which word is wrong, and how. */
int window_parse(const char *windows, const char *blackout, struct window *out,
                 struct err *err);
/* Whether a moment (Unix ms) is in a window; in the days of the blackout. */
bool window_is_open(const struct window *w, int64_t now_ms);
bool window_is_black(const struct window *w, int64_t now_ms);
/* The first moment from now_ms on that is in a window and on no day of the
   blackout; 0 if there is none within three years. */
int64_t window_next_ms(const struct window *w, int64_t now_ms);

#endif
