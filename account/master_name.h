/*
 * The name with which a master user logs in for somebody, where SASL's
 * authorization identity is not to be had: "{user}*{master}". Pure.
 */
#ifndef ACCOUNT_MASTER_NAME_H
#define ACCOUNT_MASTER_NAME_H

#include <stddef.h>

#include "base/err.h"

#define MASTER_NAME_TEMPLATE "{user}*{master}"

/* Fill the words {user} and {master} of the template ("" : the one above).
   ERR_SETUP for another word, a template without {user} (every mailbox would be
   the same one), and what does not fit. */
int master_name_fill(const char *template, const char *user, const char *master,
                     char *out, size_t size, struct err *err);

#endif
