#include "account/window.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAY_S      86400
#define EVERY_DAY  0x7fu
#define LOOK_AHEAD (3 * 366)
#define WORD_MAX   128
#define NOT_A_WINDOW                                                           \
    "such as \"Sa-Su 22:00-05:00 Europe/Berlin\", or \"Mo,We-Fr 01:00-04:00, " \
    "Su 00:00-24:00\""

static const char *const day_names[] = {"Mo", "Tu", "We", "Th",
                                        "Fr", "Sa", "Su"};

/* --- words */

/* The next word up to a space or comma; "," is a word of its own. False at the
   end of the text. */
static bool next_word(const char **at, char word[WORD_MAX])
{
    size_t length;

    *at += strspn(*at, " \t");
    if (!**at)
        return false;
    length = **at == ',' ? 1 : strcspn(*at, " \t,");
    if (length >= WORD_MAX)
        length = WORD_MAX - 1;
    memcpy(word, *at, length);
    word[length] = '\0';
    *at += length;
    return true;
}

/* 0 to 6 for the two letters there, and moves on; -1. */
static int take_day(const char **at)
{
    for (int i = 0; i < 7; i++)
        if (strncasecmp(*at, day_names[i], 2) == 0) {
            *at += 2;
            return i;
        }
    return -1;
}

/* "Mo" or "Sa-Tu" -> bits; 0 if it is neither. */
static unsigned parse_days(const char *word)
{
    int first = take_day(&word), last = first;
    unsigned days;

    if (first == -1)
        return 0;
    if (*word == '-') {
        word++;
        last = take_day(&word);
    }
    if (last == -1 || *word)
        return 0;
    days = 1u << first;
    while (first != last) {
        first = (first + 1) % 7;
        days |= 1u << first;
    }
    return days;
}

/* Up to `most` digits, and moves on; -1 if there is none. */
static int take_number(const char **at, int most)
{
    int value = 0, count = 0;

    for (; **at >= '0' && **at <= '9' && count < most; (*at)++, count++)
        value = value * 10 + (**at - '0');
    return count == 0 ? -1 : value;
}

/* "22:00", "24:00" -> seconds, and moves on; -1. */
static int take_clock(const char **at)
{
    int hour = take_number(at, 2), minute;

    if (hour == -1 || **at != ':')
        return -1;
    (*at)++;
    minute = take_number(at, 2);
    if (minute == -1 || minute > 59 || hour > 24 || (hour == 24 && minute))
        return -1;
    return hour * 3600 + minute * 60;
}

static bool is_span(const char *word)
{
    return *word >= '0' && *word <= '9';
}

static int parse_span(const char *word, unsigned days, struct window *w,
                      struct err *err)
{
    struct window_span *span = &w->spans[w->span_count];
    const char *at = word;

    if (w->span_count == WINDOW_SPANS_MAX)
        return err_set(err, ERR_SETUP, "more than %d windows",
                       WINDOW_SPANS_MAX);
    span->start_s = take_clock(&at);
    span->end_s = *at == '-' ? (at++, take_clock(&at)) : -1;
    if (span->start_s == -1 || span->end_s == -1 || *at ||
        span->start_s == DAY_S)
        return err_set(err, ERR_SETUP,
                       "not a time of day from HH:MM to HH:MM:"
                       " \"%s\"",
                       word);
    if (span->start_s == span->end_s)
        return err_set(err, ERR_SETUP,
                       "\"%s\" is empty; a whole day is 00:00-24:00", word);
    span->is_over_midnight = span->end_s < span->start_s;
    span->days = days ? days : EVERY_DAY;
    w->span_count++;
    return 0;
}

/* DAYS, then a time; then a comma and the next, or the zone, or the end. */
static int parse_windows(const char *text, struct window *w, struct err *err)
{
    enum { AT_START, IN_DAYS, AFTER_DAY, AFTER_TIME, AFTER_ZONE } at = AT_START;
    char word[WORD_MAX];
    unsigned days = 0, more;

    while (next_word(&text, word)) {
        if (*word == ',' && (at == AFTER_DAY || at == AFTER_TIME)) {
            at = at == AFTER_DAY ? IN_DAYS : AT_START;
        } else if ((at == AT_START || at == IN_DAYS) &&
                   (more = parse_days(word))) {
            days |= more;
            at = AFTER_DAY;
        } else if ((at == AT_START || at == AFTER_DAY) && is_span(word)) {
            if (parse_span(word, days, w, err) == -1)
                return -1;
            days = 0;
            at = AFTER_TIME;
        } else if (at == AFTER_TIME && zone_exists(word)) {
            memcpy(w->zone, word, strlen(word) + 1); /* fits: see zone_exists */
            at = AFTER_ZONE;
        } else if (at == AFTER_TIME) {
            return err_set(err, ERR_SETUP, "no such time zone: \"%s\"", word);
        } else {
            return err_set(err, ERR_SETUP, "\"%s\" is out of place; %s", word,
                           NOT_A_WINDOW);
        }
    }
    if (w->span_count > 0 && at != AFTER_TIME && at != AFTER_ZONE)
        return err_set(err, ERR_SETUP,
                       "a time of day is missing at the end; "
                       "%s",
                       NOT_A_WINDOW);
    if (w->span_count == 0)
        return err_set(err, ERR_SETUP, "no time of day; %s", NOT_A_WINDOW);
    return 0;
}

