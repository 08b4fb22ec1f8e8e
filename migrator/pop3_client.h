/*
 * A small blocking POP3 session for workers: log in, list, quit. It has no way
 * to fetch or delete a message, so it cannot change a mailbox.
 */
#ifndef MIGRATOR_POP3_CLIENT_H
#define MIGRATOR_POP3_CLIENT_H

#include <stdint.h>

#include "base/err.h"
#include "migrator/job.h"

struct pop3_client;

/* Connect to the job's legacy_pop3, STLS where the URL says so, USER and PASS
   (with a master user AUTH PLAIN). Borrows the job for the call. ERR_RETRY:
   network, or the box is in use; ERR_DENIED: refused; ERR_SETUP: certificate,
   no STLS, or a password that POP3 cannot carry. */
int pop3_client_open(const struct migration_job *job, struct pop3_client **out,
                     struct err *err);

/* One line of a listing, "NUMBER REST", number >= 1; rest is borrowed. -1 ends
   the listing and the session. */
typedef int pop3_line_fn(void *ctx, uint32_t number, const char *rest,
                         struct err *err);
/* "UIDL" or "LIST". ERR_ITEM: the server refuses it; the session goes on.
   Lines that are no listing are skipped. */
int pop3_client_list(struct pop3_client *client, const char *command,
                     pop3_line_fn *fn, void *ctx, struct err *err);

/* QUIT if it still works, then close. */
void pop3_client_close(struct pop3_client **client);

#endif
