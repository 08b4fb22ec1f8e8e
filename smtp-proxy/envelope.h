/*
 * Sender and recipients of the message under way, and what became of each
 * recipient. Knows the journal, not the wire.
 */
#ifndef SMTP_PROXY_ENVELOPE_H
#define SMTP_PROXY_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/smtp.h"
#include "proto/smtp_reply.h"
#include "smtp-proxy/backend.h"
#include "smtp-proxy/journal.h"

/* RFC 5321 4.5.3.1.8 wants at least 100. */
#define ENVELOPE_RECIPIENTS_MAX 1000

struct recipient {
    char *path;     /* owned; as given, without brackets: the journal's key */
    char *hop_path; /* owned; as the hop is told */
    int64_t account_id; /* 0: nobody we know */
    char *stranger;     /* owned; his canonical address then, if legacy has
                           him; NULL: to be counted as nobody */
    bool is_at_hop;     /* accepted by the hop for the message under way */
    bool was_taken;     /* of an earlier try; not to be delivered again */
    int code;           /* of the verdict; 0: none yet */
    char *text;         /* owned; of the verdict */
};

struct envelope {
    struct backend_envelope mail;
    char sender[SMTP_PATH_MAX];
    struct recipient *recipients; /* owned */
    size_t count;
    size_t room;
    struct journal_message message; /* the digest is set at the dot */
};

void envelope_init(struct envelope *e);
void envelope_release(struct envelope *e);
/* A new message; the recipients of the last one are dropped. */
void envelope_begin(struct envelope *e, const struct smtp_command *mail);
void envelope_add(struct envelope *e, const char *path, const char *hop_path,
                  int64_t account_id, const char *stranger);
bool envelope_has_account(const struct envelope *e, int64_t account_id);
/* The same message, and at least one recipient in common. */
bool envelope_overlaps(const struct envelope *a, const struct envelope *b);

/* May this be the repetition of something that was taken? */
bool envelope_is_suspect(const struct envelope *e, struct journal *journal);
/* Mark who has had this very message; returns how many. */
size_t envelope_mark_taken(struct envelope *e, struct journal *journal);

/* The n-th of those at the hop; NULL if there are fewer. */
struct recipient *envelope_at_hop(struct envelope *e, size_t n);
void envelope_judge(struct recipient *r, int code, const char *text);
/* The verdict of all that have none and were not taken before. */
void envelope_judge_rest(struct envelope *e, int code, const char *text);

/* Has the hop taken it, now or before? */
bool recipient_is_taken(const struct recipient *r);
size_t envelope_taken_count(const struct envelope *e);

/* The one answer for all (SMTP): 250 if all have it; the worst temporary, else
   the first refusal if none took it now; 451 if some took it now and others did
   not: the sender then repeats it, and the journal keeps it from the first. */
void envelope_answer(const struct envelope *e, struct smtp_reply *reply_out);
/* The answer for one (LMTP). */
void recipient_answer(const struct recipient *r, struct smtp_reply *reply_out);

/* Tell the journal of one that took it now; and that the client knows of all
   that have it. Failing is logged: the mail is where it belongs. */
void envelope_record_taken(const struct envelope *e, const struct recipient *r,
                           struct journal *journal);
void envelope_record_told(const struct envelope *e, struct journal *journal);

#endif
