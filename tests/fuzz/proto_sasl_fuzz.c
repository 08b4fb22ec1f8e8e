/* What a client says who he is; what is good reads the same when it is written
   again. */
#include "proto/sasl.h"
#include "tests/fuzz/fuzz.h"

static void plain(struct slice text)
{
    struct sasl_name user, again;
    struct secret password, password_again;
    struct buf out;

    secret_init(&password);
    secret_init(&password_again);
    if (sasl_plain_decode(text, &user, &password) == PARSE_DONE) {
        MUST(user.length <= SASL_USER_MAX && user.bytes[user.length] == '\0');
        buf_init(&out, 64u << 10);
        if (strlen(user.bytes) == user.length &&
            sasl_plain_encode(&out, NULL, user.bytes, &password) == 0) {
            struct slice written = {out.bytes, out.used};

            MUST(sasl_plain_decode(written, &again, &password_again) ==
                 PARSE_DONE);
            MUST(strcmp(user.bytes, again.bytes) == 0);
            MUST(password.length == password_again.length);
        }
        buf_release(&out);
    }
    secret_wipe(&password);
    secret_wipe(&password_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct sasl_name user;
    struct secret password;

    plain(text);
    sasl_login_user(text, &user);
    secret_init(&password);
    sasl_login_password(text, &password);
    secret_wipe(&password);
    sasl_is_plain_text(text.bytes, size);
    return 0;
}
