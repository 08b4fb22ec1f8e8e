/*
 * Making an account exist on the new side, as often as one likes: the row in
 * auth.db, the directory of the mailbox, the administrator's command. Runs in
 * the state process (auth.db) and its callers' children; never blocks longer
 * than a SQLite commit.
 */
#ifndef ACCOUNT_PROVISION_H
#define ACCOUNT_PROVISION_H

#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "db/accounts.h"

struct provision;

/* Reads the provision and store sections; opens auth.db. */
int provision_open(const struct conf *conf, struct provision **out,
                   struct err *err);
void provision_close(struct provision **p);

/* Tell local the account as the row says: active if route is local. Same row,
   same result. */
int provision_apply(struct provision *p, const struct account *account,
                    const char *hash, struct err *err);
int provision_remove(struct provision *p, const char *address, struct err *err);

/* Absolute path of the Maildir of an address, from store.path. ERR_SETUP if it
   would leave the part of the path before the first {word}. */
int provision_maildir(const struct conf *conf, const char *address, char *out,
                      size_t size, struct err *err);

#endif
