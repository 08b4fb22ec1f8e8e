/*
 * The table of domains' master users on legacy: the sealed password, and how he
 * says for whom he logs in.
 */
#ifndef DB_DOMAIN_SECRETS_H
#define DB_DOMAIN_SECRETS_H

#include <stdint.h>

#include "db/accounts.h"
#include "db/db.h"

struct domain_secret {
    char login_template[128]; /* "{user}*{master}"; "" : by SASL if offered */
    struct account_seal seal;
};

/* 1 found, 0 none. */
int domain_secret_get(struct db *db, int64_t domain_id,
                      struct domain_secret *out, struct err *err);
int domain_secret_set(struct db *db, int64_t domain_id,
                      const struct domain_secret *secret, struct err *err);
int domain_secret_remove(struct db *db, int64_t domain_id, struct err *err);

#endif
