/*
 * The lines of the log that are kept for `mailhaul trace`: those of level info
 * and above, of all processes, in one file an hour, whatever the log's own
 * level and place. Writing costs one write() a line.
 */
#ifndef BASE_LOG_KEEP_H
#define BASE_LOG_KEEP_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define LOG_KEEP_NAME_MAX 32

/* Keep the lines of this process in folder (copied) from now on; it is made if
   it is missing. What cannot be written is not kept. */
void log_keep(const char *folder);

/* One line with its LF, written now. Used by base/log.c. */
void log_keep_line(const char *line, size_t length);

/* "2026-03-01T12.log": the file of that hour (UTC). */
void log_keep_name(time_t at, char out[LOG_KEEP_NAME_MAX]);
/* When the hour of that file began; -1 if the name is none of ours. */
time_t log_keep_hour(const char *name);

/* Remove the files older than `days`, and the oldest ones while there are more
   than max_bytes in all, the present hour's not spared. */
void log_keep_prune(const char *folder, unsigned days, uint64_t max_bytes);

#endif
