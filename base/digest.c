#include "base/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/mem.h"

struct digest {
    EVP_MD_CTX *sha; /* owned */
};

/* SHA-256 without memory or without the algorithm is no machine to run on. */
static void must(int is_good)
{
    if (is_good != 1)
        abort();
}

struct digest *digest_new(void)
{
    struct digest *d = mem_alloc(sizeof(*d));

    d->sha = EVP_MD_CTX_new();
    must(d->sha != NULL);
    must(EVP_DigestInit_ex(d->sha, EVP_sha256(), NULL));
    return d;
}

void digest_add(struct digest *d, const void *bytes, size_t length)
{
    if (length > 0)
        must(EVP_DigestUpdate(d->sha, bytes, length));
}

void digest_take(struct digest *d, uint8_t value[DIGEST_SIZE])
{
    must(EVP_DigestFinal_ex(d->sha, value, NULL));
    must(EVP_DigestInit_ex(d->sha, EVP_sha256(), NULL));
}

void digest_free(struct digest **d)
{
    if (*d == NULL)
        return;
    EVP_MD_CTX_free((*d)->sha);
    free(*d);
    *d = NULL;
}

const char *digest_hex(const uint8_t value[DIGEST_SIZE],
                       char hex[DIGEST_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        hex[2 * i] = digits[value[i] >> 4];
        hex[2 * i + 1] = digits[value[i] & 15];
    }
    hex[DIGEST_HEX_SIZE - 1] = '\0';
    return hex;
}
