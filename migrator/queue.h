/*
 * The jobs role: leases jobs from the state process, opens sealed passwords,
 * gives each job to a worker of its own, and passes on what the worker tells.
 * Makes password hashes in a thread. Starts no process itself: it asks for a
 * worker and is told when there is one.
 *
 * One job:  SPAWN (worker asked for) -> RUN (job sent) -> END
 *           HASH (thread at work) -> END
 *           SPAWN, RUN, HASH -> CANCELLED (asked to) -> END
 *           SPAWN, RUN, HASH -> ORPHAN (state is gone) -> END
 * A job with a worker ends when the worker has exited and its last message is
 * read: until then it may write to the mailbox.
 *
 * The worker's channel
 *   to it    the object of migration_job_encode, once
 *   from it  m "progress" with the members of the report
 *            m "done", kind (err kind or "none"), text, report (object)
 * It ends when the channel closes.
 */
#ifndef MIGRATOR_QUEUE_H
#define MIGRATOR_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account/keyring.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/secret.h"

struct queue;

/* Have a worker started, as owner of the store. The answer is
   queue_worker_started() with the same request, never from inside this. */
typedef void queue_spawn_fn(void *ctx, int64_t request);

struct queue_options {
    struct loop *loop;
    const struct conf *conf;    /* borrowed for the life of the queue */
    const char *state_socket;   /* path of the state process's socket */
    const struct keyring *keys; /* of the installation; copied */
    const struct secret *local_password; /* of conf->local.master_user; copied;
                                            NULL or empty: none */
    queue_spawn_fn *spawn;
    void *spawn_ctx;
};

/* Connects to state (again and again until it is there), leases at most
   jobs.workers jobs at once, besides four of the kinds that never wait (FINAL,
   HASH). Never fails for state's absence; ERR_SETUP if conf cannot be used
   (local.imap is no URL, an unknown hash.scheme). */
int queue_start(const struct queue_options *options, struct queue **out,
                struct err *err);

/* The worker asked for: fd is our end of its channel and is taken; -1 (and pid
   0) if it could not be started, `text` (may be NULL) says why. */
void queue_worker_started(struct queue *q, int64_t request, pid_t pid, int fd,
                          const char *text);
/* It has exited; status as from waitpid(). A worker that never said done: its
   job is to be done again. May come before the last of its messages is read. */
void queue_worker_exited(struct queue *q, pid_t pid, int status);

/* Lease no more. fn(ctx) is called once, from the loop, when nothing runs any
   longer; the user then calls queue_free. */
void queue_drain(struct queue *q, loop_fn *fn, void *ctx);
/* Closes the channels: workers that still run end by themselves. Waits for a
   hash under way. */
void queue_free(struct queue **queue);

/* state_dir/ledger/xx/ADDRESS, xx from a hash of the address; a name too long
   for a directory is cut and gets the hash behind it. ERR_SETUP if it does not
   fit. */
int queue_ledger_dir(const struct conf *conf, const char *address, char *out,
                     size_t size, struct err *err);

#endif
