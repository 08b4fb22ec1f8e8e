/*
 * The workers: started as the owner of the store when the jobs process asks,
 * which gets the socket to its worker and hears of its end.
 */
#include "daemon/master.h"

#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "base/mem.h"

#define WORKER_MEMORY (512u << 20)

/* AddressSanitizer reserves terabytes of addresses. */
#ifdef __SANITIZE_ADDRESS__
#define WORKER_ADDRESS_SPACE 0
#else
#define WORKER_ADDRESS_SPACE WORKER_MEMORY
#endif

/* Beside us (a build tree), or where `make install` puts it; to be freed. */
static char *worker_program(const struct master *m)
{
    static const char *const places[] = {"mailhaul-worker",
                                         "../libexec/mailhaul/mailhaul-worker"};
    char *copy = mem_dup_text(m->program);
    const char *folder = dirname(copy);
    size_t size = strlen(folder) + 64;
    char *path = mem_alloc(size);

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, size, "%s/%s", folder, places[i]);
        if (access(path, X_OK) == 0)
            break;
    }
    free(copy);
    return path;
}

static int spawn(struct master *m, pid_t *pid_out, int *fd_out, struct err *err)
{
    const struct generation *g = m->now;
    char *program = worker_program(m);
    const char *argv[] = {program, NULL};
    struct child_options options = {
        .argv = argv,
        .change_user = g->has_owner || g->has_user,
        .uid = g->has_owner ? g->owner_uid : g->user_uid,
        .gid = g->has_owner ? g->owner_gid : g->user_gid,
        .limits = {.address_space_bytes = WORKER_ADDRESS_SPACE}};
    int rc = child_spawn(&options, pid_out, fd_out, err);

    free(program);
    return rc;
}

void master_worker_spawn(struct master *m, struct master_child *jobs,
                         int64_t request)
{
    struct master_child *worker;
    struct err err;
    pid_t pid;
    int fd;

    if (m->is_stopping)
        return;
    if (spawn(m, &pid, &fd, &err) == -1) {
        log_error("worker: %s", err.text);
        channel_send_take(jobs->channel,
                          json_pack("{s:s,s:I,s:i,s:s}", "m", "spawned", "id",
                                    (json_int_t)request, "pid", 0, "text",
                                    err.text),
                          -1);
        return;
    }
    worker = master_child_add(m, CHILD_WORKER, pid);
    worker->parent = jobs->pid;
    channel_send_take(jobs->channel,
                      json_pack("{s:s,s:I,s:I}", "m", "spawned", "id",
                                (json_int_t)request, "pid", (json_int_t)pid),
                      fd);
}

void master_worker_exited(struct master *m, const struct master_child *worker,
                          int status)
{
    for (struct master_child *c = m->children; c; c = c->next)
        if (c->pid == worker->parent && c->channel)
            channel_send_take(c->channel,
                              json_pack("{s:s,s:I,s:i}", "m", "exited", "pid",
                                        (json_int_t)worker->pid, "status",
                                        status),
                              -1);
}

void master_worker_kill(struct master *m, pid_t jobs)
{
    for (struct master_child *c = m->children; c; c = c->next)
        if (c->kind == CHILD_WORKER && c->parent == jobs)
            kill(c->pid, SIGKILL);
}
