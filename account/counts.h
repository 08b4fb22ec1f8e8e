/*
 * What a process has counted (base/tally.h), on its way to the state process
 * and summed up there. Owns nothing.
 */
#ifndef ACCOUNT_COUNTS_H
#define ACCOUNT_COUNTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* How often a process tells what it has counted. */
#define COUNTS_EVERY_MS 2000

/* The message "counts" (account/wire.h), or NULL if nothing has been counted
   since *turn, which is brought up to date. New reference. */
json_t *counts_message(uint64_t *turn);

/* All series of this process: {"name{labels}": value}. New reference. */
json_t *counts_here(void);

/* Add series to sums, a process's to those of the others. only_growing: leave
   the gauges out, since the process has gone. No more than a few thousand
   series are taken in, and only numbers. */
void counts_add(json_t *sums, const json_t *series, bool only_growing);

#endif
