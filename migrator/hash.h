/*
 * Password hashes for local, made by libcrypt in threads of their own: one hash
 * takes milliseconds to a second, which no loop may wait for.
 */
#ifndef MIGRATOR_HASH_H
#define MIGRATOR_HASH_H

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

struct hash_pool;

/* hash is NULL and err set if it could not be made; borrowed. Called from the
   loop, never from inside hash_pool_ask. */
typedef void hash_fn(void *ctx, int64_t id, const char *hash,
                     const struct err *err);

/* scheme is copied. */
struct hash_pool *hash_pool_new(struct loop *loop, const char *scheme,
                                unsigned cost, hash_fn *fn, void *ctx);
/* Waits for the hashes under way; fn is not called any more. */
void hash_pool_free(struct hash_pool **pool);
/* password is copied; fn follows with the same id. */
void hash_pool_ask(struct hash_pool *pool, int64_t id,
                   const struct secret *password);

#endif
