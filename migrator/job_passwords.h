/*
 * The sealed passwords in the message of a job, opened into the job: the first
 * of the user or the domain's master's, and the user's others.
 */
#ifndef MIGRATOR_JOB_PASSWORDS_H
#define MIGRATOR_JOB_PASSWORDS_H

#include <jansson.h>

#include "account/keyring.h"
#include "base/err.h"
#include "base/secret.h"
#include "migrator/job.h"

/* job has its kind and address already, and no password. ERR_SETUP if there is
   none for it, or ERR_DENIED for one whose key is gone. */
int job_passwords_take(const json_t *message, const struct keyring *keys,
                       struct migration_job *job, struct err *err);

#endif
