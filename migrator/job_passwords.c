#include "migrator/job_passwords.h"

#include <stdio.h>
#include <string.h>

#include "account/seal.h"
#include "account/wire.h"

static int copy_text(const json_t *message, const char *field, char *out,
                     size_t size)
{
    const char *text = wire_text(message, field);

    return (size_t)snprintf(out, size, "%s", text != NULL ? text : "") < size
               ? 0
               : -1;
}

static int open_seal(const struct keyring *keys, const json_t *message,
                     const char *name, struct secret *out, struct err *err)
{
    struct seal seal;
    int result;

    if (wire_seal(message, &seal, err) == -1)
        return -1;
    result = keyring_open(keys, name, &seal, out, err);
    explicit_bzero(&seal, sizeof seal);
    return result;
}

/* The domain's master user opens every mailbox; users' own passwords are then
   looked at only, see job_take_more(). */
static int job_take_master(const struct keyring *keys, const json_t *message,
                           struct migration_job *job, struct err *err)
{
    const char *domain = strrchr(job->address, '@');
    const char *names[] = {"master_user", "master_login"};
    char *outs[] = {job->master_user, job->master_login};
    const size_t sizes[] = {sizeof job->master_user, sizeof job->master_login};

    for (int i = 0; i < 2; i++)
        if (copy_text(message, names[i], outs[i], sizes[i]) == -1)
            return err_set(err, ERR_SETUP, "%s is too long", names[i]);
    if (open_seal(keys, json_object_get(message, "master"),
                  domain == NULL ? "" : domain + 1, &job->password, err) == 0)
        return 0;
    if (err->kind == ERR_DENIED) /* no fault of the user's own password */
        err->kind = ERR_SETUP;
    return err_prefix(err, "the master user");
}

static int job_take_more(const struct keyring *keys, const json_t *message,
                         struct migration_job *job, struct err *err)
{
    const json_t *entry;
    struct err problem;
    size_t i;

    json_array_foreach(json_object_get(message, "more"), i, entry)
    {
        struct migration_password *more;

        if (job->more_count == MIGRATION_PASSWORDS_MAX)
            break;
        more = &job->more[job->more_count];
        more->credential = wire_int(entry, "credential", 0);
        if (open_seal(keys, entry, job->address, &more->secret, &problem) == 0)
            job->more_count++;
        else if (problem.kind != ERR_DENIED) /* not merely a key that is gone */
            return err_set(err, problem.kind, "%s", problem.text);
    }
    return 0;
}

int job_passwords_take(const json_t *message, const struct keyring *keys,
                       struct migration_job *job, struct err *err)
{
    if (job->kind != JOB_HASH && json_object_get(message, "master") != NULL) {
        if (job_take_master(keys, message, job, err) == -1 ||
            job_take_more(keys, message, job, err) == -1)
            return -1;
        if (job->more_count > 0) /* for local; its master goes before */
            secret_set(&job->local_password, job->more[0].secret.bytes,
                       job->more[0].secret.length);
        return 0;
    }
    if (wire_text(message, "blob") != NULL &&
        open_seal(keys, message, job->address, &job->password, err) == -1)
        return -1;
    if (job_take_more(keys, message, job, err) == -1)
        return -1;
    if (wire_text(message, "blob") != NULL || migration_job_next_password(job))
        return 0;
    return err_set(err, ERR_SETUP, "no password is sealed for it");
}
