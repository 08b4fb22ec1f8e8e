/*
 * Where the copy engine reads from: one logged-in connection to a legacy
 * mailbox. It never changes what it reads: EXAMINE and PEEK only. Folder names
 * are those of the wire (modified UTF-7), as the peer spells them.
 */
#ifndef MIGRATOR_SOURCE_H
#define MIGRATOR_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "migrator/job.h"

struct source;

struct source_folder {
    char *name;     /* owned */
    char separator; /* NUL: none (NIL) */
    bool exists;    /* false: only a subscription names it */
    bool is_selectable;
    bool is_subscribed;
};

struct source_folder_list {
    struct source_folder *items; /* owned; by name, INBOX first */
    size_t count;
};

/* What STATUS or EXAMINE says of a folder; 0 where nothing was said. */
struct source_status {
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint32_t messages;
    uint32_t recent;   /* EXAMINE only: how many are \Recent */
    uint64_t modseq;   /* HIGHESTMODSEQ */
    bool has_messages; /* MESSAGES was said */
};

/* System flags as bits; the letters of Maildir in their order. */
enum message_flag {
    MESSAGE_DRAFT = 1,    /* D */
    MESSAGE_FLAGGED = 2,  /* F */
    MESSAGE_ANSWERED = 4, /* R */
    MESSAGE_SEEN = 8,     /* S */
    MESSAGE_DELETED = 16  /* T */
};

#define SOURCE_KEYWORDS_MAX 64 /* of one message; more are cut */

struct source_message {
    uint32_t uid;
    uint8_t flags;    /* enum message_flag */
    bool has_flags;   /* FLAGS was in the response */
    int64_t date;     /* INTERNALDATE, Unix seconds */
    int zone_minutes; /* and its zone, east is positive */
    uint32_t size;    /* RFC822.SIZE: a hint */
    const char *keywords[SOURCE_KEYWORDS_MAX]; /* borrowed for the call */
    unsigned keyword_count;
};

/* -1 stops the command; the connection is of no use then. */
typedef int source_message_fn(void *ctx, const struct source_message *message,
                              struct err *err);
/* UIDs first..last are gone. */
typedef int source_vanished_fn(void *ctx, uint32_t first, uint32_t last,
                               struct err *err);

/* Where bodies go. */
struct source_sink {
    /* bytes of the body that is arriving */
    int (*piece)(void *ctx, const char *bytes, size_t length, struct err *err);
    /* the body is whole; all fields of the message are filled */
    int (*end)(void *ctx, const struct source_message *message,
               struct err *err);
};

/* Connect and log in (session_imap.h). ERR_DENIED: password refused. */
int source_open(const struct migration_job *job, struct source **source_out,
                struct err *err);
void source_close(struct source **source);

bool source_has_condstore(const struct source *source);
bool source_has_qresync(const struct source *source);
/* Legacy's personal namespace; "" where it is empty. False: not told. */
bool source_namespace(const struct source *source, const char **prefix_out,
                      char *separator_out);
/* The connection is of no use any more: close it and open another. */
bool source_is_broken(const struct source *source);

/* LIST and LSUB. Folders of others and shared ones are left out. A failure of
   LIST is ERR_RETRY, never an empty list. */
int source_list(struct source *source, struct source_folder_list *out,
                struct err *err);
void source_folder_list_release(struct source_folder_list *list);

/* STATUS. ERR_ITEM if the peer refuses this folder (NO). */
int source_status(struct source *source, const char *folder,
                  struct source_status *out, struct err *err);
/* EXAMINE it; the calls below read this folder. ERR_ITEM: refused. */
int source_examine(struct source *source, const char *folder,
                   struct source_status *out, struct err *err);

/* All UIDs of the folder, ascending, each once; *uids_out is for free(). */
int source_uids(struct source *source, uint32_t **uids_out, size_t *count_out,
                struct err *err);
/* UID FLAGS and, if is_whole, INTERNALDATE RFC822.SIZE of these UIDs
   (ascending). */
int source_metadata(struct source *source, const uint32_t *uids, size_t count,
                    bool is_whole, source_message_fn *fn, void *ctx,
                    struct err *err);

struct source_changed {
    uint32_t first, last; /* UIDs to look at */
    uint64_t since;       /* HIGHESTMODSEQ of the last time */
    source_message_fn *message;
    source_vanished_fn *vanished; /* NULL: do not ask (needs QRESYNC) */
    void *ctx;
};

/* Flags changed since a HIGHESTMODSEQ (CONDSTORE), and what is gone since. */
int source_changes(struct source *source, const struct source_changed *changed,
                   struct err *err);
/* Bodies and metadata of these UIDs (ascending), streamed in the order they
   arrive, several messages a command. ERR_ITEM: the peer answered NO or BAD;
   what had end() called is there. ERR_RETRY: the connection is gone. A body
   that the peer leaves out is simply not ended. */
int source_bodies(struct source *source, const uint32_t *uids, size_t count,
                  const struct source_sink *sink, void *ctx, struct err *err);

#endif
