#include "migrator/master_check.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

/* INBOX, as somebody else sees it who logs in himself. 1: it is there; 0: he is
   not let in, or has none. */
static int ask_as(const struct migration_job *job, const char *user,
                  const struct secret *password, struct source_status *out,
                  struct err *err)
{
    struct migration_job own = *job; /* what it owns stays job's */
    struct source *source;
    int rc;

    own.master_user[0] = own.master_login[0] = '\0';
    snprintf(own.legacy_user, sizeof own.legacy_user, "%s", user);
    own.password = *password;
    rc = source_open(&own, &source, err);
    if (rc == 0) {
        rc = source_status(source, "INBOX", out, err);
        source_close(&source);
    }
    if (rc == 0)
        return out->uidvalidity != 0;
    if (err->kind != ERR_DENIED && err->kind != ERR_ITEM)
        return -1;
    err_clear(err);
    return 0;
}

/* `seen` was asked for between the two others: mail may have come. */
static bool is_between(const struct source_status *before,
                       const struct source_status *seen,
                       const struct source_status *after)
{
    return before->uidvalidity == seen->uidvalidity &&
           after->uidvalidity == seen->uidvalidity &&
           before->uidnext <= seen->uidnext && seen->uidnext <= after->uidnext;
}

/* Equal numbers may be chance, above all of two that are empty: is it what the
   user is shown by his own password? */
static int ask_user(const struct migration_job *job,
                    const struct source_status *seen, struct err *err)
{
    struct source_status his;

    for (unsigned i = 0; i < job->more_count; i++) {
        int rc = ask_as(job, job->legacy_user, &job->more[i].secret, &his, err);

        if (rc == -1)
            return -1;
        if (rc == 1 && his.uidvalidity == seen->uidvalidity &&
            his.uidnext >= seen->uidnext && his.messages >= seen->messages)
            return 0;
        if (rc == 1)
            break;
    }
    return err_set(err, ERR_SETUP,
                   "the master user %s is shown his own INBOX instead of that "
                   "of %s: does the old server heed for whom he logs in? (see "
                   "--master-login; where both are merely alike, put a message "
                   "into his)",
                   job->master_user, job->legacy_user);
}

static int compare(const struct migration_job *job, struct source *source,
                   struct err *err)
{
    struct source_status before, seen, after;
    int rc = ask_as(job, job->master_user, &job->password, &before, err);

    if (rc != 1)
        return rc; /* none of his own: it cannot be that */
    if (source_status(source, "INBOX", &seen, err) == -1)
        return -1;
    if (seen.uidvalidity != before.uidvalidity)
        return 0;
    rc = ask_as(job, job->master_user, &job->password, &after, err);
    if (rc != 1)
        return rc;
    return is_between(&before, &seen, &after) ? ask_user(job, &seen, err) : 0;
}

int master_check(const struct migration_job *job, struct source *source,
                 struct migration_report *report, struct err *err)
{
    if (!job->checks_master || job->master_user[0] == '\0' ||
        strcasecmp(job->master_user, job->legacy_user) == 0)
        return 0;
    if (compare(job, source, err) == -1)
        return -1;
    log_info("%s master user=\"%s\" is not shown his own mailbox", job->address,
             log_safe(job->master_user));
    if (report != NULL)
        report->is_master_good = true;
    return 0;
}
