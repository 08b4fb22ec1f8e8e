/*
 * Which fields a command takes. Somebody who writes a request by hand is told
 * of a slip: a misspelt "domain" must not make a freeze of one domain a freeze
 * of everything.
 */
#ifndef ACCOUNT_COMMAND_FIELDS_H
#define ACCOUNT_COMMAND_FIELDS_H

#include <jansson.h>

#include "base/err.h"

/* 0; or -1 (ERR_SETUP) with the name of a field that the request's command does
   not take, or takes as another type. null is a field left out. A command that
   is not known passes: who runs it says so. */
int command_fields_check(const json_t *request, struct err *err);

#endif
