/*
 * Asking the local server whether it serves a mailbox, before anybody is sent
 * there: `doveadm user`, as the owner of the store, which nothing in the
 * mailbox notices.
 */
#ifndef MIGRATOR_LOCAL_ASK_H
#define MIGRATOR_LOCAL_ASK_H

#include <stdbool.h>

#include "migrator/job.h"
#include "migrator/report.h"

/* Whether local reads its mail where we write it: report->is_local_ready, or
   why not in report->local_fault, in words for the administrator. Ready, with a
   warning in the log, where job->doveadm is empty or not installed. Blocks for
   LOCAL_ASK_MS at most. */
#define LOCAL_ASK_MS 10000
void local_ask(const struct migration_job *job,
               struct migration_report *report);

/* Whether a userdb's `mail` ("maildir:/path:OPTIONS", "maildir:~/Maildir")
   names that Maildir. Reads links. */
bool local_mail_is(const char *mail, const char *home, const char *maildir);

#endif
