/*
 * Both sides compared without bodies, for the gate before a flip: independent
 * of the ledger, from what legacy answers and from the files that local will
 * read.
 */
#ifndef MIGRATOR_VERIFY_QUICK_H
#define MIGRATOR_VERIFY_QUICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrator/verify_parts.h"

/* One folder, on a connection that may have any folder open. */
struct verify_quick {
    const char *name;      /* on legacy */
    const char *directory; /* in the store */
    uint32_t uidnext;      /* legacy's when the pass began: what came since may
                              be missing; 0: not known */
    bool with_metadata;    /* flags, keywords and sizes as legacy says */
    /* messages that cannot be had; ascending */
    const uint32_t *aside;
    size_t aside_count;
};

/* UIDVALIDITY, UIDs, sizes on disk, and with_metadata the rest. Differences as
   verify_run. Messages whose size legacy tells otherwise are compared byte for
   byte, VERIFY_QUICK_BODIES of a mailbox at most: *bodies counts them. 0 also
   when there are differences. */
#define VERIFY_QUICK_BODIES 20
int verify_quick_folder(struct verify *v, const struct verify_quick *q,
                        unsigned *bodies, struct err *err);

#endif
