/*
 * What a worker is told: one job on one mailbox. Travels as one JSON object
 * over the worker's channel (or from a file given by --job, for tests and
 * benchmarks); the password is in it and nowhere else.
 */
#ifndef MIGRATOR_JOB_H
#define MIGRATOR_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "account/mailbox_id.h"
#include "base/err.h"
#include "base/secret.h"
#include "db/jobs.h"
#include "proto/mail_url.h"

#define MIGRATION_DOVEADM_MAX   16 /* words */
#define MIGRATION_PASSWORDS_MAX 9

/* A password of the user's, by its number among his credentials (0: the first,
   which has none). */
struct migration_password {
    int64_t credential;
    struct secret secret;
};

struct migration_job {
    int64_t id;
    int64_t account_id;
    int64_t epoch;
    enum job_kind kind;
    char address[ADDRESS_MAX];
    char legacy_user[ADDRESS_MAX]; /* authentication (with master: authzid) */
    char master_user[256];         /* "" : none */
    char master_login[128]; /* "{user}*{master}"; "" : by SASL if offered */
    struct secret password; /* the user's, or the master's */
    int64_t credential;     /* whose the password is; 0 with a master */
    /* the user's others: to be tried where one is refused, and all of them in
       the last delta: which does legacy still accept? */
    struct migration_password more[MIGRATION_PASSWORDS_MAX];
    unsigned more_count;
    struct mail_url legacy_imap;
    struct mail_url legacy_pop3;  /* host "" : no UIDLs to keep */
    struct mail_url local_imap;   /* for the trail's APPENDs */
    char local_master[256];       /* may log in there as anybody; "" : none */
    struct secret local_password; /* his, or the user's own; empty: as above */
    char ca_file[1024];           /* "" : the system's */
    char tls_minimum[8];
    char maildir[1024];    /* the store: absolute path of the Maildir */
    char ledger_dir[1024]; /* absolute path, made by the worker */
    bool has_prefix;       /* legacy's, if it is known already */
    char prefix[256];
    char separator[8];
    char exclude[512]; /* folders that stay, see account/folder_rules.h */
    char mailbox_id[MAILBOX_ID_SIZE]; /* the one it is; "" : not known */
    bool inbox_only;   /* trail: the other folders are not due yet */
    bool is_last;      /* rollback: inside the hold */
    bool with_changes; /* rollback: flags and deletions, too */
    bool is_full;      /* verify: compare bodies too, not only UIDs and sizes */
    bool is_verified_too; /* delta, last one: compare both sides at the end */
    bool checks_master;   /* is he shown the mailbox that he asks for? */
    bool asks_local;      /* delta: does local serve this mailbox? */
    /* what such a question runs, before "user ..."; none: nothing to ask */
    char *doveadm[MIGRATION_DOVEADM_MAX + 1]; /* owned, NULL at the end */
    uint64_t reserve_bytes, reserve_inodes;   /* of the store, for live mail */
};

/* Keys as the members; URLs as text; kind as its word; "password"
   as a string. */
int migration_job_decode(const json_t *message, struct migration_job *out,
                         struct err *err);
json_t *migration_job_encode(const struct migration_job *job);
/* What opens the mailbox on local: never the password of legacy's master user.
   Borrowed; NULL with ERR_SETUP if there is none. */
const struct secret *
migration_job_local_password(const struct migration_job *job, struct err *err);
/* Take the next of `more` as the password; false: there is none. */
bool migration_job_next_password(struct migration_job *job);
void migration_job_release(struct migration_job *job);

#endif
