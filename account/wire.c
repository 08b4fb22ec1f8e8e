#include "account/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/base64.h"

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
    char *text = mem_alloc(BASE64_SIZE(length) + 1);

    base64_encode(bytes, length, text);
    json_object_set_new(message, field, json_string(text));
    free(text);
}

long wire_bytes(const json_t *message, const char *field, void *out,
                size_t size)
{
    const json_t *value = json_object_get(message, field);

    if (!json_is_string(value))
        return -1;
    return base64_decode(json_string_value(value), json_string_length(value),
                         out, size);
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
