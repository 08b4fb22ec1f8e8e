/*
 * What is going on with an account and what comes next, in one plain sentence
 * for people. Pure: everything it goes by is given, times are Unix milliseconds
 * and are written in the time zone of this process.
 */
#ifndef ACCOUNT_STORY_H
#define ACCOUNT_STORY_H

#include <stdbool.h>
#include <stdint.h>

#include "db/accounts.h"
#include "db/domains.h"
#include "db/jobs.h"

#define STORY_MAX 1024

struct story_job {
    bool is_there;
    bool is_running;
    int64_t due_at;
    unsigned attempts;
};

struct story {
    const struct account *account; /* borrowed, as all below */
    const struct domain *domain;
    const char *frozen; /* "everything", "example.net"; NULL: nothing is */
    const char *frozen_why;
    bool is_black_day;   /* of the domain, now */
    bool is_window_open; /* the same */
    int64_t opens_at;    /* the next time it may flip by itself; 0: none */
    struct story_job jobs[JOB_KIND_COUNT];
    int64_t now;
};

/* What a copied account waits for, in the order in which it is looked at. */
enum story_wait {
    STORY_READY, /* for its next delta, and flips with it */
    STORY_ENABLING,
    STORY_THAW,
    STORY_OPERATOR, /* to ask for the flip */
    STORY_CLEAN,    /* for a delta without differences */
    STORY_ACCEPTING,
    STORY_LOCAL, /* to say that it serves the account */
    STORY_PASSWORD,
    STORY_BLACKOUT,
    STORY_WINDOW,
    STORY_HOLD_RETRY,
    STORY_WAIT_COUNT
};
/* For an account of route legacy and copy delta. */
enum story_wait story_wait(const struct story *s);

/* The sentence, at most STORY_MAX bytes with its end, ASCII but for what a
   server has said. */
void story_tell(const struct story *s, char out[STORY_MAX]);

/* Whether somebody should look at it: it does not come right by itself, or has
   failed at least once. What tells it on the list of those that are stuck. */
bool story_is_stuck(const struct account *account);

/* "14:05 CET" today, "Sa 22:00 CET" within six days, else with the date. */
void story_time(int64_t at, int64_t now, char out[48]);

#endif
