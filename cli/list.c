/*
 * A list of accounts from a file, or from standard input.
 */
#include "cli/list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/wire.h"
#include "base/mem.h"
#include "base/secret.h"
#include "cli/csv.h"

#define FIRST_BYTES (64u << 10)

/* The whole text; passwords may be in it: it is wiped where it moves. */
static char *read_all(FILE *file, size_t max_bytes, size_t *length_out)
{
    size_t size = FIRST_BYTES, used = 0, got;
    char *text = mem_alloc(size);

    while ((got = fread(text + used, 1, size - used, file)) > 0) {
        used += got;
        if (used > max_bytes)
            break;
        if (used == size) {
            char *wider = mem_alloc(2 * size);

            memcpy(wider, text, used);
            explicit_bzero(text, used);
            free(text);
            text = wider;
            size *= 2;
        }
    }
    *length_out = used;
    return text;
}

static int encoding_named(const char *name, enum csv_encoding *out,
                          struct err *err)
{
    *out = CSV_UTF8;
    if (!name || strcasecmp(name, "utf-8") == 0)
        return 0;
    if (strcasecmp(name, "windows-1252") != 0)
        return err_set(err, ERR_SETUP,
                       "--encoding: utf-8 or windows-1252, not %.40s", name);
    *out = CSV_WINDOWS_1252;
    return 0;
}

int list_read(const struct list_source *source, json_t *entries,
              json_t *problems, struct err *err)
{
    FILE *file = stdin;
    enum csv_encoding encoding;
    size_t length;
    char *text;
    int rc;

    if (encoding_named(source->encoding, &encoding, err) == -1)
        return -1;
    if (strcmp(source->path, "-") != 0 && !(file = fopen(source->path, "r")))
        return err_set(err, ERR_SETUP, "%s: %s", source->path, strerror(errno));
    text = read_all(file, source->max_bytes, &length);
    if (ferror(file))
        rc = err_set(err, ERR_SETUP, "%s: cannot be read", source->path);
    else if (length > source->max_bytes)
        rc = err_set(err, ERR_SETUP, "%s: too long; split it", source->path);
    else if ((rc = csv_accounts(text, length, encoding, entries, problems,
                                err)) == -1)
        err_prefix(err, "%s", source->path);
    explicit_bzero(text, length);
    free(text);
    if (file != stdin)
        fclose(file);
    return rc;
}
