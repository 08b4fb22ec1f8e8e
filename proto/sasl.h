/*
 * The two mechanisms that show the password: PLAIN (RFC 4616) and LOGIN. Pure.
 */
#ifndef PROTO_SASL_H
#define PROTO_SASL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/secret.h"
#include "proto/parse.h"

#define SASL_USER_MAX     512  /* bytes of a name */
#define SASL_RESPONSE_MAX 4096 /* bytes of a response before base64 */

struct sasl_name { /* a name as typed; may hold anything, even NUL */
    char bytes[SASL_USER_MAX + 1]; /* terminated */
    size_t length;
};

/* One PLAIN response in base64. PARSE_BAD if it is malformed, too long, or asks
   to act as somebody else (authzid neither empty nor the authcid). */
enum parse_result sasl_plain_decode(struct slice base64,
                                    struct sasl_name *user_out,
                                    struct secret *password_out);

/* Append the PLAIN response in base64: user logs in with his password, to act
   as `as` (NULL: himself). -1 if it does not fit. */
int sasl_plain_encode(struct buf *out, const char *as, const char *user,
                      const struct secret *password);

/* The two responses of LOGIN. */
enum parse_result sasl_login_user(struct slice base64,
                                  struct sasl_name *user_out);
enum parse_result sasl_login_password(struct slice base64,
                                      struct secret *password_out);

/* What the server asks in LOGIN, as clients know it. */
#define SASL_LOGIN_ASK_USER     "VXNlcm5hbWU6" /* "Username:" */
#define SASL_LOGIN_ASK_PASSWORD "UGFzc3dvcmQ6" /* "Password:" */

/* Whether bytes may go into a command line of any backend: no NUL, CR, LF. */
bool sasl_is_plain_text(const char *bytes, size_t length);

#endif
