/*
 * The worker's word to whoever started it: frames on the channel, or JSON lines
 * on stdout.
 */
#ifndef MIGRATOR_PROGRESS_H
#define MIGRATOR_PROGRESS_H

#include <stdint.h>

#include "base/err.h"
#include "migrator/report.h"

struct progress {
    int fd; /* channel; -1: stdout */
    int64_t job;
    int64_t told_at_ms;
};

/* The last word. */
void progress_done(struct progress *progress, const struct err *err,
                   const struct migration_report *report);

#endif
