/*
 * mailhaul-worker: one job on one mailbox, then the end. The job comes as one
 * frame on fd 3, or from a file with --job FILE (progress and report then go to
 * stdout as JSON lines). Exit status 0: done; 1: not, the last line says why.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/child.h"
#include "base/log.h"
#include "migrator/back.h"
#include "migrator/copy.h"
#include "migrator/job.h"
#include "migrator/passwords.h"
#include "migrator/progress.h"
#include "migrator/trail.h"
#include "migrator/verify.h"

#define JOB_WAIT_MS 60000

static json_t *receive_job(int argc, char **argv, struct progress *progress,
                           struct err *err)
{
    json_error_t error;
    json_t *message = NULL;

    if (argc == 3 && strcmp(argv[1], "--job") == 0) {
        progress->fd = -1;
        message = json_load_file(argv[2], 0, &error);
        if (message == NULL)
            err_set(err, ERR_SETUP, "%s:%d: %s", argv[2], error.line,
                    error.text);
        return message;
    }
    if (argc != 1) {
        fprintf(stderr, "usage: mailhaul-worker [--job FILE]\n");
        exit(2);
    }
    progress->fd = CHILD_CHANNEL_FD;
    fcntl(progress->fd, F_SETFD, FD_CLOEXEC);
    if (channel_receive_blocking(progress->fd, JOB_WAIT_MS, &message, err) ==
        -1)
        return NULL;
    return message;
}

/* Who gave the job has closed the channel: it is cancelled. Ending at any
   instruction is what every job is made for, and the ledger's lock goes last.
 */
static void *watch_channel(void *ctx)
{
    const struct progress *progress = ctx;
    struct pollfd peer = {.fd = progress->fd, .events = POLLRDHUP};

    while (poll(&peer, 1, -1) != 1)
        continue;
    _exit(1);
}

static int start_watching(struct progress *progress, struct err *err)
{
    pthread_t thread;

    if (progress->fd == -1)
        return 0;
    if (pthread_create(&thread, NULL, watch_channel, progress) != 0)
        return err_set(err, ERR_RETRY, "no thread to watch the channel");
    pthread_detach(thread);
    return 0;
}

static int run_job(void *ctx, const struct migration_job *job,
                   struct migration_report *report, struct err *err)
{
    struct progress *progress = ctx;

    switch (job->kind) {
    case JOB_INITIAL:
    case JOB_DELTA:
    case JOB_FINAL: return copy_run(job, progress, report, err);
    case JOB_TRAIL: return trail_run(job, progress, report, err);
    case JOB_VERIFY: return verify_run(job, progress, report, err);
    case JOB_ROLLBACK: return back_run(job, progress, report, err);
    case JOB_HASH:
    case JOB_KIND_COUNT: break;
    }
    return err_set(err, ERR_SETUP, "not a worker's job");
}

int main(int argc, char **argv)
{
    struct progress progress = {.fd = -1};
    struct migration_report report = {0};
    struct migration_job job;
    struct err err = {0};
    json_t *message;
    int rc = -1;

    secret_guard_process();
    signal(SIGPIPE, SIG_IGN);
    log_open("stderr", LOG_LEVEL_INFO, "worker", NULL);
    message = receive_job(argc, argv, &progress, &err);
    if (message != NULL) {
        rc = migration_job_decode(message, &job, &err);
        json_decref(message);
    }
    if (rc == 0) {
        progress.job = job.id;
        rc = start_watching(&progress, &err);
        if (rc == 0)
            rc = passwords_run(&job, run_job, &progress, &report, &err);
        migration_job_release(&job);
    }
    if (rc == -1 && err.kind == ERR_NONE)
        err_set(&err, ERR_SETUP, "failed without a reason");
    if (rc == 0)
        err_clear(&err);
    progress_done(&progress, &err, &report);
    migration_report_release(&report);
    return rc == 0 ? 0 : 1;
}
