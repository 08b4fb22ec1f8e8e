#include "db/row.h"

#include <stdio.h>
#include <string.h>

int row_text(struct db_statement *s, int column, char *out, size_t size,
             struct err *err)
{
    int length = snprintf(out, size, "%s", db_text(s, column));

    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "database: column %d is too long",
                       column);
    return 0;
}

int row_texts(struct db_statement *s, const struct row_text *texts,
              size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (row_text(s, texts[i].column, texts[i].out, texts[i].size, err) ==
            -1)
            return -1;
    }
    return 0;
}

int row_blob(struct db_statement *s, int column, uint8_t *out, size_t size,
             size_t *length_out)
{
    const void *bytes = db_blob(s, column, length_out);

    if (*length_out > size)
        return -1;
    if (*length_out > 0)
        memcpy(out, bytes, *length_out);
    return 0;
}

int row_one(struct db_statement *s, row_read_fn *read, void *out,
            struct err *err)
{
    int result = db_step(s, err);

    if (result == 1 && read(s, out, err) == -1)
        result = -1;
    db_finish(s);
    return result;
}
