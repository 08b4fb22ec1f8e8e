/*
 * The ledger of one mailbox: what became of each message of legacy. One SQLite
 * file a mailbox, opened only by the worker that holds the lock beside it.
 * Identity is (folder, UIDVALIDITY, UID); rows of an older UIDVALIDITY are gone
 * once the folder is matched anew.
 */
#ifndef DB_LEDGER_H
#define DB_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LEDGER_DIGEST_SIZE  16
#define LEDGER_KEYWORDS_MAX 63 /* of a folder; a bit each */

struct ledger;

enum ledger_state {
    LEDGER_STORED,    /* is in the store */
    LEDGER_SET_ASIDE, /* could not be fetched; see error */
    LEDGER_INTENT,    /* trail: an APPEND was begun, its answer is not known */
    LEDGER_APPENDED,  /* trail: is in the store under local_uid */
    LEDGER_RETURNED   /* way back: local's local_uid, appended to legacy */
};

struct ledger_folder {
    int64_t id;
    char *name;      /* as on legacy's wire; owned */
    char *directory; /* in the store: "" is the root, else ".A.B"; owned */
    char separator;
    bool is_selectable;
    bool is_subscribed;
    uint32_t uidvalidity;   /* of the messages rows; 0: not yet copied */
    uint32_t uidnext;       /* legacy's, at the end of the last pass */
    uint64_t modseq;        /* legacy's HIGHESTMODSEQ then; 0: none */
    uint32_t messages;      /* legacy's count then */
    bool is_complete;       /* everything below uidnext was looked at */
    uint32_t flip_uidnext;  /* legacy's UIDNEXT at the flip; trail: what is at
                               or above is new; 0: not flipped */
    uint64_t lifted_modseq; /* local's HIGHESTMODSEQ was lifted to; 0: never */
    int64_t uidl_count;     /* POP3 UIDLs known (INBOX) */
    uint64_t cur_inode;     /* of the store's cur/ as we left it; 0: unknown */
    int64_t cur_mtime_ns;   /* since 1970 */
    uint32_t least_uidnext; /* local has given out UIDs below; 0: not known */
    uint64_t least_modseq;  /* local has told of such ones below; 0: none */
};

struct ledger_message {
    uint32_t uid;
    enum ledger_state state;
    uint8_t flags;     /* enum message_flag */
    uint64_t keywords; /* bits: positions in the folder's keyword list */
    int64_t date;      /* INTERNALDATE, Unix seconds */
    uint32_t size;     /* bytes stored */
    uint32_t vsize;    /* with every line end as CRLF */
    uint8_t digest[LEDGER_DIGEST_SIZE]; /* SHA-256, first half */
    uint32_t pop3_order; /* 1 is the first of POP3's list; 0: none */
    uint32_t local_uid;  /* trail: from APPENDUID */
    const char *uidl;    /* POP3's, NULL: none; see the calls for whose */
    const char *error;   /* NULL: none */
    unsigned attempts;
};

/* A message that is set aside. */
struct ledger_aside {
    int64_t folder;
    const char *name; /* of the folder, as on legacy's wire */
    uint32_t uidvalidity, uid;
    const char *error; /* "" : not told */
};

/* Make the directory (0700) if need be, take its lock for the life of the
   ledger, open or create ledger.db. ERR_RETRY: another worker holds it. */
int ledger_open(const char *directory, struct ledger **out, struct err *err);
void ledger_close(struct ledger **ledger);

int ledger_begin(struct ledger *ledger, struct err *err);
int ledger_commit(struct ledger *ledger, struct err *err);
void ledger_rollback(struct ledger *ledger);
/* From now on commits survive power loss (for the final pass), and what was
   written before is brought to disk. */
int ledger_make_durable(struct ledger *ledger, struct err *err);

/* Small values of the whole mailbox ("boot", "epoch", ...). *value_out is for
   free(), NULL if there is none. */
int ledger_get(struct ledger *ledger, const char *key, char **value_out,
               struct err *err);
int ledger_put(struct ledger *ledger, const char *key, const char *value,
               struct err *err);

/* All folders by id; *folders_out is for ledger_folders_free. */
int ledger_folders(struct ledger *ledger, struct ledger_folder **folders_out,
                   size_t *count_out, struct err *err);
void ledger_folders_free(struct ledger_folder **folders, size_t count);
/* Insert (id 0; sets id) or update. */
int ledger_folder_save(struct ledger *ledger, struct ledger_folder *folder,
                       struct err *err);
