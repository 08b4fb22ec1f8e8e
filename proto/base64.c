#include "proto/base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t length, char *out)
{
    const unsigned char *in = bytes;

    for (; length > 0; in += 3, out += 4) {
        size_t n = length < 3 ? length : 3;
        uint32_t bits = (uint32_t)in[0] << 16;

        if (n > 1)
            bits |= (uint32_t)in[1] << 8;
        if (n > 2)
            bits |= in[2];
        out[0] = alphabet[bits >> 18];
        out[1] = alphabet[bits >> 12 & 63];
        out[2] = n > 1 ? alphabet[bits >> 6 & 63] : '=';
        out[3] = n > 2 ? alphabet[bits & 63] : '=';
        length -= n;
    }
    *out = '\0';
}

static int value_of(char c)
{
    const char *place = c == '\0' ? NULL : strchr(alphabet, c);

    return place == NULL ? -1 : (int)(place - alphabet);
}

/* Four characters to `n` bytes (in the low end of *bits_out); -1 if bad. */
static int decode_group(const char *text, uint32_t *bits_out)
{
    int n = text[3] != '=' ? 3 : text[2] != '=' ? 2 : 1;
    uint32_t bits = 0;

    for (int i = 0; i < n + 1; i++) {
        int value = value_of(text[i]);

        if (value == -1)
            return -1;
        bits |= (uint32_t)value << (18 - 6 * i);
    }
    if ((bits & ((1u << (24 - 8 * n)) - 1)) != 0)
        return -1;
    *bits_out = bits;
    return n;
}

long base64_decode(const char *text, size_t length, void *out, size_t size)
{
    unsigned char *bytes = out;
    size_t used = 0;

    if (length % 4 != 0)
        return -1;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t bits;
        int n = decode_group(text + i, &bits);

        if (n == -1 || (n < 3 && i + 4 != length) || used + (size_t)n > size)
            return -1;
        for (int k = 0; k < n; k++)
            bytes[used++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    return (long)used;
}
