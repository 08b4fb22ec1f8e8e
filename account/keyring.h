/*
 * The installation's private keys, newest first. What is sealed now is sealed
 * to the first; the others open what has not been wrapped anew yet. They live
 * in one file outside of the state directory, so that no copy of that opens
 * anything: a line of base64 a key. Owns its keys, and wipes them.
 */
#ifndef ACCOUNT_KEYRING_H
#define ACCOUNT_KEYRING_H

#include <stdbool.h>
#include <stdint.h>

#include "account/seal.h"
#include "base/err.h"
#include "base/secret.h"

#define KEYRING_MAX 4

struct keyring {
    struct secret keys[KEYRING_MAX];
    unsigned count;
};

void keyring_init(struct keyring *ring);
void keyring_release(struct keyring *ring);
/* The same keys; what *to held is wiped. */
void keyring_copy(struct keyring *to, const struct keyring *from);

/* From the text of a key file. ERR_SETUP if it is none. */
int keyring_parse(struct keyring *ring, const char *text, size_t length,
                  struct err *err);
/* Read the file; ERR_SETUP with its path. */
int keyring_read(struct keyring *ring, const char *path, struct err *err);
/* Write the file whole, mode 0600, synced, in place of the one that is there:
   what that held is overwritten. */
int keyring_write(const struct keyring *ring, const char *path,
                  struct err *err);

/* Hold off others who read, change and write the file at path: a descriptor to
   close afterwards. ERR_RETRY if somebody else holds it and waits is false. */
int keyring_lock(const char *path, bool waits, struct err *err);
/* The newest one's public half into the file at path, mode 0644, if it holds
   another one: command lines seal to it. */
int keyring_publish(const struct keyring *ring, const char *path,
                    struct err *err);

/* A new key before the others; ERR_RETRY while there are KEYRING_MAX. */
int keyring_add(struct keyring *ring, struct err *err);
/* Wipe all but the newest. */
void keyring_keep_newest(struct keyring *ring);

/* The public half of the newest; ERR_SETUP if there is no key. */
int keyring_public(const struct keyring *ring,
                   uint8_t public_key[SEAL_KEY_SIZE], struct err *err);
/* The id of the n-th key. */
void keyring_id(const struct keyring *ring, unsigned n,
                uint8_t id[SEAL_ID_SIZE]);

/* As seal_open(), with the key that the seal names; ERR_DENIED if it is none of
   these: its password is lost, and the next good login brings it. */
int keyring_open(const struct keyring *ring, const char *address,
                 const struct seal *seal, struct secret *password_out,
                 struct err *err);
/* Wrap it to the newest. 1 done, 0 it is already, -1 as keyring_open(). */
int keyring_rewrap(const struct keyring *ring, const char *address,
                   struct seal *seal, struct err *err);

#endif