/* Remove its messages and keywords. */
int ledger_folder_empty(struct ledger *ledger, int64_t folder, struct err *err);
/* With all its messages and keywords. */
int ledger_folder_remove(struct ledger *ledger, int64_t folder,
                         struct err *err);

/* The position of a keyword in the folder's list, appended if it is new;
 *position_out is -1 when the list is full. */
int ledger_keyword(struct ledger *ledger, int64_t folder, const char *name,
                   int *position_out, struct err *err);
/* Names by position; *names_out is one block for free(). */
int ledger_keywords(struct ledger *ledger, int64_t folder, char ***names_out,
                    unsigned *count_out, struct err *err);

/* Called for each row in ascending order of UID; its texts live until the call
   returns. -1 ends the walk. */
typedef int ledger_message_fn(void *ctx, const struct ledger_message *message,
                              struct err *err);
int ledger_messages(struct ledger *ledger, int64_t folder,
                    ledger_message_fn *fn, void *ctx, struct err *err);
/* 1: found; 0: none; -1. Texts live until the next call on the ledger. */
int ledger_message_find(struct ledger *ledger, int64_t folder, uint32_t uid,
                        struct ledger_message *out, struct err *err);
/* Insert or replace. */
int ledger_message_save(struct ledger *ledger, int64_t folder,
                        const struct ledger_message *message, struct err *err);
int ledger_message_remove(struct ledger *ledger, int64_t folder, uint32_t uid,
                          struct err *err);
int ledger_message_set_flags(struct ledger *ledger, int64_t folder,
                             uint32_t uid, uint8_t flags, uint64_t keywords,
                             struct err *err);
int ledger_message_set_uidl(struct ledger *ledger, int64_t folder, uint32_t uid,
                            const char *uidl, uint32_t order, struct err *err);

/* What is set aside, folder by folder; its texts live until the call returns.
   -1 ends the walk. */
typedef int ledger_aside_fn(void *ctx, const struct ledger_aside *row,
                            struct err *err);
int ledger_each_aside(struct ledger *ledger, ledger_aside_fn *fn, void *ctx,
                      struct err *err);

/* ---- the way back (ledger_back.c) ---- */

enum ledger_back_state {
    LEDGER_BACK_INTENT,  /* an APPEND to legacy was begun */
    LEDGER_BACK_REFUSED, /* legacy does not take it; see error */
    LEDGER_BACK_SPACE    /* uid 0: placeholders that are to be removed again */
};

/* A message of local that is not on legacy yet. One that is has a row of its
   legacy UID instead, as LEDGER_RETURNED. */
struct ledger_back {
    uint32_t uidvalidity, uid; /* local's */
    enum ledger_back_state state;
    uint32_t first; /* lowest UID that legacy may have given it */
    uint8_t flags;
    uint64_t keywords;
    int64_t date;
    uint32_t size, vsize;
    uint8_t digest[LEDGER_DIGEST_SIZE]; /* of body_digest.h */
    const char *error;                  /* NULL: none */
};

typedef int ledger_back_fn(void *ctx, int64_t folder,
                           const struct ledger_back *back, struct err *err);
/* folder 0: of every folder. fn may not write to the ledger. */
int ledger_backs(struct ledger *ledger, int64_t folder, ledger_back_fn *fn,
                 void *ctx, struct err *err);
/* Insert or replace. */
int ledger_back_save(struct ledger *ledger, int64_t folder,
                     const struct ledger_back *back, struct err *err);
int ledger_back_remove(struct ledger *ledger, int64_t folder,
                       uint32_t uidvalidity, uint32_t uid, struct err *err);
/* Forget what was refused, which a new pass tries again. */
int ledger_back_forget_refused(struct ledger *ledger, struct err *err);

/* A file of local (name without flags) that legacy has under a UID: the copy of
   that takes its place. */
int ledger_superseded_add(struct ledger *ledger, int64_t folder,
                          const char *file, uint32_t uid, struct err *err);
int ledger_superseded_remove(struct ledger *ledger, int64_t folder,
                             const char *file, struct err *err);
/* Called for each; fn may not write to the ledger. */
int ledger_superseded(struct ledger *ledger, int64_t folder,
                      int (*fn)(void *ctx, const char *file, uint32_t uid),
                      void *ctx, struct err *err);

/* Rows in the store (STORED, APPENDED and RETURNED) with their bytes, and those
   set aside; folder 0: the whole mailbox. Any of the outs may be NULL. */
int ledger_totals(struct ledger *ledger, int64_t folder, int64_t *messages_out,
                  int64_t *bytes_out, int64_t *set_aside_out, struct err *err);

#endif
