/*
 * One message on its way from one server to another: fetched into a temporary
 * file, with its sizes and digests.
 */
#ifndef MIGRATOR_MESSAGE_FILE_H
#define MIGRATOR_MESSAGE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "db/ledger.h"
#include "migrator/body_digest.h"
#include "migrator/source.h"

struct message_file {
    int fd; /* owned; -1: not open */
    uint64_t size_bytes;
    uint64_t vsize;                     /* with every line end as CRLF */
    uint8_t digest[LEDGER_DIGEST_SIZE]; /* of body_digest.h */
    struct body_digest body;            /* while it arrives */
    bool is_whole;
};

/* Make the file in that directory, without a name. Release in any case. */
int message_file_open(struct message_file *file, const char *directory,
                      struct err *err);
void message_file_release(struct message_file *file);

/* The message of the open folder into the file, in place of the last one.
   size_bytes: what the peer says it has. ERR_ITEM: it did not come, or nothing
   of it. */
int message_file_fetch(struct message_file *file, struct source *source,
                       uint32_t uid, uint32_t size_bytes, struct err *err);

/* Its flags as APPEND wants them, without those that cannot be sent. For
   free(). */
char *message_flags_text(const struct source_message *message);
/* Whether a keyword can be sent as an atom. */
bool message_keyword_can_be_sent(const char *word);

#endif
