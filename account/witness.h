/*
 * The witness journal: which account was given to which side, told by the store
 * itself and not by the control db. One file in the part of store.path that all
 * mailboxes share, so that it is put back with the mail and not with state_dir:
 *
 *   /var/mail/{domain}/{local}/Maildir   ->   /var/mail/.mailhaul/witness
 *
 * Append-only lines, each with a checksum: a torn one is passed over. A record
 * is on disk before the side it names serves anybody. Beside the accounts
 * stand the settings of the domains, without secrets.
 */
#ifndef ACCOUNT_WITNESS_H
#define ACCOUNT_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "db/domains.h"
#include "db/refused.h"

#define WITNESS_DIRECTORY ".mailhaul"
#define WITNESS_FILE      "witness"
#define WITNESS_LINE_MAX  16384

/* The directory all mailboxes share, without a slash at its end; ERR_SETUP
   where store.path is not set or names none. */
int witness_base(const struct conf *conf, char *out, size_t size,
                 struct err *err);
int witness_path(const struct conf *conf, char *out, size_t size,
                 struct err *err);

/* One line with its newline, terminated. top: the latest generation that the
   journal holds with this line. Its length; 0 if it is too long. */
size_t witness_format(const struct witness *w, int64_t top,
                      char out[WITNESS_LINE_MAX]);
/* d->name alone, with is_gone, for a domain that was removed. */
size_t witness_format_domain(const struct domain *d, bool is_gone, int64_t top,
                             char out[WITNESS_LINE_MAX]);

/* Append and bring to disk; what is behind the last whole line stays a line of
   its own. Blocks. */
int witness_append(int fd, const char *text, size_t length, struct err *err);

/* The latest generation of the journal, from its last lines; 0: it is empty. */
int witness_last(int fd, int64_t *generation_out, struct err *err);

struct witness_reader {
    /* in the order of the file; -1 ends the reading */
    int (*account)(void *ctx, const struct witness *w, struct err *err);
    int (*domain)(void *ctx, const struct domain *d, bool is_gone,
                  struct err *err); /* may be NULL */
    void *ctx;
    int64_t records, torn, top; /* out */
};
int witness_read(int fd, struct witness_reader *reader, struct err *err);

/* The witness of a mailbox is such a line too: what this one says. */
bool witness_parse(char *line, struct witness *out);

#endif
