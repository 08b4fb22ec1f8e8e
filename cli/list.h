/*
 * A list of accounts from a file: what `migrate --csv` and `account import`
 * read.
 */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

struct list_source {
    const char *path;     /* "-": standard input */
    const char *encoding; /* "utf-8", "windows-1252"; NULL: UTF-8 */
    size_t max_bytes;
};

/* Read it into entries and problems as csv_accounts() does; ERR_SETUP for a
   file that cannot be read, is longer than max_bytes or has a bad header. */
int list_read(const struct list_source *source, json_t *entries,
              json_t *problems, struct err *err);

#endif
