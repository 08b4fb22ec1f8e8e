/*
 * Between columns and struct members, for the files of the tables.
 */
#ifndef DB_ROW_H
#define DB_ROW_H

#include <stddef.h>
#include <stdint.h>

#include "db/db.h"

/* The text of a column into an array of `size` bytes; ERR_SETUP when it does
   not fit: a cut address would be somebody else's. */
int row_text(struct db_statement *s, int column, char *out, size_t size,
             struct err *err);

/* Several of them. */
struct row_text {
    char *out;
    size_t size;
    int column;
};
int row_texts(struct db_statement *s, const struct row_text *texts,
              size_t count, struct err *err);

/* The bytes of a column; -1, without an error, when they do not fit. */
int row_blob(struct db_statement *s, int column, uint8_t *out, size_t size,
             size_t *length_out);

/* Step once, have what is there read into out, and end the statement. 1 found,
   0 not found, -1 error. */
typedef int row_read_fn(struct db_statement *s, void *out, struct err *err);
int row_one(struct db_statement *s, row_read_fn *read, void *out,
            struct err *err);

#endif
