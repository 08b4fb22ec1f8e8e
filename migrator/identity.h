/*
 * Whether the mailbox on legacy is still the one that was copied. A provider
 * gives addresses to other people; another's mail must not come into this
 * mailbox, nor this one's mail be dropped because another has none of it.
 * Only reads: EXAMINE and PEEK on legacy, and the ledger.
 */
#ifndef MIGRATOR_IDENTITY_H
#define MIGRATOR_IDENTITY_H

#include "db/ledger.h"
#include "migrator/job.h"
#include "migrator/report.h"
#include "migrator/source.h"

struct identity { /* all borrowed */
    const struct migration_job *job;
    struct ledger *ledger;
    struct source *source;
    const struct ledger_folder *folders; /* of the ledger */
    size_t folder_count;
    struct migration_report *report;
};

/* Before a pass changes anything. 0: some folder is the one we know, or nothing
   was copied yet. 1: every folder was made anew, and either half of what was
   copied is found again by its digest or an operator has accepted it; the
   report says so in `renewal`. 1 also in the passes behind that, until
   identity_end: once the first folder is done, the mailbox looks like the one
   we know. -1 with ERR_SETUP and report->question: it looks
   like another's; report->mailbox_id says which was met. -1 with other kinds:
   could not be found out now. */
int identity_check(const struct identity *identity, struct err *err);

/* At the end of a good pass: which mailbox the ledger speaks of, into the
   report. */
int identity_end(const struct identity *identity, struct err *err);

#endif
