/*
 * The table of served domains.
 */
#ifndef DB_DOMAINS_H
#define DB_DOMAINS_H

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

#define DOMAIN_ADMIT_ALL 1000000 /* admit_share: everybody */

/* What a new domain has unless it is told otherwise. */
#define DOMAIN_LEARN_DAYS    30
#define DOMAIN_ROLLBACK_DAYS 14
#define DOMAIN_QUIET_DAYS    7

struct domain {
    int64_t id;
    char name[256]; /* lower case */
    bool is_enabled;
    char imap_url[320]; /* "" where there is none */
    char pop3_url[320];
    char smtp_url[320];
    char submission_url[320];
    char sieve_url[320];
    char username_template[128]; /* "{address}" */
    char master_user[256];       /* "" : users' own passwords */
    char on_flip[512];           /* command, "" : none */
    enum domain_cutover cutover;
    unsigned hold_seconds;    /* 20 */
    int64_t created_at;       /* Unix seconds */
    char cutover_window[128]; /* with auto; "" : any time. "Sa-Su 22:00-05:00
                                 Europe/Berlin" */
    char blackout[512];       /* days without a flip: "2026-12-24..2026-12-26
                                 2027-01-01"; "" : none */
    char exclude[512];        /* folders that are not copied, see
                                 account/folder_rules.h; "" : none */
    unsigned admit_share; /* millionths of its addresses that are taken in */
    bool is_admit_listed; /* only those of the table admitted */
    unsigned admit_rate;  /* taken in a minute, at logins; 0: any number */
    unsigned
        learn_days; /* after a flip unknown passwords are asked of legacy */
    unsigned rollback_days; /* after a flip the way back is kept open */
    unsigned quiet_days;    /* without late mail, before its trails may end */
    int64_t closed_at;      /* Unix ms; 0: open. No new trail or account */
    int64_t reopened_from;  /* closed_at of an end that was undone; 0: none */
    char closed_key[16];    /* the newest sealing key then, as `key show` has
                               it; "" : not known */
    bool is_frozen;         /* read only; see account/freeze.h */
};

/* Rows: 1 found, 0 not found, -1 error. */
int domain_find(struct db *db, const char *name, struct domain *out,
                struct err *err);
int domain_get(struct db *db, int64_t id, struct domain *out, struct err *err);
/* ERR_SETUP if the name is taken. Sets d->id. */
int domain_insert(struct db *db, struct domain *d, struct err *err);
int domain_update(struct db *db, const struct domain *d, struct err *err);
/* The only writer of is_frozen. */
int domain_set_frozen(struct db *db, int64_t id, bool is_frozen,
                      struct err *err);
/* ERR_SETUP while it has accounts. */
int domain_delete(struct db *db, int64_t id, struct err *err);
/* In order of name; fn returns 0 to go on. */
int domain_each(struct db *db, int (*fn)(void *ctx, const struct domain *d),
                void *ctx, struct err *err);

#endif
