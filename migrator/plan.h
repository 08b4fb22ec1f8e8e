/*
 * What a pass over a folder has to do, from what legacy says and what the
 * ledger holds. Pure; one of the four files that can lose mail.
 */
#ifndef MIGRATOR_PLAN_H
#define MIGRATOR_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum plan_way {
    PLAN_SKIP,    /* nothing has changed since the last pass */
    PLAN_CHANGES, /* ask only for what has changed (QRESYNC) */
    PLAN_COMPARE, /* compare all UIDs */
    PLAN_RENEW,   /* UIDVALIDITY is another: what we have is of no use */
    PLAN_REFUSE,  /* legacy says nothing that can be relied on */
};

struct plan_folder {
    /* legacy now; 0: not told */
    uint32_t uidvalidity, uidnext, messages;
    bool has_messages;
    uint64_t modseq;
    bool has_condstore, has_qresync;
    /* the ledger; uidvalidity 0: never copied */
    uint32_t known_uidvalidity, known_uidnext, known_messages;
    uint64_t known_modseq;
    bool is_complete; /* the last pass came to its end */
    bool must_check;  /* rows of another boot, set aside ones, the last pass */
};

/* The way for one folder. SKIP needs a HIGHESTMODSEQ: without one nobody can
   know that no flag has changed. */
enum plan_way plan_folder(const struct plan_folder *f);

/* Legacy's UIDs and the ledger's, both ascending and each once:
   what is new and what is gone. The outs have room for
   all of `there` and all of `here`. */
struct plan_difference {
    uint32_t *new_uids, *gone_uids;
    size_t new_count, gone_count;
};
void plan_compare(const uint32_t *there, size_t there_count,
                  const uint32_t *here, size_t here_count,
                  struct plan_difference *out);

/* All folders with messages have another UIDVALIDITY than before, or are gone:
   the address may have been given to somebody else. */
struct plan_identity {
    unsigned known;   /* folders that we copied messages from */
    unsigned changed; /* of these, with another UIDVALIDITY, or gone */
};
bool plan_is_stranger(const struct plan_identity *identity);
/* Half of what was looked for is there: the same mail, made anew. */
bool plan_is_same_mail(unsigned found, unsigned wanted);

#endif
