/*
 * SHA-256 over bytes that come in pieces.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE     32
#define DIGEST_HEX_SIZE (2 * DIGEST_SIZE + 1)

struct digest;

struct digest *digest_new(void);
void digest_add(struct digest *d, const void *bytes, size_t length);
/* The value of everything added; the digest then starts anew. */
void digest_take(struct digest *d, uint8_t value[DIGEST_SIZE]);
void digest_free(struct digest **d);

/* Lower-case hexadecimal, terminated. Returns hex. */
const char *digest_hex(const uint8_t value[DIGEST_SIZE],
                       char hex[DIGEST_HEX_SIZE]);

#endif
