#include "db/row.h"

#include <stdio.h>

int row_text(struct db_statement *s, int column, char *out, size_t size,
             struct err *err)
{
    int length = snprintf(out, size, "%s", db_text(s, column));

    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "database: column %d is too long",
                       column);
    return 0;
}
