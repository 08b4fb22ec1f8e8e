/*
 * Looking whether local has a message already, by digest.
 */
#ifndef MIGRATOR_TRAIL_LOCAL_H
#define MIGRATOR_TRAIL_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "db/ledger.h"
#include "migrator/job.h"
#include "migrator/source.h"

/* Log in at local as the user, to read (EXAMINE, PEEK). */
int trail_local_open(const struct migration_job *job, struct source **out,
                     struct err *err);

/* The first message at or after UID first whose body_digest is this one, into
 *uid_out; 0 if there is none or no such folder. */
int trail_local_find(struct source *local, const char *folder, uint32_t first,
                     const uint8_t digest[LEDGER_DIGEST_SIZE],
                     uint32_t *uid_out, struct err *err);

#endif
