/*
 * What the files of commands share among themselves: the functions that the
 * table in command.c names, and small steps that several of them take.
 */
#ifndef ACCOUNT_COMMAND_PARTS_H
#define ACCOUNT_COMMAND_PARTS_H

#include "account/command.h"
#include "account/lifecycle.h"
#include "db/accounts.h"
#include "db/audit.h"
#include "db/domains.h"
#include "db/jobs.h"

/* Fills an empty object. */
typedef int command_fn(struct command *c, const json_t *args, json_t *result,
                       struct err *err);

command_fn command_domain_add, command_domain_set, command_domain_list,
    command_domain_show, command_domain_enable, command_domain_disable,
    command_domain_remove, command_domain_close_check,
    command_domain_close_addresses, command_domain_reopen,
    command_domain_strangers;
command_fn command_account_list, command_account_show, command_account_pause,
    command_account_resume, command_account_remove, command_account_accept;
command_fn command_account_lock, command_account_unlock;
command_fn command_account_import;
command_fn command_rollback;
command_fn command_account_forget_legacy, command_account_rename;
command_fn command_name_add, command_name_remove, command_name_list;
command_fn command_freeze, command_thaw, command_domain_admit,
    command_domain_unadmit;
command_fn command_migrate, command_cutover, command_status, command_audit_list;

/* The domain or account that args name ("name", "address"), or ERR_SETUP "no
   such ...". */
int command_need_domain(struct command *c, const char *name, struct domain *out,
                        struct err *err);
/* To look at it; command_need_account() refuses one of which the store knows
   more than this control db: what its row says is old. */
int command_find_account(struct command *c, const char *address,
                         struct account *out, struct err *err);
int command_need_account(struct command *c, const char *address,
                         struct account *out, struct err *err);
/* Whether it is one of those: 1, 0, or -1. */
int command_is_refused(struct command *c, const struct account *a,
                       struct err *err);

/* A command on a whole domain goes through it in pages, each a request and a
   transaction of its own: args->after is the last address of the page before
   ("" or none: the first page), result->next what to ask the next one with, or
   null, result->total how many accounts there are in all. Of one domain, or
   with 0 of all, in the order of their addresses. */
struct account_page {
    struct account *accounts; /* owned */
    size_t count;
};
int command_page(struct command *c, const json_t *args, int64_t domain_id,
                 struct account_page *page, json_t *result, struct err *err);
void command_page_release(struct account_page *page);

/* args->field as text, or ERR_SETUP "... is missing". */
const char *command_need_text(const json_t *args, const char *field,
                              struct err *err);

/* Queue a job due now. */
int command_queue(struct command *c, const struct account *a,
                  const struct domain *d, enum job_kind kind, struct err *err);
/* Remember that a leased job of the account must end. */
void command_stop(struct command *c, int64_t account_id);
/* Write the row, and remember what it changes for the next command_audit(). */
int command_store(struct command *c, const struct account *a, struct err *err);
int command_store_domain(struct command *c, const struct domain *d,
                         struct err *err);
/* One entry: who, when, why, and what the rows stored since the last one were
   before and after. about: an address, or the name of a domain. */
int command_audit(struct command *c, int64_t account_id, const char *event,
                  const char *about, struct err *err);

/* A row's text as JSON: null if it is "" or NULL, '?' for what is no UTF-8. */
json_t *command_text_json(const char *text);

/* What stands against closing the domain at Unix ms `now`: {bar, count, first}
   for each, into the array. */
int command_closing_bars(struct db *db, const struct domain *d, int64_t now,
                         json_t *bars, struct err *err);
/* One entry of the audit as JSON. New reference. */
json_t *command_audit_json(const struct audit_entry *entry);

/* "sentence": what is going on with the account and what comes next; and
   "timeline": what has happened to it, oldest first. */
int command_add_sentence(struct command *c, const struct account *a,
                         const struct domain *d, json_t *json, struct err *err);
int command_add_timeline(struct command *c, const struct account *a,
                         json_t *json, struct err *err);

/* One account as JSON: what a list shows of it. New reference. */
json_t *command_account_json(const struct account *a, const char *domain);

/* Add to `account show` its passwords (origin, label, when: no hash), locks. */
int command_credentials_show(struct command *c, const struct account *a,
                             json_t *json, struct err *err);
/* The master user's options of `domain add` and `domain set`: whether they can
   be at all, and, once the domain is stored, into the database. was: the domain
   before (d itself if it is new). */
int command_master_check(const json_t *args, const struct domain *d,
                         struct err *err);
int command_master_store(struct command *c, const json_t *args,
                         const struct domain *was, const struct domain *d,
                         struct err *err);

/* What a list said of it: names, aliases, forward, quota, owner, group. */
int command_add_profile(struct command *c, const struct account *a,
                        json_t *json, struct err *err);

/* Add to `account show` what is set aside, and whether local is ready. */
int command_gate_show(struct command *c, const struct account *a, json_t *json,
                      struct err *err);
/* What is to be said of an account's way back: "rollback", "rolled_back_at" and
   "left_behind" into json. */
int command_rollback_json(struct command *c, const struct account *a,
                          json_t *json, struct err *err);

/* An operator says that legacy's mailbox, which the account asks about, is the
   same person's; it goes on. Changes and stores *a. */
int command_answer_identity(struct command *c, struct account *a,
                            const struct domain *d, struct err *err);
/* ERR_SETUP if the address is a login name of another one's. */
int command_refuse_name(struct command *c, const char *address,
                        struct err *err);

/* --- command_brake.c */
/* Options of `domain add` and `set`: admit, admit_rate, cutover, blackout. */
int command_brake_options(const json_t *args, struct domain *d,
                          struct err *err);
/* What every listing of a domain tells, what `domain show` adds, what `account
   show` and `status` (d NULL: of every domain) tell. */
void command_brake_domain(const struct domain *d, json_t *json);
int command_brake_show(struct command *c, const struct domain *d, json_t *json,
                       struct err *err);
void command_brake_account(struct command *c, const struct domain *d,
                           json_t *json);
int command_brake_status(struct command *c, const struct domain *d,
                         json_t *json, struct err *err);
/* ERR_SETUP on a day of the domain's blackout. */
int command_refuse_blackout(struct command *c, const struct domain *d,
                            struct err *err);

/* Bring an account that nothing moves any more back to copying: failed and
   paused ones, and those that were never started; others are looked at now.
   *what_out is the word for it. */
int command_set_going(struct command *c, struct account *a,
                      const struct domain *d, const char **what_out,
                      struct err *err);

#endif
