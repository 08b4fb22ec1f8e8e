#include "migrator/passwords.h"

#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "migrator/session_imap.h"

struct refusals {
    int64_t credentials[MIGRATION_REFUSED_MAX];
    unsigned count;
};

static void note_refused(struct refusals *r, int64_t credential)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->credentials[i] == credential)
            return;
    if (r->count < MIGRATION_REFUSED_MAX)
        r->credentials[r->count++] = credential;
}

/* Logged in and out again, before the mailbox is opened: some servers let a
   user have one connection only. What cannot be asked now stops the flip: local
   would accept a password that legacy may have taken away. */
static int probe(const struct migration_job *job,
                 const struct migration_password *password,
                 struct refusals *refused, struct err *err)
{
    struct session_login login = {.url = &job->legacy_imap,
                                  .ca_file = job->ca_file,
                                  .tls_minimum = job->tls_minimum,
                                  .user = job->legacy_user,
                                  .password = &password->secret};
    struct session_imap *session;

    if (session_imap_open(&login, &session, err) == 0) {
        session_imap_close(&session);
        return 0;
    }
    if (err->kind != ERR_DENIED)
        return -1;
    note_refused(refused, password->credential);
    err_clear(err);
    return 0;
}

static int probe_all(const struct migration_job *job, struct refusals *refused,
                     struct err *err)
{
    for (unsigned i = 0; i < job->more_count; i++)
        if (probe(job, &job->more[i], refused, err) == -1)
            return -1;
    return 0;
}

int passwords_run(struct migration_job *job, passwords_run_fn *run, void *ctx,
                  struct migration_report *report, struct err *err)
{
    bool has_master = job->master_user[0] != '\0';
    struct refusals refused = {.count = 0};
    int rc;

    if (job->kind == JOB_FINAL && probe_all(job, &refused, err) == -1)
        return -1;
    for (;;) {
        rc = run(ctx, job, report, err);
        if (rc == 0 || err->kind != ERR_DENIED || has_master)
            break;
        note_refused(&refused, job->credential);
        if (!migration_job_next_password(job))
            break;
        log_info("job=%lld a password is refused, the next is tried",
                 (long long)job->id);
        migration_report_release(report);
        memset(report, 0, sizeof(*report));
        err_clear(err);
    }
    if (rc == -1 && err->kind == ERR_DENIED && has_master) {
        err->kind = ERR_SETUP;
        err_prefix(err, "the master user");
    }
    report->credential = job->credential;
    memcpy(report->refused, refused.credentials, sizeof(report->refused));
    report->refused_count = refused.count;
    return rc;
}
