/*
 * The names of what a mailbox's ledger has set aside, for the report: the
 * administrator accepts them one by one, by name.
 */
#ifndef MIGRATOR_SET_ASIDE_H
#define MIGRATOR_SET_ASIDE_H

#include <stdint.h>

#include "db/ledger.h"
#include "migrator/report.h"

/* Name a message in report->items, "FOLDER/UIDVALIDITY/UID" with the folder as
   a client shows it; UIDVALIDITY and UID 0: the whole folder. More than
   SET_ASIDE_LISTED_MAX are left out. */
void set_aside_name(struct migration_report *report,
                    const struct ledger_aside *row);
/* All of the ledger. */
int set_aside_name_all(struct migration_report *report, struct ledger *ledger,
                       struct err *err);

#endif
