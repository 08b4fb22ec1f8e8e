/*
 * The process of the jobs role: wires the queue to state, and its wish for a
 * worker to master, who alone may start one as the owner of the store.
 */
#include "daemon/role.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/mem.h"
#include "migrator/queue.h"

struct jobs_role {
    struct role *role;
    struct queue *queue;
};

static void on_drained(void *ctx)
{
    struct jobs_role *j = ctx;

    queue_free(&j->queue);
    role_stop(j->role);
}

static void spawn(void *ctx, int64_t request)
{
    struct jobs_role *j = ctx;

    channel_send_take(
        j->role->master,
        json_pack("{s:s,s:I}", "m", "spawn", "id", (json_int_t)request), -1);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct jobs_role *j = ctx;
    const char *m = wire_text(message, "m");

    if (!m || !j->queue) {
        if (fd >= 0)
            close(fd);
        return;
    }
    if (strcmp(m, "spawned") == 0) {
        queue_worker_started(j->queue, wire_int(message, "id", 0),
                             (pid_t)wire_int(message, "pid", 0), fd,
                             wire_text(message, "text"));
        return;
    }
    if (fd >= 0)
        close(fd);
    if (strcmp(m, "exited") == 0)
        queue_worker_exited(j->queue, (pid_t)wire_int(message, "pid", 0),
                            (int)wire_int(message, "status", 0));
    else if (strcmp(m, "drain") == 0)
        queue_drain(j->queue, on_drained, j);
}

int role_jobs_start(struct role *role, struct err *err)
{
    struct jobs_role *j = mem_alloc(sizeof(*j));
    struct queue_options o = {.loop = role->loop,
                              .conf = role->conf,
                              .state_socket = role->state_socket,
                              .keys = &role->keys,
                              .local_password = &role->local_password,
                              .spawn = spawn,
                              .spawn_ctx = j};

    j->role = role;
    role->on_message = on_message;
    role->ctx = j;
    if (!role->keys.count)
        return err_set(err, ERR_SETUP, "no sealing key was given");
    if (queue_start(&o, &j->queue, err) == -1)
        return -1;
    role_ready(role);
    return 0;
}
