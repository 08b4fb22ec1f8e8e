#include "proto/sasl.h"

#include <string.h>

#include "proto/base64.h"

#define ENCODED_MAX BASE64_SIZE(SASL_RESPONSE_MAX)

/* Split at the two NULs; PARSE_BAD if it is not "authzid NUL authcid NUL
   password" with a name and a password. */
static enum parse_result plain_split(const char *bytes, size_t length,
                                     struct slice part[3])
{
    const char *end = bytes + length;

    for (int i = 0; i < 2; i++) {
        const char *nul = memchr(bytes, '\0', (size_t)(end - bytes));

        if (nul == NULL)
            return PARSE_BAD;
        part[i].bytes = bytes;
        part[i].length = (size_t)(nul - bytes);
        bytes = nul + 1;
    }
    part[2].bytes = bytes;
    part[2].length = (size_t)(end - bytes);
    if (part[1].length == 0 || part[1].length > SASL_USER_MAX ||
        memchr(part[2].bytes, '\0', part[2].length) != NULL)
        return PARSE_BAD;
    if (part[0].length != 0 &&
        (part[0].length != part[1].length ||
         memcmp(part[0].bytes, part[1].bytes, part[0].length) != 0))
        return PARSE_BAD;
    return PARSE_DONE;
}

static void name_set(struct sasl_name *name, const char *bytes, size_t length)
{
    memcpy(name->bytes, bytes, length);
    name->bytes[length] = '\0';
    name->length = length;
}

enum parse_result sasl_plain_decode(struct slice base64,
                                    struct sasl_name *user_out,
                                    struct secret *password_out)
{
    char bytes[SASL_RESPONSE_MAX];
    long length =
        base64_decode(base64.bytes, base64.length, bytes, sizeof bytes);
    struct slice part[3];
    enum parse_result result = PARSE_BAD;

    if (length >= 0)
        result = plain_split(bytes, (size_t)length, part);
    if (result == PARSE_DONE) {
        name_set(user_out, part[1].bytes, part[1].length);
        secret_set(password_out, part[2].bytes, part[2].length);
    }
    explicit_bzero(bytes, sizeof bytes);
    return result;
}

int sasl_plain_encode(struct buf *out, const char *as, const char *user,
                      const struct secret *password)
{
    char bytes[SASL_RESPONSE_MAX];
    char encoded[ENCODED_MAX + 1];
    size_t as_size = as != NULL ? strlen(as) + 1 : 1;
    size_t user_size = strlen(user) + 1;
    size_t length = as_size + user_size + password->length;
    int result;

    if (length > sizeof bytes)
        return -1;
    memcpy(bytes, as != NULL ? as : "", as_size);
    memcpy(bytes + as_size, user, user_size);
    if (password->length > 0)
        memcpy(bytes + as_size + user_size, password->bytes, password->length);
    base64_encode(bytes, length, encoded);
    result = buf_append(out, encoded, BASE64_SIZE(length));
    explicit_bzero(bytes, sizeof bytes);
    explicit_bzero(encoded, sizeof encoded);
    return result;
}

enum parse_result sasl_login_user(struct slice base64,
                                  struct sasl_name *user_out)
{
    char bytes[SASL_USER_MAX];
    long length =
        base64_decode(base64.bytes, base64.length, bytes, sizeof bytes);

    if (length <= 0)
        return PARSE_BAD;
    name_set(user_out, bytes, (size_t)length);
    return PARSE_DONE;
}

enum parse_result sasl_login_password(struct slice base64,
                                      struct secret *password_out)
{
    char bytes[SASL_RESPONSE_MAX];
    long length =
        base64_decode(base64.bytes, base64.length, bytes, sizeof bytes);

    if (length >= 0)
        secret_set(password_out, bytes, (size_t)length);
    explicit_bzero(bytes, sizeof bytes);
    return length < 0 ? PARSE_BAD : PARSE_DONE;
}

bool sasl_is_plain_text(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\0' || bytes[i] == '\r' || bytes[i] == '\n')
            return false;
    }
    return true;
}
