/*
 * Sealing: a password encrypted so that only the holder of the node's private
 * key opens it. Each seal has a data key of its own (AES-256-GCM), itself
 * wrapped to the installation's X25519 key (ephemeral key, HKDF-SHA256,
 * AES-256-GCM, address as associated data); wiping the wrapped key wipes the
 * password. The wrapped key names the key it is wrapped to, so that it can be
 * wrapped to a newer one without the password being opened.
 */
#ifndef ACCOUNT_SEAL_H
#define ACCOUNT_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"

#define SEAL_KEY_SIZE     32
#define SEAL_ID_SIZE      4
#define SEAL_WRAPPED_SIZE (1 + SEAL_ID_SIZE + 32 + 12 + 32 + 16)
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
/* The first bytes of SHA-256 of a public key. */
void seal_key_id(const uint8_t public_key[SEAL_KEY_SIZE],
                 uint8_t id[SEAL_ID_SIZE]);
/* Which key a seal was wrapped to; false if it is no seal of ours. */
bool seal_wrapped_to(const struct seal *seal, uint8_t id[SEAL_ID_SIZE]);
/* Wrap the data key to another key; the blob stays. ERR_SETUP as seal_open(),
 *seal is untouched then. */
int seal_rewrap(const struct secret *private_key,
                const uint8_t public_key[SEAL_KEY_SIZE], const char *address,
                struct seal *seal, struct err *err);
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
