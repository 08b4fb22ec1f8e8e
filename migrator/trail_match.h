/*
 * A folder of a moved mailbox that was made anew on legacy: which of its
 * messages local has already, by digest.
 */
#ifndef MIGRATOR_TRAIL_MATCH_H
#define MIGRATOR_TRAIL_MATCH_H

#include "db/ledger.h"
#include "migrator/message_file.h"
#include "migrator/progress.h"
#include "migrator/report.h"
#include "migrator/source.h"

struct trail_match { /* all borrowed */
    struct ledger *ledger;
    struct source *source;
    struct message_file *file;
    struct progress *progress;
    const struct migration_report *report; /* told as a sign of life */
};

/* Fetch every message of the folder, and give the rows of those that the ledger
   knows their new UIDs; the others have no row afterwards, and are new. The
   caller begins and commits: prepare reads only, the write comes at the end by
   `begin`. ERR_ITEM: legacy refuses the folder. */
int trail_match_folder(const struct trail_match *match,
                       struct ledger_folder *folder,
                       int (*begin)(void *ctx, struct err *err), void *ctx,
                       struct err *err);

#endif
