/*
 * The settings of a domain as one JSON text, for the copy of them that the
 * witness journal keeps. No secret is among them.
 */
#ifndef ACCOUNT_DOMAIN_SETTINGS_H
#define ACCOUNT_DOMAIN_SETTINGS_H

#include <stdbool.h>

#include "db/domains.h"

/* Heap string for the caller. */
char *domain_settings_write(const struct domain *d);
/* Into *d, whose name and id stay; fields that it does not know are passed
   over, missing ones keep what a new domain has. */
bool domain_settings_read(const char *text, struct domain *d);

#endif
