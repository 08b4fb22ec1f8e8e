/*
 * The ids and the order that POP3 clients know the messages of INBOX by.
 */
#ifndef MIGRATOR_UIDL_H
#define MIGRATOR_UIDL_H

#include <stdint.h>

#include "base/err.h"
#include "db/ledger.h"
#include "migrator/job.h"

/* List UIDLs and sizes of job->legacy_pop3 (host not "") and match them with
   the STORED rows of INBOX (inbox is its folder's id), all in one transaction
   of its own; the caller has none open. Rows that have one already keep it
   where POP3 still lists it. ERR_RETRY: network, [IN-USE]; ERR_DENIED. */
int uidl_learn(const struct migration_job *job, struct ledger *ledger,
               int64_t inbox, struct err *err);

#endif
