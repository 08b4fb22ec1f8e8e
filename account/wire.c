#include "account/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const char *wire_text(const json_t *message, const char *field)
{
    return json_string_value(json_object_get(message, field));
}

int64_t wire_int(const json_t *message, const char *field, int64_t missing)
{
    const json_t *value = json_object_get(message, field);

    return json_is_integer(value) ? json_integer_value(value) : missing;
}

bool wire_bool(const json_t *message, const char *field)
{
    return json_is_true(json_object_get(message, field));
}

void wire_put_bytes(json_t *message, const char *field, const void *bytes,
                    size_t length)
{
    const uint8_t *from = bytes;
    char *text = mem_alloc((length + 2) / 3 * 4 + 1);
    char *to = text;

    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t group = (uint32_t)from[i] << 16;

        group |= left > 1 ? (uint32_t)from[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)from[i + 2] : 0;
        *to++ = alphabet[group >> 18];
        *to++ = alphabet[group >> 12 & 63];
        *to++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[group & 63] : '=';
    }
    json_object_set_new(message, field,
                        json_stringn(text, (size_t)(to - text)));
    free(text);
}

static int sextet(char c)
{
    const char *place = c == '\0' ? NULL : strchr(alphabet, c);

    return place == NULL ? -1 : (int)(place - alphabet);
}

long wire_bytes(const json_t *message, const char *field, void *out,
                size_t size)
{
    const json_t *value = json_object_get(message, field);
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    uint8_t *to = out;
    size_t used = 0;
    uint32_t group = 0;
    size_t padding = 0;

    if (text == NULL || length % 4 != 0)
        return -1;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < length; i++) {
        int bits = i < length - padding ? sextet(text[i]) : 0;
        size_t whole = i + 1 == length ? 3 - padding : 3;

        if (bits == -1)
            return -1;
        group = group << 6 | (uint32_t)bits;
        if (i % 4 != 3)
            continue;
        if (whole > size - used)
            return -1;
        for (size_t k = 0; k < whole; k++)
            to[used++] = (uint8_t)(group >> (16 - 8 * k));
        group = 0;
    }
    return (long)used;
}

void wire_put_seal(json_t *message, const struct seal *seal)
{
    wire_put_bytes(message, "key", seal->wrapped_key,
                   sizeof(seal->wrapped_key));
    wire_put_bytes(message, "blob", seal->blob, seal->blob_length);
}

int wire_seal(const json_t *message, struct seal *out, struct err *err)
{
    long key, blob;

    memset(out, 0, sizeof(*out));
    key =
        wire_bytes(message, "key", out->wrapped_key, sizeof(out->wrapped_key));
    blob = wire_bytes(message, "blob", out->blob, sizeof(out->blob));
    if (key != (long)sizeof(out->wrapped_key) || blob <= 0)
        return err_set(err, ERR_PEER, "message without a whole seal");
    out->blob_length = (size_t)blob;
    return 0;
}