/* --- days */

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days since 1970-01-01 of a date that is one (Gregorian); -1. */
static int64_t day_of(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30,
                                  31, 31, 30, 31, 30, 31};
    int64_t days = 0;

    if (year < 1970 || year > 9999 || month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] + (month == 2 && is_leap(year)))
        return -1;
    for (int y = 1970; y < year; y++)
        days += is_leap(y) ? 366 : 365;
    for (int m = 1; m < month; m++)
        days += lengths[m - 1] + (m == 2 && is_leap(year));
    return days + day - 1;
}

/* "2026-12-24", and moves on; -1. */
static int64_t take_date(const char **at)
{
    const char *start = *at;
    int year = take_number(at, 4), month = -1, day = -1;

    if (**at == '-') {
        (*at)++;
        month = take_number(at, 2);
    }
    if (**at == '-') {
        (*at)++;
        day = take_number(at, 2);
    }
    return *at - start == 10 ? day_of(year, month, day) : -1;
}

static int parse_blackout(const char *text, struct window *w, struct err *err)
{
    char word[WORD_MAX];

    while (next_word(&text, word)) {
        struct window_black *black = &w->blacks[w->black_count];
        const char *at = word;

        if (*word == ',')
            continue;
        if (w->black_count == WINDOW_DAYS_MAX)
            return err_set(err, ERR_SETUP, "more than %d days or ranges",
                           WINDOW_DAYS_MAX);
        black->first = black->last = take_date(&at);
        if (strncmp(at, "..", 2) == 0) {
            at += 2;
            black->last = take_date(&at);
        }
        if (black->first == -1 || black->last == -1 || *at)
            return err_set(err, ERR_SETUP,
                           "not a day: \"%s\"; such as 2026-12-24 or "
                           "2026-12-24..2026-12-26",
                           word);
        if (black->last < black->first)
            return err_set(err, ERR_SETUP, "\"%s\" ends before it begins",
                           word);
        w->black_count++;
    }
    return 0;
}

int window_parse(const char *windows, const char *blackout, struct window *out,
                 struct err *err)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->zone, sizeof(out->zone), "UTC");
    if (*windows && parse_windows(windows, out, err) == -1)
        return -1;
    return parse_blackout(blackout, out, err);
}

/* --- moments */

static bool begins_on(const struct window_span *span, int64_t day)
{
    /* 1970-01-01 was a Thursday */
    return span->days >> ((day % 7 + 7 + 3) % 7) & 1;
}

static int64_t start_of(const struct window *w, const struct window_span *span,
                        int64_t day)
{
    return zone_moment(w->zone, day, span->start_s);
}

static int64_t end_of(const struct window *w, const struct window_span *span,
                      int64_t day)
{
    return zone_moment(w->zone, span->is_over_midnight ? day + 1 : day,
                       span->end_s);
}

static bool is_black_day(const struct window *w, int64_t day)
{
    for (unsigned i = 0; i < w->black_count; i++)
        if (w->blacks[i].first <= day && day <= w->blacks[i].last)
            return true;
    return false;
}

/* In a window that begins on that local day. */
static bool is_open_of(const struct window *w, int64_t day, int64_t unix_s)
{
    for (unsigned i = 0; i < w->span_count; i++) {
        const struct window_span *span = &w->spans[i];

        if (begins_on(span, day) && start_of(w, span, day) <= unix_s &&
            unix_s < end_of(w, span, day))
            return true;
    }
    return false;
}

static int64_t seconds_of(int64_t ms)
{
    return ms / 1000 - (ms % 1000 < 0);
}

bool window_is_open(const struct window *w, int64_t now_ms)
{
    int64_t unix_s = seconds_of(now_ms);
    int64_t day;

    if (w->span_count == 0)
        return true;
    day = zone_at(w->zone, unix_s).day;
    return is_open_of(w, day - 1, unix_s) || is_open_of(w, day, unix_s);
}

bool window_is_black(const struct window *w, int64_t now_ms)
{
    return w->black_count > 0 &&
           is_black_day(w, zone_at(w->zone, seconds_of(now_ms)).day);
}

static bool may_flip(const struct window *w, int64_t unix_s)
{
    return window_is_open(w, unix_s * 1000) &&
           !window_is_black(w, unix_s * 1000);
}

/* The first moment of that local day, from unix_s on, at which it opens: a
   window begins, or the day before was black. 0: none. */
static int64_t opening_of(const struct window *w, int64_t day, int64_t unix_s)
{
    int64_t best = zone_moment(w->zone, day, 0);

    if (best < unix_s || !may_flip(w, best))
        best = 0;
    for (unsigned i = 0; i < w->span_count; i++) {
        int64_t start = start_of(w, &w->spans[i], day);

        if (start >= unix_s && (best == 0 || start < best) &&
            may_flip(w, start))
            best = start;
    }
    return best;
}

int64_t window_next_ms(const struct window *w, int64_t now_ms)
{
    int64_t unix_s = seconds_of(now_ms);
    int64_t today, opening;

    if (may_flip(w, unix_s))
        return now_ms;
    today = zone_at(w->zone, unix_s).day;
    for (int64_t day = today; day < today + LOOK_AHEAD; day++) {
        if (is_black_day(w, day))
            continue;
        opening = opening_of(w, day, unix_s + 1);
        if (opening != 0)
            return opening * 1000;
    }
    return 0;
}
