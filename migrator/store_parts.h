/*
 * What the files of the Maildir store share; nobody else includes it.
 */
#ifndef MIGRATOR_STORE_PARTS_H
#define MIGRATOR_STORE_PARTS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/digest.h"
#include "migrator/store_maildir.h"

struct store {
    int root; /* directory; -1: not open */
    char *path;
    bool is_durable;
    bool is_dirty;                    /* written since the last store_sync() */
    uint64_t keep_bytes, keep_inodes; /* free on the file system; 0: none */
    uint64_t put_bytes, put_files;    /* since that was looked up */
};

struct store_folder {
    struct store *store; /* borrowed */
    int directory, cur, tmp;
    uint32_t hash, uidvalidity;
    /* the message that is being written */
    struct digest *digest;
    char *bytes; /* STORE_BUFFER_SIZE */
    size_t used;
    uint64_t size, bare_lf;
    char last; /* byte of the message; NUL at its start */
    int part;  /* file in tmp/ for what does not fit into bytes; -1: none */
    /* the new dovecot-uidlist */
    FILE *list; /* NULL: none */
};

#define STORE_BUFFER_SIZE 131072

/* So much is being written; ERR_RETRY: the reserve would be touched.
   (store_reserve.c) */
int store_use(struct store *store, uint64_t bytes, uint64_t files,
              struct err *err);
int store_fail(struct err *err, const char *what);
/* The part of the name before ":2,", or with is_whole all of it. */
void store_name(const struct store_folder *folder,
                const struct store_message *message, bool is_whole,
                char out[STORE_NAME_SIZE]);

#endif
