/*
 * What the schema tables of the configuration cannot say: bounds, known words,
 * settings that need each other. For conf.c only.
 */
#ifndef BASE_CONF_CHECK_H
#define BASE_CONF_CHECK_H

#include <stdbool.h>

#include "base/conf.h"
#include "base/err.h"

/* text is the file, for the line of a mistake. ERR_SETUP "file:line: ...". */
int conf_check(const struct conf *conf, const char *text, struct err *err);

/* The line of the first `key:` behind that place (both counted from 1); the
   place's own line if there is none. */
unsigned conf_line_of_key(const char *text, const char *key, unsigned line,
                          unsigned column);

/* Before the defaults are filled in: a number of workers or of sessions that is
   written as 0, where none written means the default. */
int conf_check_given(const struct conf *conf, const char *text,
                     struct err *err);

/* store.reserve as numbers. */
int conf_read_reserve(struct conf *conf, const char *text, struct err *err);

/* Whether the section has the key at all. */
bool conf_is_given(const char *text, const char *section, const char *key);

#endif
