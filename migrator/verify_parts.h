/*
 * What the files of verify share; nobody else includes it.
 */
#ifndef MIGRATOR_VERIFY_PARTS_H
#define MIGRATOR_VERIFY_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrator/body_digest.h"
#include "migrator/job.h"
#include "migrator/maildir_read.h"
#include "migrator/report.h"
#include "migrator/source.h"

/* A file of local by its size, for what is found by digest. */
struct verify_file {
    int64_t vsize; /* -1: not in its name */
    char *path;    /* owned: absolute */
};

struct verify {
    const struct migration_job *job; /* borrowed */
    struct progress *progress;       /* borrowed */
    struct migration_report *report; /* borrowed */
    struct source *source;
    const char *prefix;        /* borrowed: of the personal namespace */
    bool is_flipped;           /* the witness is there */
    bool has_recent;           /* INBOX on legacy has messages \Recent */
    int64_t flipped_at;        /* Unix seconds */
    struct verify_file *files; /* owned: by vsize; only after the flip */
    size_t file_count;
    unsigned details, notes;
};

/* A folder that exists on both sides. */
struct verify_folder {
    const char *name; /* borrowed: on legacy */
    struct maildir_folder local;
    uint32_t last_copied; /* highest UID that the copy has written */
    uint32_t first_late;  /* from here on legacy's UIDs are of after the flip */
};

/* Count a difference; text as printf. */
void verify_differs(struct verify *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* No difference, but worth a line. */
void verify_note(struct verify *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What only local has of folders, and the subscriptions. (verify.c) */
int verify_lists(struct verify *v, const struct source_folder_list *list,
                 struct err *err);
/* These bodies against their files, byte for byte. (verify_messages.c) */
int verify_bodies(struct verify *v, const struct verify_folder *f,
                  const uint32_t *uids, size_t count, struct err *err);
/* All messages of a folder that legacy has open. (verify_messages.c) */
int verify_messages(struct verify *v, const struct verify_folder *f,
                    const uint32_t *uids, size_t count, struct err *err);
/* POP3's list against INBOX's records. (verify_uidl.c) */
int verify_uidls(struct verify *v, struct err *err);

#endif
