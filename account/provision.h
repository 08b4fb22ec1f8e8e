/*
 * Making an account exist on the new side, as often as one likes: the row in
 * auth.db. The directory of the mailbox is made by the worker, under the uid of
 * the store's owner. Runs in the state process; never blocks longer than a
 * SQLite commit.
 *
 * home is the directory above the Maildir when the last part of store.path is
 * the same for everybody (".../{local}/Maildir"), else the Maildir itself.
 */
#ifndef ACCOUNT_PROVISION_H
#define ACCOUNT_PROVISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "db/accounts.h"
#include "db/auth.h"
#include "db/credentials.h"

struct provision;

/* Make auth.db and its directory, given to conf->user and the group of the
   local server: for root, before the state process runs as conf->user. */
int provision_prepare(const struct conf *conf, struct err *err);
/* Reads the provision and store sections; opens auth.db, if there is to be one.
   conf is borrowed until provision_close(). ERR_SETUP for unknown users and
   groups, and for provision.command, which nothing runs yet: accounts would be
   routed to a server that does not know them. */
int provision_open(const struct conf *conf, struct provision **out,
                   struct err *err);
void provision_close(struct provision **p);

/* Tell local the account as the row says: active if route is local, with its
   locks and these passwords (NULL: none). Same row, same result. ERR_SETUP if
   local has been told a later epoch (a control db older than what local reads):
   that account must not be served. */
int provision_apply(struct provision *p, const struct account *account,
                    const struct credential_hashes *hashes, struct err *err);
/* The same with the passwords that the control db has for it. */
int provision_settle(struct provision *p, struct db *control,
                     const struct account *account, struct err *err);
/* Between the two, what provision_apply() tells is told by one commit; until
   then local knows nothing of it. After -1 of either, or to tell nothing:
   provision_abort(). */
int provision_begin(struct provision *p, struct err *err);
int provision_commit(struct provision *p, struct err *err);
void provision_abort(struct provision *p);
int provision_remove(struct provision *p, const char *address, struct err *err);
/* The epoch in which local serves the address; 0: it does not, or that cannot
   be known. */
int provision_served_epoch(struct provision *p, const char *address,
                           int64_t *epoch_out, struct err *err);
/* A number that changes with every change of the passwords that local takes for
   the address; 0: nobody can tell. */
int provision_password_version(struct provision *p, const char *address,
                               int64_t *version_out, struct err *err);
/* What auth.db is known by (db/auth.h); zeros where there is none. */
int provision_changes(struct provision *p, struct auth_changes *out,
                      struct err *err);
/* How often provision_apply() has been called since it was opened. */
uint64_t provision_applied(const struct provision *p);
/* Another file, or none, is where the open one was: what is open leads nowhere,
   and its log, if that still lies there, is taken away. To be asked every
   second or so: what has just come is believed after some looks. */
bool provision_is_replaced(struct provision *p);
/* How many accounts local serves, as far as it has been told; INT64_MAX where
   that cannot be known. */
int provision_count(struct provision *p, int64_t *count_out, struct err *err);

/* Absolute path of the Maildir of an address, from store.path. ERR_SETUP if it
   would leave the part of the path before the first {word}. */
int provision_maildir(const struct conf *conf, const char *address, char *out,
                      size_t size, struct err *err);

#endif
