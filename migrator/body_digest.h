/*
 * A digest of a message that two servers agree on: line ends may be stored as
 * LF and served as CRLF, and NUL, which IMAP cannot carry (RFC 3501 section 9),
 * is served as 0x80. So CR before LF is left out, and NUL counts as 0x80.
 */
#ifndef MIGRATOR_BODY_DIGEST_H
#define MIGRATOR_BODY_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "db/ledger.h"

struct body_digest {
    struct digest *digest; /* owned */
    bool has_cr;           /* a CR whose next byte is not known yet */
    uint64_t size_bytes;   /* as they came */
    uint64_t lone_lf;      /* LF without CR */
};

void body_digest_init(struct body_digest *d);
void body_digest_release(struct body_digest *d);
void body_digest_add(struct body_digest *d, const char *bytes, size_t length);
/* Start anew. */
void body_digest_reset(struct body_digest *d);
/* The first half of the value; then it starts anew. */
void body_digest_take(struct body_digest *d, uint8_t out[LEDGER_DIGEST_SIZE]);
/* Size with every line end as CRLF: RFC822.SIZE. */
uint64_t body_digest_vsize(const struct body_digest *d);

#endif
