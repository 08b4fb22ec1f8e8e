/*
 * What the files of the way back share; nobody else includes it.
 */
#ifndef MIGRATOR_BACK_PARTS_H
#define MIGRATOR_BACK_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db/ledger.h"
#include "migrator/back.h"
#include "migrator/message_file.h"
#include "migrator/source.h"
#include "migrator/store_imap.h"

struct back {
    const struct migration_job *job; /* borrowed */
    struct progress *progress;       /* borrowed; NULL: nobody listens */
    struct migration_report *report; /* borrowed; NULL: nobody listens */
    struct ledger *ledger;           /* durable */
    struct source *local;            /* to read */
    struct source *legacy;           /* to read */
    struct store_imap *store;        /* legacy, to write */
    struct source_folder_list local_list, legacy_list;
    const char *local_prefix, *legacy_prefix; /* borrowed */
    char legacy_separator;
    struct ledger_folder *folders; /* owned */
    size_t folder_count;
    struct message_file file;
    bool has_settled; /* the time an APPEND may still take has passed */
    unsigned refused; /* messages that legacy does not take */
};

/* A row of the ledger whose message local has, or had. */
struct back_row {
    uint32_t uid;       /* legacy's */
    uint32_t local_uid; /* 0: not known */
    enum ledger_state state;
    uint8_t flags;
    uint64_t keywords;
    int64_t date;
    uint32_t vsize;
    uint8_t digest[LEDGER_DIGEST_SIZE];
    bool is_found; /* local has it still */
};

/* One folder that both sides have. */
struct back_folder {
    struct back *back;
    struct ledger_folder *row; /* borrowed */
    const char *local_name;    /* borrowed: as local calls it */
    bool is_subscribed;
    bool is_same; /* UIDs of the copy mean the same on both sides */
    struct source_status local;
    uint32_t *local_uids; /* owned; ascending */
    size_t local_count;
    struct back_row *rows; /* owned; by local_uid */
    size_t row_count;
};

/* --- back.c */
/* A line of what could not be taken back. */
void back_tell(struct back *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int back_open_legacy(struct back *b, struct err *err);
int back_progress(struct back *b, struct err *err);

/* --- back_message.c */
/* Read which messages the ledger knows of the folder. */
int back_rows_read(struct back_folder *f, struct err *err);
/* Append what it does not know. */
int back_append_new(struct back_folder *f, struct err *err);
/* What open intents have become; legacy is open. */
int back_settle_intents(struct back *b, struct err *err);

/* --- back_space.c */
/* Bring legacy's UIDNEXT above every UID that local has given out under the
   same UIDVALIDITY: a client takes a lower one for a message that it knows, or
   has seen go. */
int back_make_space(struct back_folder *f, struct err *err);
int back_settle_space(struct back *b, int64_t folder, uint32_t first,
                      struct err *err);

/* --- back_changes.c */
/* Bring flags to legacy: of what was taken back, and with_changes of all; in
   the last pass also deletions. */
int back_changes(struct back_folder *f, struct err *err);

#endif
