/*
 * Which passwords of an account this process has handed to the state
 * process, as keyed fingerprints in memory of a fixed size. Forgetting one only
 * means that a password is handed over once more.
 */
#ifndef LOGIN_PROXY_PRINTS_H
#define LOGIN_PROXY_PRINTS_H

#include <stdbool.h>

#include "base/secret.h"

struct prints;

struct prints *prints_new(void);
void prints_free(struct prints **prints);

bool prints_has(const struct prints *prints, const char *address,
                const struct secret *password);
/* One too many takes the place of the oldest. */
void prints_put(struct prints *prints, const char *address,
                const struct secret *password);
/* All of that address. */
void prints_forget(struct prints *prints, const char *address);

#endif
