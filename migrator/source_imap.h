/*
 * What the two files of the IMAP source share; nobody else includes it.
 */
#ifndef MIGRATOR_SOURCE_IMAP_H
#define MIGRATOR_SOURCE_IMAP_H

#include <stdbool.h>

#include "migrator/session_imap.h"
#include "migrator/source.h"

#define SOURCE_SHARED_MAX 16

struct source {
    struct session_imap *session;
    bool has_namespace;
    char prefix[256];
    char separator;
    char *shared[SOURCE_SHARED_MAX]; /* prefixes of other people's folders */
    unsigned shared_count;
};

#endif
