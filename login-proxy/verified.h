/*
 * Pairs of account and password that local has accepted a short while ago, so
 * that it need not hash them again at every login. A table of fixed size in
 * memory that all login processes of a node share: it holds keyed fingerprints
 * only, the key is given by master and dies with it.
 *
 * A fingerprint covers the account's epoch and the version of its passwords on
 * local too: a pair matches only while state says the same version, which
 * changes in the same commit as the passwords. Forgetting is for tidiness.
 *
 * Nothing is locked. A slot that two processes have written at once, or that a
 * dying one has left half written, matches no pair.
 */
#ifndef LOGIN_PROXY_VERIFIED_H
#define LOGIN_PROXY_VERIFIED_H

#include <stdbool.h>
#include <stdint.h>

#include "account/seal.h"
#include "base/err.h"
#include "base/secret.h"

struct verified;

struct verified_pair { /* borrowed */
    int64_t account_id;
    int64_t epoch;
    int64_t version; /* 0: nobody can tell, so it is never remembered */
    const char *address;
    const struct secret *password;
};

/* What stands for a pair: compare with memcmp(). */
struct verified_print {
    uint64_t words[2];
};
void verified_print(const struct verified *verified,
                    const struct verified_pair *pair,
                    struct verified_print *out);

/* The table's memory, for master: a file descriptor to be inherited, whose size
   nobody can change any more. -1 with ERR_SETUP. */
int verified_make_fd(struct err *err);

/* The table behind fd (borrowed for the call). minutes: how long a pair is
   remembered since it was last used; after an hour (or after minutes, if that
   is more) it is verified anew in any case. NULL with ERR_SETUP. */
struct verified *verified_open(int fd, const uint8_t key[SEAL_KEY_SIZE],
                               unsigned minutes, struct err *err);
void verified_close(struct verified **verified);

/* Local has accepted it within that time, and would still; counts as use. */
bool verified_has(struct verified *verified, const struct verified_pair *pair);
void verified_put(struct verified *verified, const struct verified_pair *pair);
/* All of the account. */
void verified_forget(struct verified *verified, int64_t account_id);

#endif
