/*
 * The table of further passwords of an account, beside the one in secrets: app
 * passwords that legacy has accepted, those an operator has set, and hashes
 * that came in a list. No password stands here but sealed.
 */
#ifndef DB_CREDENTIALS_H
#define DB_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db/accounts.h"
#include "db/db.h"

#define CREDENTIALS_MAX     4 /* with a hash, that local verifies */
#define CREDENTIAL_ROWS_MAX 8 /* with those whose hash is being made */

enum credential_origin {
    CREDENTIAL_LEGACY, /* legacy has accepted it */
    CREDENTIAL_LOCAL,  /* set by an operator */
    CREDENTIAL_IMPORTED,
    CREDENTIAL_ORIGIN_COUNT
};

struct credential {
    int64_t id;
    int64_t account_id;
    enum credential_origin origin;
    char label[64];
    char hash[256]; /* "{SCHEME}..."; "" : is being made */
    bool has_seal;
    bool is_only; /* once it has its hash, the others go */
    int64_t created_at;
    int64_t used_at; /* last seen again; 0: never */
};

/* In order of id. */
struct credential_list {
    struct credential items[CREDENTIAL_ROWS_MAX];
    size_t count;
};

const char *credential_origin_name(enum credential_origin origin);

int credential_list(struct db *db, int64_t account_id,
                    struct credential_list *out, struct err *err);
/* Rows: 1 found, 0 not found, -1 error. */
int credential_get(struct db *db, int64_t id, struct credential *out,
                   struct err *err);
/* Sets c->id. seal may be NULL if there is a hash. ERR_SETUP if the account has
   CREDENTIAL_ROWS_MAX already. */
int credential_add(struct db *db, struct credential *c,
                   const struct account_seal *seal, struct err *err);
/* Writes origin, label, hash, is_only, used_at. */
int credential_update(struct db *db, const struct credential *c,
                      struct err *err);
int credential_remove(struct db *db, int64_t id, struct err *err);
/* All of an account but one; keep_id 0: all. */
int credential_remove_others(struct db *db, int64_t account_id, int64_t keep_id,
                             struct err *err);
/* 1 found, 0 none. */
int credential_seal_get(struct db *db, int64_t id, struct account_seal *out,
                        struct err *err);
/* NULL wipes it. */
int credential_seal_set(struct db *db, int64_t id,
                        const struct account_seal *seal, struct err *err);
/* Of all of an account; one that has no hash yet goes with its seal. */
int credential_seals_wipe(struct db *db, int64_t account_id, struct err *err);
/* Let the account's sealed password and this one change places, with their
   hashes. */
int credential_swap(struct db *db, int64_t id, struct err *err);

/* What local is to verify: the hash in secrets (""  where there is none), then
   up to CREDENTIALS_MAX others in order of id. */
struct credential_hashes {
    char items[1 + CREDENTIALS_MAX][256];
    size_t count; /* of items, 1 at least */
};
int credential_hashes(struct db *db, int64_t account_id,
                      struct credential_hashes *out, struct err *err);

#endif
