/*
 * Lists of accounts: address,legacy_user,password, one a line. Pure.
 */
#ifndef CLI_CSV_H
#define CLI_CSV_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* The lines as objects {line, address, legacy_user?, password?} in a new array;
   empty fields are left out. Separator "," or ";", whichever comes first in the
   text; fields may stand in double quotes; a first line that begins with
   "address" is a header and may order the columns. A line that says the same
   as another one is left out; one that says other things of its address is bad.
   ERR_SETUP "line N: ..." for the first bad line; NULL then. */
json_t *csv_accounts(const char *text, size_t length, struct err *err);

#endif
