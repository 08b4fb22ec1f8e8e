/*
 * Folder names of legacy as directories of a Maildir++ and as lines of its
 * subscriptions. Pure. A client sees the same name on both sides, because local
 * is told legacy's personal prefix and separator; what a Maildir++ directory
 * cannot hold is written as \xx in hexadecimal, as Dovecot's listescape does.
 */
#ifndef MIGRATOR_FOLDER_NAME_H
#define MIGRATOR_FOLDER_NAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FOLDER_DIRECTORY_SIZE 256 /* NAME_MAX and the end */

/* The directory below the root: "" for INBOX, ".A.B" for A/B. 8-bit names are
   turned into modified UTF-7. ERR_ITEM if the name cannot be held: too long,
   an empty part, or outside of the personal prefix. */
int folder_directory(const char *name, char separator, const char *prefix,
                     char out[FOLDER_DIRECTORY_SIZE], struct err *err);

/* The line for the subscriptions file (version 2: parts set apart by tabs);
   INBOX is "INBOX". */
int folder_subscription(const char *name, char separator, const char *prefix,
                        char out[FOLDER_DIRECTORY_SIZE], struct err *err);

/* The name as a client shows it: modified UTF-7 decoded (RFC 3501 5.1.3), cut
   to size; what is no such text stays as it is. */
void folder_shown(const char *name, char *out, size_t size);

/* The same below the personal prefix, with '/' between its levels: the name
   that account/folder_rules.h means. */
void folder_path(const char *name, char separator, const char *prefix,
                 char *out, size_t size);

/* A number that differs between the folders of a mailbox, for file names. */
uint32_t folder_hash(const char *name);

#endif
