#include "db/row.h"

#include <stdio.h>
#include <time.h>

int row_text(struct db_statement *s, int column, char *out, size_t size,
             struct err *err)
{
    int length = snprintf(out, size, "%s", db_text(s, column));

    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "database: column %d is too long",
                       column);
    return 0;
}

int64_t row_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
