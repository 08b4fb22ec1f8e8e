/*
 * HIGHESTMODSEQ of local, lifted above legacy's, so that a client that knew
 * legacy's neither misses a change nor keeps a ghost.
 */
#ifndef MIGRATOR_MODSEQ_H
#define MIGRATOR_MODSEQ_H

#include "migrator/copy_parts.h"

/* Lift every folder that is not far enough above legacy's highest. Does nothing
   without doveadm or where legacy has no CONDSTORE. Runs while nobody reads the
   Maildir. */
int modseq_lift(struct copy *copy, struct err *err);

#endif
