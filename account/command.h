/*
 * The administrator's commands on the control db, one function each in one
 * table. Run by the state process for its control socket, and by the CLI itself
 * while no daemon runs; neither parses their arguments. Owns nothing.
 *
 * A request is a JSON object: "cmd" and the arguments; a result is the document
 * that `mailhaul --json` prints (docs/JSON.md).
 */
#ifndef ACCOUNT_COMMAND_H
#define ACCOUNT_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "account/difference.h"
#include "account/provision.h"
#include "account/seal.h"
#include "base/err.h"
#include "db/db.h"

struct command {
    struct db *db;               /* in a transaction of this command's own */
    struct provision *provision; /* NULL while no daemon runs */
    const uint8_t *public_key;   /* SEAL_KEY_SIZE bytes; NULL: none */
    const char *actor;           /* "uid 0 (root)" */
    int64_t now_ms;              /* Unix */
    bool has_queued;             /* out: jobs were queued */
    bool has_freezes;            /* out: some domain may be frozen, or is not */
    bool is_undone;       /* out: it was a trial; roll back what was written */
    int64_t stopped[512]; /* out: accounts whose leased job must end */
    unsigned stopped_count;
    int64_t changed_account;       /* out: local is to hear of it, remembered
                                      passwords are forgotten; 0: none */
    const char *kick_service;      /* out: and its sessions end: "login",
                                      "submission", "all"; NULL: they go on */
    const char *reason;            /* "" : none was given; set by command_run */
    struct difference *difference; /* owned by command_run; of the last row that
                                      was stored, until it is in the audit */
};

/* "uid 0 (root)" into out: who calls, for the audit. */
#define COMMAND_ACTOR_MAX 64
void command_actor(uid_t uid, char out[COMMAND_ACTOR_MAX]);

/* Run request; *result_out is a new reference. -1: nothing of it may be
   committed; ERR_SETUP for what the administrator asked wrongly. */
int command_run(struct command *c, const json_t *request, json_t **result_out,
                struct err *err);

/* Whether `domain add` or `domain set` may ask for this at all, whatever the
   database holds; ERR_SETUP with what is wrong in the request. Pure. */
int command_check_domain(const json_t *request, bool is_new, struct err *err);

/* Whether there is such a command at all, here. */
bool command_is_known(const char *name);

#endif
