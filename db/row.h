/*
 * Between columns and struct members, for the files of the tables.
 */
#ifndef DB_ROW_H
#define DB_ROW_H

#include <stddef.h>

#include "db/db.h"

/* The text of a column into an array of `size` bytes; ERR_SETUP when it does
   not fit: a cut address would be somebody else's. */
int row_text(struct db_statement *s, int column, char *out, size_t size,
             struct err *err);

#endif
