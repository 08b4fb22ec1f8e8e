/*
 * Password hashes for local, made by libcrypt in threads of their own: one hash
 * takes milliseconds to a second, which no loop may wait for.
 */
#ifndef MIGRATOR_HASH_H
#define MIGRATOR_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/secret.h"

#define HASH_SIZE 512

/* "{SHA512-CRYPT}$6$..." with a fresh salt: what Dovecot verifies. scheme is
   SHA512-CRYPT, YESCRYPT or BCRYPT; cost 0 is libcrypt's own, otherwise rounds
   (SHA512-CRYPT) or the scheme's log2 cost. Blocks. ERR_SETUP for a scheme or
   cost that libcrypt refuses, ERR_DENIED for a password it cannot hash. */
int hash_make(const char *scheme, unsigned cost, const struct secret *password,
              char out[HASH_SIZE], struct err *err);

/* Whether the password is the one of "{SCHEME}..."; false too for schemes that
   are none of libcrypt's. Blocks as long as hash_make(). */
bool hash_matches(const char *hash, const struct secret *password);
/* Whether it would be made so today: same scheme, same cost. */
bool hash_is_current(const char *hash, const char *scheme, unsigned cost);

#define HASH_KNOWN_MAX 10

/* A password to be hashed, unless it is one of those that are known. */
struct hash_request {
    int64_t id;
    struct secret *password;           /* its bytes are stolen */
    const char *known[HASH_KNOWN_MAX]; /* borrowed for the call */
    size_t known_count;
};

/* Borrowed. match: which of the known ones it is, -1: none. hash: NULL if it is
   one that would be made so today, or if none could be made, which err says. */
struct hash_answer {
    int64_t id;
    const char *hash;
    int match;
    const struct err *err;
};

struct hash_pool;

/* Called from the loop, never from inside hash_pool_ask. */
typedef void hash_fn(void *ctx, const struct hash_answer *answer);

/* scheme is copied. */
struct hash_pool *hash_pool_new(struct loop *loop, const char *scheme,
                                unsigned cost, hash_fn *fn, void *ctx);
/* Waits for the hashes under way; fn is not called any more. */
void hash_pool_free(struct hash_pool **pool);
/* fn follows with the same id. */
void hash_pool_ask(struct hash_pool *pool, const struct hash_request *request);

#endif
