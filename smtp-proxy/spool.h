/*
 * A nameless temporary file for one text: written to its end, then read once.
 */
#ifndef SMTP_PROXY_SPOOL_H
#define SMTP_PROXY_SPOOL_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct spool;

/* NULL with ERR_SETUP. */
struct spool *spool_new(const char *folder, struct err *err);
void spool_free(struct spool **spool);
int spool_write(struct spool *spool, const char *bytes, size_t length,
                struct err *err);
/* The next bytes from the start on; 0 at the end, -1 with ERR_SETUP. */
ssize_t spool_read(struct spool *spool, char *bytes, size_t size,
                   struct err *err);

#endif
