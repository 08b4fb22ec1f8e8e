/*
 * A server as a store: its own IMAP door, for what is written after the flip:
 * to local by the trail, to legacy by the way back. It creates and subscribes
 * folders, appends messages and adds flags; what else is to be done in a folder
 * its user says in IMAP's own words. Folder names are those of the wire.
 */
#ifndef MIGRATOR_STORE_IMAP_H
#define MIGRATOR_STORE_IMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "migrator/job.h"

struct store_imap;

/* Log in at job->local_imap as job->address with the user's own password. */
int store_imap_open(const struct migration_job *job, struct store_imap **out,
                    struct err *err);
/* The same at legacy, as the user that the job names there. */
int store_imap_open_legacy(const struct migration_job *job,
                           struct store_imap **out, struct err *err);
void store_imap_close(struct store_imap **store);

/* The folder's UIDNEXT (0 if the server does not say), after creating it where
   it is missing, subscribed if is_subscribed. ERR_ITEM: it can neither be
   looked at nor created. */
int store_imap_folder(struct store_imap *store, const char *folder,
                      bool is_subscribed, uint32_t *uidnext_out,
                      struct err *err);

struct store_append {
    const char *folder;
    const char *flags; /* "\\Seen keyword ..." */
    int64_t date;      /* INTERNALDATE, Unix seconds */
    int zone_minutes;
    int fd; /* the message: size bytes from the start of this file */
    uint64_t size_bytes;
};

/* APPEND; *uid_out is APPENDUID's, 0 where the server has no UIDPLUS. ERR_ITEM:
   refused for this message (NO, BAD), nothing was stored. ERR_RETRY: over quota
   (*is_refused_out: nothing was stored), or the connection broke and nobody
   knows. */
int store_imap_append(struct store_imap *store,
                      const struct store_append *append, uint32_t *uid_out,
                      bool *is_refused_out, struct err *err);

/* Add flags or keywords to a message. ERR_ITEM: refused; a message that is gone
   is no error. */
int store_imap_add_flags(struct store_imap *store, const char *folder,
                         uint32_t uid, const char *flags, struct err *err);

/* A word of its CAPABILITY. */
bool store_imap_has(const struct store_imap *store, const char *capability);
/* One command ("UID STORE ", "1:3 +FLAGS.SILENT (\\Seen)") with that folder
   selected. *answer_out (may be NULL): the tagged answer, until the next call.
   ERR_ITEM: NO or BAD. */
int store_imap_command(struct store_imap *store, const char *folder,
                       const char *verb, const char *rest,
                       const char **answer_out, struct err *err);
int store_imap_subscribe(struct store_imap *store, const char *folder,
                         struct err *err);

#endif
