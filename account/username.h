/*
 * Names of users: the canonical address of what somebody typed, the name
 * legacy knows him by, and the place of his mailbox. Pure.
 */
#ifndef ACCOUNT_USERNAME_H
#define ACCOUNT_USERNAME_H

#include <stddef.h>

#include "db/states.h"
#include "base/err.h"

struct username {
    char address[ADDRESS_MAX]; /* local@domain, lower case, without +tag */
    char local[ADDRESS_MAX];
    char domain[ADDRESS_MAX]; /* may be empty if none was typed */
};

/* Canonical form of a login or recipient: case folded, "+tag" cut, domain in
   lower case without final dot. ERR_DENIED for what can be no user: empty,
   too long, control characters, NUL, '/', a local part "." or "..", '*' or
   '%', more than one '@'. `length` counts the bytes, so that an
   embedded NUL is seen. */
int username_parse(const char *typed, size_t length, struct username *out,
                   struct err *err);

/* What the login map knows somebody by: the canonical form where it can be an
   address, else (technical names: "DOMAIN\\user", "user%domain", "a/b") what
   was typed, ASCII letters in lower case. Never a path. ERR_DENIED for what can
   be no login either: empty, too long, a control character, no UTF-8. */
int username_login_name(const char *typed, size_t length, char out[ADDRESS_MAX],
                        struct err *err);

/* Fill a template with {address}, {local}, {domain} (of the canonical form).
   ERR_SETUP for an unknown {word} or when it does not fit. */
int username_fill(const char *template, const struct username *name, char *out,
                  size_t size, struct err *err);

#endif
