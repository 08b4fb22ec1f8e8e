/*
 * Lists of accounts, one a line. Pure.
 */
#ifndef CLI_CSV_H
#define CLI_CSV_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

enum csv_encoding { CSV_UTF8, CSV_WINDOWS_1252 };

/* The lines as objects in the array `entries`:
 *
 *   line, address, legacy_user, password, hash, owner, group   texts
 *   names, aliases, forward                                    arrays of texts
 *   quota                                                      bytes
 *
 * Empty fields are left out; "-" says that there is none: "", [] or 0. Several
 * names, aliases or forwards stand in one field with spaces between. A quota is
 * bytes, or has a K, M, G or T behind it (of 1024).
 *
 * The separator is "," or ";", whichever comes first in the text; fields may
 * stand in double quotes; a first line with "address" among its fields is a
 * header and orders the columns, otherwise they are address, legacy_user,
 * password. A line that says the same as another one is left out; one that says
 * other things of its address is bad. What is bad goes as {line, error} into
 * the array `problems`, and the next line is read. -1 with ERR_SETUP for a bad
 * header: nothing is read then. */
int csv_accounts(const char *text, size_t length, enum csv_encoding encoding,
                 json_t *entries, json_t *problems, struct err *err);

#endif
