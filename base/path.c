#include "base/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

int path_make(const char *path, struct err *err)
{
    char *copy = mem_dup_text(path);
    int rc = 0;

    for (char *at = copy + 1; rc == 0; at++) {
        char was = *at;

        if (was != '/' && was != '\0')
            continue;
        *at = '\0';
        if (mkdir(copy, 0700) == -1 && errno != EEXIST)
            rc = err_set(err, err_kind_of_errno(errno), "%s: %s", copy,
                         strerror(errno));
        *at = was;
        if (was == '\0')
            break;
    }
    free(copy);
    return rc;
}
