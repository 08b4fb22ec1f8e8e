/*
 * A Maildir++ as its files stand on disk, for comparing: dovecot-uidlist, file
 * names, dovecot-keywords, subscriptions. Only reads, takes no lock, and
 * believes nothing that another writer may have left half done.
 */
#ifndef MIGRATOR_MAILDIR_READ_H
#define MIGRATOR_MAILDIR_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MAILDIR_KEYWORDS 26 /* letters a to z in file names */

struct maildir_message {
    uint32_t uid;     /* 0: a file that dovecot-uidlist does not name */
    char *name;       /* owned: of the file; NULL: no file */
    char *uidl;       /* owned: NULL: none */
    uint32_t order;   /* POP3's, 0: none */
    bool is_new;      /* in new/, not in cur/ */
    bool is_copied;   /* written by the copy: its name holds the same UID */
    uint8_t flags;    /* enum message_flag */
    uint32_t letters; /* keywords, bit 0 is 'a' */
    int64_t size;     /* S= in the name, -1 none */
    int64_t vsize;    /* W= in the name, -1 none */
};

struct maildir_folder {
    char *path; /* owned */
    bool has_list;
    uint32_t uidvalidity, uidnext;
    struct maildir_message *messages; /* owned: by UID, those with 0 first */
    size_t count;
    char *keywords[MAILDIR_KEYWORDS]; /* owned: NULL where there is none */
};

/* directory "" is the root, else ".A.B". ERR_ITEM: there is no such folder. */
int maildir_read(const char *root, const char *directory,
                 struct maildir_folder *out, struct err *err);
void maildir_folder_release(struct maildir_folder *folder);

/* With that UID and a file, NULL: none. */
const struct maildir_message *maildir_find(const struct maildir_folder *folder,
                                           uint32_t uid);

/* Open its file for reading, also when its flags were changed meanwhile; -1 if
   it is gone. */
int maildir_open_message(const struct maildir_folder *folder,
                         const struct maildir_message *message);

/* Directories of the folders below the root (".A.B"); *names_out is an array of
   strings for maildir_names_free. */
int maildir_list(const char *root, char ***names_out, size_t *count_out,
                 struct err *err);
/* Lines of the subscriptions file as folder_subscription() writes them; none if
   there is no file. */
int maildir_subscriptions(const char *root, char ***names_out,
                          size_t *count_out, struct err *err);
void maildir_names_free(char ***names, size_t count);

/* One record line of dovecot-uidlist version 3 into *out (uid, uidl, order) and
 *base_out (borrowed: in the line). False: malformed. Pure. */
bool maildir_parse_record(char *line, struct maildir_message *out,
                          const char **base_out);
/* Flags, letters and sizes of a file's name. Pure. */
void maildir_parse_name(const char *name, struct maildir_message *out);

#endif
