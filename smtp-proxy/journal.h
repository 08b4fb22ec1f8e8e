/*
 * What the next hop has taken and the client may not know of, so that the same
 * message repeated is not delivered again (RFC 1047).
 *
 * The file is text, one record a line, only ever appended to:
 *
 *   dot   TIME DIGEST SENDER PID         a message is about to be committed
 *   taken TIME DIGEST SENDER RECIPIENT   the hop has it
 *   told  TIME DIGEST SENDER RECIPIENT   the client knows; repeats are new mail
 *
 * each with a checksum as last word; addresses are percent-coded, "<>" is the
 * null sender. A record whose checksum is wrong (power was cut) is skipped.
 * "dot" without "taken" is the unknown outcome: when its writer has died, it
 * decides nothing and the repeat is delivered, for a double is better than a
 * loss; while he lives, the verdict may still come, and the repeat has to wait.
 * "taken" without "told" is open for 48 hours.
 *
 * Several processes (a draining generation beside the new one) may append to
 * one file: it is the only truth, each reads what the others wrote before it
 * judges. Who is alone with the file rewrites it with the open records only.
 */
#ifndef SMTP_PROXY_JOURNAL_H
#define SMTP_PROXY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

#define JOURNAL_OPEN_SECONDS (48 * 3600)
#define JOURNAL_ENTRIES_MAX  200000 /* the oldest are forgotten first */

struct journal;

/* Seconds since 1970. */
typedef int64_t journal_clock_fn(void);

/* clock NULL: the system's. NULL with ERR_SETUP if the file cannot be used. */
struct journal *journal_open(const char *path, journal_clock_fn *clock,
                             struct err *err);
void journal_close(struct journal **journal);

struct journal_message {
    uint8_t digest[DIGEST_SIZE]; /* over sender and text */
    const char *sender;          /* borrowed; "" is the null sender */
};

/* The dot is about to be passed on. ERR_SETUP (disk full): it must not be. */
int journal_dot(struct journal *journal, const struct journal_message *message,
                struct err *err);

/* The hop has taken it for these; one write. */
int journal_taken(struct journal *journal,
                  const struct journal_message *message,
                  const char *const *recipients, size_t count, struct err *err);

/* The client has gone on after our 250 for these; one write. */
int journal_told(struct journal *journal, const struct journal_message *message,
                 const char *const *recipients, size_t count, struct err *err);

/* On the disk when this returns: call it before a 4xx that relies on it. */
int journal_sync(struct journal *journal, struct err *err);

/* Something from this sender to this recipient is open: the next message may be
   its repetition, and must be read whole before it is passed on. */
bool journal_suspects(struct journal *journal, const char *sender,
                      const char *recipient);

/* This very message was taken for this recipient, and that is open. */
bool journal_was_taken(struct journal *journal,
                       const struct journal_message *message,
                       const char *recipient);

/* Another process that is alive has passed this message's dot and recorded no
   verdict, in the time a hop is given for it. */
bool journal_is_under_way(struct journal *journal,
                          const struct journal_message *message);

size_t journal_open_count(const struct journal *journal);

/* The folder of the file, for what must be on the same disk. */
const char *journal_folder(const struct journal *journal);

#endif
