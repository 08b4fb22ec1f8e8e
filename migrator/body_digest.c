/*
 * The digest that two servers agree on. Pure.
 */
#include "migrator/body_digest.h"

#include <string.h>

#define PIECE_MAX 4096

void body_digest_init(struct body_digest *d)
{
    memset(d, 0, sizeof *d);
    d->digest = digest_new();
}

void body_digest_release(struct body_digest *d)
{
    digest_free(&d->digest);
}

void body_digest_add(struct body_digest *d, const char *bytes, size_t length)
{
    char piece[PIECE_MAX + 1];
    size_t used = 0;

    d->size_bytes += length;
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];

        if (d->has_cr && c != '\n')
            piece[used++] = '\r';
        else if (!d->has_cr && c == '\n')
            d->lone_lf++;
        d->has_cr = c == '\r';
        if (c != '\r')
            piece[used++] = c == '\0' ? (char)0x80 : c;
        if (used >= PIECE_MAX - 1) {
            digest_add(d->digest, piece, used);
            used = 0;
        }
    }
    digest_add(d->digest, piece, used);
}

void body_digest_reset(struct body_digest *d)
{
    uint8_t ignored[LEDGER_DIGEST_SIZE];

    body_digest_take(d, ignored);
}

void body_digest_take(struct body_digest *d, uint8_t out[LEDGER_DIGEST_SIZE])
{
    uint8_t value[DIGEST_SIZE];

    if (d->has_cr)
        digest_add(d->digest, "\r", 1);
    digest_take(d->digest, value);
    memcpy(out, value, LEDGER_DIGEST_SIZE);
    d->has_cr = false;
    d->size_bytes = 0;
    d->lone_lf = 0;
}

uint64_t body_digest_vsize(const struct body_digest *d)
{
    return d->size_bytes + d->lone_lf;
}
