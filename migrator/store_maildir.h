/*
 * A Maildir++ that nobody reads yet. File names are made from the identity of
 * the message on legacy, so that a replay after a crash writes the same names;
 * everything Dovecot would have to find out by reading is in names and in
 * dovecot-uidlist.
 */
#ifndef MIGRATOR_STORE_MAILDIR_H
#define MIGRATOR_STORE_MAILDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_NAME_SIZE    160
#define STORE_KEYWORDS_MAX 26 /* a letter each */
#define STORE_DIGEST_SIZE  16
#define STORE_UIDNEXT_GAP                                                      \
    1000 /* what legacy may still give out at the flip                         \
          */
#define STORE_WITNESS "mailhaul-witness"

struct store;
struct store_folder;

struct store_message {
    uint32_t uid;
    uint8_t flags; /* enum message_flag */
    uint64_t keywords;
    int64_t date; /* INTERNALDATE, Unix seconds */
    uint32_t size, vsize;
};

/* Make the Maildir if it is missing. With is_durable each file is on disk
   before its call returns; else store_sync() brings everything there. */
int store_open(const char *maildir, bool is_durable, struct store **out,
               struct err *err);
void store_close(struct store **store);
/* Leave so much of the file system free from now on: store_write() and
   store_put() fail with ERR_RETRY when less is left, looked up at the first and
   every 4 MB or 100 files. 0: none. */
void store_keep_free(struct store *store, uint64_t bytes, uint64_t inodes);
/* One syncfs, if anything was written. */
int store_sync(struct store *store, struct err *err);
/* The same, also for what was written by others before. */
int store_sync_all(struct store *store, struct err *err);

/* The witness says which epoch the mailbox was handed over in, on its first
   line; record is the second, as in the witness journal. */
int store_write_witness(struct store *store, int64_t epoch, const char *record,
                        struct err *err);
bool store_read_witness(const struct store *store, int64_t *epoch_out);
/* The same of a Maildir that is not open. */
bool store_peek_witness(const char *maildir, int64_t *epoch_out);
int store_remove_witness(struct store *store, struct err *err);

/* Lines are those of folder_subscription(). */
int store_write_subscriptions(struct store *store, char *const *lines,
                              size_t count, struct err *err);
/* Remove a folder with all that the copy has put there; "" empties INBOX. What
   somebody else has put there is somebody's mail: it stays, and the folder with
   it. */
int store_remove_folder(struct store *store, const char *directory,
                        struct err *err);

int store_rename_folder(struct store *store, const char *from, const char *to,
                        struct err *err);

/* Open it for writing, made if it is missing. hash and uidvalidity go into the
   names. */
int store_folder_open(struct store *store, const char *directory, uint32_t hash,
                      uint32_t uidvalidity, struct store_folder **out,
                      struct err *err);
/* Brings the directory to disk if the store is durable. */
int store_folder_close(struct store_folder **folder, struct err *err);

/* ---- messages ---- */

/* The bytes of the next message; nothing is there before store_put(). */
int store_write(struct store_folder *folder, const void *bytes, size_t length,
                struct err *err);
/* What was written since the last message: length, length with every line end
   as CRLF, and digest. */
void store_measure(struct store_folder *folder, uint32_t *size_out,
                   uint32_t *vsize_out, uint8_t digest[STORE_DIGEST_SIZE]);
/* Give it its name and date; message->size and vsize are those measured. */
int store_put(struct store_folder *folder, const struct store_message *message,
              struct err *err);
/* Forget what was written since the last message. */
void store_drop(struct store_folder *folder);

/* ERR_ITEM if it is not there. */
int store_rename(struct store_folder *folder, const struct store_message *from,
                 const struct store_message *to, struct err *err);
/* It may be missing already. */
int store_remove(struct store_folder *folder,
                 const struct store_message *message, struct err *err);

/* ---- repair ---- */

/* Look through the folder's files. known(ctx, uid, &message) says what the
   ledger has of a UID (false: nothing); files of ours that are not as it says
   are renamed or removed; those that are right are told by found(ctx, uid).
   What somebody else has put there is somebody's mail, and stays. */
struct store_repair {
    bool (*known)(void *ctx, uint32_t uid, struct store_message *out);
    void (*found)(void *ctx, uint32_t uid);
    void *ctx;
};
int store_repair(struct store_folder *folder, const struct store_repair *repair,
                 struct err *err);

/* What becomes of a file of cur/ or new/; RENAME: `to` is its new name. */
enum store_fate { STORE_KEEP, STORE_REMOVE, STORE_RENAME };
typedef enum store_fate store_fate_fn(void *ctx, const char *name, char *to,
                                      size_t size);
int store_sweep(struct store_folder *folder, store_fate_fn *fate, void *ctx,
                struct err *err);
/* The UID in a file's name; 0: it is not one of this folder's. */
uint32_t store_uid_of(const struct store_folder *folder, const char *name);

/* Remove the index files that Dovecot itself made in this folder. */
int store_forget_index(struct store_folder *folder, struct err *err);
/* Somebody let Dovecot open this folder: its index files would give new UIDs to
   messages that we add below the next UID of our list. */
bool store_was_opened(const struct store *store, const char *directory);
/* What a folder's cur/ is known by: another one, or one in which a file has
   come, gone or been renamed, has another mark. False: there is none. */
struct store_mark {
    uint64_t inode;
    int64_t mtime_ns;
};
bool store_mark(const struct store *store, const char *directory,
                struct store_mark *out);
/* Make Dovecot's HIGHESTMODSEQ begin at `modseq`: it is given a transaction log
   with nothing but its header, which says so. All that Dovecot then indexes has
   a higher one, and since the log tells nothing of what was before, a QRESYNC
   client that comes with a lower one gets everything it must know: all flags,
   and VANISHED (EARLIER) for what legacy expunged while it was away. Replaces
   index files that are there. */
int store_lift_modseq(struct store_folder *folder, uint64_t modseq,
                      struct err *err);

/* ---- dovecot-uidlist and dovecot-keywords ---- */

/* A new list, with the next UID; it replaces the old one at the end. */
int store_list_begin(struct store_folder *folder, uint32_t uidnext,
                     const char *address, const char *folder_name,
                     struct err *err);
/* Ascending by UID. uidl may be NULL, order 0. */
int store_list_add(struct store_folder *folder,
                   const struct store_message *message, const char *uidl,
                   uint32_t order, struct err *err);
int store_list_end(struct store_folder *folder, struct err *err);
int store_write_keywords(struct store_folder *folder, char *const *names,
                         unsigned count, struct err *err);

#endif
