/*
 * The table of accounts: the one row that session routing, mail routing and
 * provisioning read. Secrets (seal, hash) are read apart from the row, so that
 * a row can be printed.
 */
#ifndef DB_ACCOUNTS_H
#define DB_ACCOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db/db.h"
#include "db/states.h"

struct account {
    int64_t id;
    int64_t domain_id;
    char address[ADDRESS_MAX];     /* canonical, unique */
    char legacy_user[ADDRESS_MAX]; /* name on legacy */
    enum account_route route;
    enum account_copy copy;
    int64_t epoch;
    int64_t provisioned_epoch; /* the epoch that local has been told */
    enum password_state password_state;
    bool has_seal;
    bool has_hash;                       /* of any of its passwords */
    bool has_prefix;                     /* the two below are known */
    char legacy_prefix[256];             /* personal namespace; "" : none */
    char legacy_separator[8];            /* "" : NIL */
    int64_t folders, messages, bytes;    /* copied so far */
    int64_t messages_total, bytes_total; /* as legacy counts them */
    int64_t set_aside;                   /* messages set aside in ledger */
    unsigned hold_failures;              /* in a row */
    int64_t next_flip_at;                /* Unix ms; no automatic flip before */
    enum flip_wish wants_flip;           /* cutover asked by an operator */
    bool is_clean; /* the last delta ended clean and changed nothing */
    char last_error_kind[16];
    char last_error[256];
    int64_t last_error_at, created_at, copied_at, flipped_at, updated_at;
    bool is_login_locked, is_submission_locked;
    /* what an operator must answer: "identity ID", the mailbox_id that was met;
       "" : nothing */
    char question[64];
    char mailbox_id[128];   /* which legacy mailbox it is; "" : not known */
    int64_t accepted;       /* of set_aside, by name */
    int64_t local_ready_at; /* local has said that it serves him; 0: not yet */
    int64_t generation;     /* of the installation, at his flip */
    int64_t late_mail_at;   /* the trail last found something new; 0: never */
    enum on_flip_state on_flip; /* the domain's command after his flip */
    unsigned on_flip_attempts;
    int64_t on_flip_at;        /* when it is due again, or was done */
    int64_t trail_ended_at;    /* 0: not */
    int64_t local_password_at; /* set on the new side; 0: never */
    enum rollback_wish wants_rollback;
    int64_t rolled_back_at; /* 0: never */
    int64_t delta_at;       /* the last delta that went through; 0: none */
};

/* Rows: 1 found, 0 not found, -1 error. */
int account_find(struct db *db, const char *address, struct account *out,
                 struct err *err);
int account_get(struct db *db, int64_t id, struct account *out,
                struct err *err);
/* Insert with address, domain_id, legacy_user, prefix and states from *a; if
   the address exists already, *a becomes that row and the result is 0; 1 if it
   was inserted. */
int account_insert(struct db *db, struct account *a, struct err *err);
/* Write every column of the row but id, address, domain and secrets. */
int account_update(struct db *db, const struct account *a, struct err *err);
/* Another address, and the domain it is of; the new one is nobody's. */
int account_rename(struct db *db, int64_t id, const char *address,
                   int64_t domain_id, struct err *err);
int account_delete(struct db *db, int64_t id, struct err *err);
/* domain_id 0: all. In order of address; fn returns 0 to go on. */
int account_each(struct db *db, int64_t domain_id,
                 int (*fn)(void *ctx, const struct account *a), void *ctx,
                 struct err *err);
/* The same for those behind an address ("": from the first on), limit rows at
   most. */
int account_page(struct db *db, int64_t domain_id, const char *after, int limit,
                 int (*fn)(void *ctx, const struct account *a), void *ctx,
                 struct err *err);
/* Whose route changed after that generation; in order of it. */
int account_each_since(struct db *db, int64_t generation,
                       int (*fn)(void *ctx, const struct account *a), void *ctx,
                       struct err *err);
/* How many accounts local serves, as far as it has been told. */
int account_count_told(struct db *db, int64_t *count_out, struct err *err);
/* Everyone local has been told of is unsettled from now on, with
   provisioned_epoch ACCOUNT_REMINDED; those too who went back to legacy, whom
   it must not serve. */
#define ACCOUNT_REMINDED 0
int account_remind_all(struct db *db, struct err *err);
/* Every account whose route is held. */
int account_each_held(struct db *db,
                      int (*fn)(void *ctx, const struct account *a), void *ctx,
                      struct err *err);
/* Those that are held or whose provisioned_epoch is behind although local
   should know them: in the order of their ids, behind after_id, limit at most.
 */
int account_each_unsettled(struct db *db, int64_t after_id, int limit,
                           int (*fn)(void *ctx, const struct account *a),
                           void *ctx, struct err *err);

/* Those whose domain's command is due after their flip (on_flip due or failed,
   on_flip_at not after now), the longest waiting first. */
int account_each_on_flip(struct db *db, int64_t now, int limit,
                         int (*fn)(void *ctx, const struct account *a),
                         void *ctx, struct err *err);

/* The sealed password: data key and ciphertext. 1 found, 0 none. NULL/0 in
   account_set_seal wipes both. */
struct account_seal {
    uint8_t wrapped_key[256];
    size_t wrapped_length;
    uint8_t blob[2048];
    size_t blob_length;
};
int account_seal_get(struct db *db, int64_t id, struct account_seal *out,
                     struct err *err);
int account_seal_set(struct db *db, int64_t id, const struct account_seal *seal,
                     struct err *err);
/* "{SHA512-CRYPT}$6$..."; "" : none. 1 found, 0 none. */
int account_hash_get(struct db *db, int64_t id, char *hash_out, size_t size,
                     struct err *err);
int account_hash_set(struct db *db, int64_t id, const char *hash,
                     struct err *err);

/* Totals for `mailhaul status`. */
struct account_totals {
    int64_t accounts;
    int64_t by_route[ROUTE_COUNT];
    int64_t by_copy[COPY_COUNT];
    int64_t messages, bytes, messages_total, bytes_total, set_aside, failing;
};
int account_totals(struct db *db, int64_t domain_id, struct account_totals *out,
                   struct err *err);

#endif
