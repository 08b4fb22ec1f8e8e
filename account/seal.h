/*
 * Sealing: a password encrypted so that only the holder of the node's private
 * key opens it. Each seal has a data key of its own (AES-256-GCM), itself
 * wrapped to the node's X25519 key (ephemeral key, HKDF-SHA256, AES-256-GCM,
 * address as associated data); wiping the wrapped key wipes the password.
 */
#ifndef ACCOUNT_SEAL_H
#define ACCOUNT_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"

#define SEAL_KEY_SIZE     32
#define SEAL_WRAPPED_SIZE (1 + 32 + 12 + 32 + 16)
#define SEAL_SECRET_MAX   1024
#define SEAL_BLOB_MAX     (SEAL_SECRET_MAX + 1 + 12 + 16)

struct seal {
    uint8_t wrapped_key[SEAL_WRAPPED_SIZE];
    uint8_t blob[SEAL_BLOB_MAX];
    size_t blob_length;
};

/* A new key pair. */
int seal_make_keys(uint8_t public_key[SEAL_KEY_SIZE],
                   struct secret *private_key_out, struct err *err);
int seal_public_of(const struct secret *private_key,
                   uint8_t public_key[SEAL_KEY_SIZE], struct err *err);

/* ERR_DENIED if the password is longer than SEAL_SECRET_MAX. */
int seal_close(const uint8_t public_key[SEAL_KEY_SIZE], const char *address,
               const struct secret *password, struct seal *out,
               struct err *err);
/* ERR_SETUP if the key or the address is not the one it was sealed with. */
int seal_open(const struct secret *private_key, const char *address,
              const struct seal *seal, struct secret *password_out,
              struct err *err);

/* A keyed fingerprint (HMAC-SHA256) to remember in memory which pair was seen;
   key is random per process. */
#define SEAL_PRINT_SIZE 32
void seal_fingerprint(const uint8_t key[SEAL_KEY_SIZE], const char *address,
                      const struct secret *password,
                      uint8_t print[SEAL_PRINT_SIZE]);
void seal_random(void *bytes, size_t length);

#endif
