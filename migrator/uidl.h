/*
 * POP3 UIDLs and order of legacy's INBOX: learnt in one short POP3 session by
 * UIDL and LIST (never RETR, which sets \Seen on some servers), matched to
 * INBOX's messages, and written into their ledger rows. The matching is pure.
 */
#ifndef MIGRATOR_UIDL_H
#define MIGRATOR_UIDL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "db/ledger.h"
#include "migrator/job.h"

/* Give each STORED row of INBOX (inbox is its folder's id) its UIDL and, where
   POP3's order is not that of the UIDs, its order; in one transaction of its
   own, the caller has none open. job->legacy_pop3 has a host. Does nothing, and
   opens no session, when no row lacks its UIDL; rows that have one keep it.
   Messages that POP3 does not show stay without: no error.

   ERR_RETRY: network, or the box is in use: before the flip it can wait for the
   next delta. ERR_DENIED: password refused. ERR_SETUP: ledger, certificate. */
int uidl_learn(const struct migration_job *job, struct ledger *ledger,
               int64_t inbox, struct err *err);

/* One message as POP3 lists it, in the order of its numbers. */
struct uidl_listed {
    char *uidl;         /* owned by the caller; NULL: refused or not told */
    int64_t size_bytes; /* octets of LIST, -1 unknown */
};

/* One message of INBOX, in the order of UIDs. */
struct uidl_message {
    uint32_t uid;
    int64_t size_bytes; /* with CRLF line ends, as RFC822.SIZE counts */
    int64_t matched;    /* in and out: index into the listed ones, -1 none */
};

/* Whether a UIDL can be kept: 1 to 70 characters 0x21..0x7E (RFC 1939). */
bool uidl_is_valid(const char *text);

/* Match both lists. Pairs known before (matched not -1) stay. Sizes that only
   one message has on either side are trusted first; between those that stand in
   order (or in backward order) equal sizes are paired in that order, messages
   that only one side has are tolerated, and as many messages on both sides
   between two trusted pairs belong together though POP3 counts their octets
   otherwise. Of what is left then, and in a shuffled list of all, sizes that
   both sides have equally often are paired. Never gives one listed message to
   two. Returns how many are matched; n log n in time. */
size_t uidl_match(const struct uidl_listed *listed, size_t listed_count,
                  struct uidl_message *messages, size_t message_count);

/* Whether the matched ones stand in another order than their UIDs, so that
   their POP3 order has to be written down. */
bool uidl_is_reordered(const struct uidl_message *messages, size_t count);

#endif
