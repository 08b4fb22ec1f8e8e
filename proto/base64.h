/*
 * Base64 (RFC 4648 section 4, with padding). Pure.
 */
#ifndef PROTO_BASE64_H
#define PROTO_BASE64_H

#include <stddef.h>

/* Characters of the encoded form, without a terminator. */
#define BASE64_SIZE(length) (((length) + 2) / 3 * 4)

/* Write BASE64_SIZE(length) characters and a terminator to out. */
void base64_encode(const void *bytes, size_t length, char *out);

/* The number of bytes written to out, or -1 if the text is malformed (wrong
   length, foreign characters, bits set behind the end) or they do not fit. */
long base64_decode(const char *text, size_t length, void *out, size_t size);

#endif
