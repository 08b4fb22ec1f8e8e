/*
 * What the files of the copy engine share; nobody else includes it.
 */
#ifndef MIGRATOR_COPY_PARTS_H
#define MIGRATOR_COPY_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db/ledger.h"
#include "migrator/copy.h"
#include "migrator/plan.h"
#include "migrator/source.h"
#include "migrator/store_maildir.h"

struct copy {
    const struct migration_job *job; /* borrowed */
    struct progress *progress;       /* borrowed */
    struct migration_report *report; /* borrowed */
    struct source *source;           /* NULL while disconnected */
    struct store *store;
    struct ledger *ledger;
    struct ledger_folder *folders; /* owned */
    size_t folder_count;
    struct source_folder_list listed;
    int64_t unopened;  /* folders never copied that legacy does not open */
    bool must_check;   /* rows of another boot, or set aside ones */
    bool was_unsynced; /* the last pass never came to its syncfs */
    bool is_written;   /* store or ledger were changed by this job */
    bool is_renewed;   /* every folder was made anew on legacy */
    bool was_verified; /* both sides were the same when it began */
    unsigned touched;  /* folders that this job has written to */
};

/* What is to be done with one folder of legacy. */
struct copy_task {
    size_t folder; /* index into copy->folders */
    enum plan_way way;
    struct source_status status;
    bool is_touched; /* its part of the store was written to */
};

struct copy_tasks {
    struct copy_task *items; /* owned */
    size_t count;
};

/* A row of the folder as it is kept in memory. */
struct copy_row {
    uint32_t uid, size, vsize;
    uint8_t flags;
    bool is_stored; /* else it is set aside */
    bool is_seen;   /* by the repair */
    bool is_gone;   /* removed in this pass */
    int64_t date;
    uint64_t keywords;
};

struct copy_rows {
    struct copy_row *items; /* owned; ascending by UID */
    size_t count, size;
};

/* One pass over one folder. */
struct copy_pass {
    struct copy *copy;
    struct ledger_folder *folder; /* borrowed */
    struct store_folder *store;   /* NULL until something is to be written */
    struct source_status status;  /* of EXAMINE */
    struct copy_rows rows;
    uint32_t *new_uids; /* owned; ascending */
    size_t new_count, new_size;
    bool is_changed; /* the lists of the folder must be written anew */
    bool is_marked;  /* the ledger says that a pass is under way */
    bool has_lower;  /* a message came below what was known: indexes lie */
    bool has_failed; /* store or ledger: no fault of legacy or of a message */
    unsigned batch;  /* rows since the last commit */
    char **keywords; /* owned; names by position */
    unsigned keyword_count;
};

/* copy_folder.c: bring one folder up to date. ERR_ITEM: legacy refuses it. */
int copy_folder(struct copy *copy, struct ledger_folder *folder,
                enum plan_way way, struct err *err);
/* Learn POP3 ids that are still lacking, and write its lists anew. */
int copy_folder_lists(struct copy *copy, struct ledger_folder *folder,
                      struct err *err);

/* copy_gate.c: at the end of a pass, what the gate before the flip wants to
   know: whether both sides are the same, and whether local serves the mailbox.
   Differences are counted in the report; what has some is gone through again by
   the next pass. */
int copy_gate(struct copy *copy, const struct copy_tasks *tasks,
              struct err *err);

/* copy_back.c: if local has served the mailbox since the last pass, make ready
   to write into it again. */
int copy_undo_flip(struct copy *copy, struct err *err);
/* Remove the files whose messages legacy has under UIDs of its own, once its
   copies are there. */
int copy_supersede(struct copy_pass *p, struct err *err);
/* The same of a folder that legacy has no more. */
int copy_supersede_gone(struct copy *copy, const struct ledger_folder *folder,
                        struct err *err);

/* copy_fetch.c: fetch p->new_uids into the store, setting aside what cannot be
   had. */
int copy_fetch(struct copy_pass *p, struct err *err);
/* Say in the ledger that the store is being changed; begins a transaction. */
int copy_touch(struct copy_pass *p, struct err *err);
/* Commit now and then, and tell how far we are. */
int copy_step(struct copy_pass *p, struct err *err);
/* The bits of these keywords, new ones put into the folder's list. */
int copy_keywords(struct copy_pass *p, const struct source_message *message,
                  uint64_t *bits_out, struct err *err);
struct store_message copy_store_message(const struct copy_row *row);
struct copy_row *copy_row_find(struct copy_rows *rows, uint32_t uid);
/* Put in its place by UID. */
void copy_row_put(struct copy_rows *rows, const struct copy_row *row);

#endif
