/*
 * The processes of the roles: started by running our own program again, told
 * what their role may know, started again when they die.
 */
#include "daemon/master.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/child.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/role.h"

#define SHORT_LIFE_MS 2000 /* who dies so young waits before the next start */
#define DELAY_MS      250
#define DELAY_MAX_MS  5000
#define END_MS        5000

static const char *const kind_names[] = {"state", "login", "smtp",
                                         "jobs",  "admin", "worker"};
_Static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == CHILD_KIND_COUNT,
               "a name for each kind");

const char *child_kind_name(enum child_kind kind)
{
    return kind_names[kind];
}

struct master_child *master_child_add(struct master *m, enum child_kind kind,
                                      pid_t pid)
{
    struct master_child *c = mem_alloc(sizeof(*c));

    c->master = m;
    c->kind = kind;
    c->pid = pid;
    c->started_ms = loop_now_ms(m->loop);
    c->next = m->children;
    m->children = c;
    return c;
}

/* --- what a role is told */

static bool is_peer(const struct master_child *c)
{
    return c->kind == CHILD_LOGIN || c->kind == CHILD_SMTP;
}

static struct master_child *state_child(struct master *m)
{
    for (struct master_child *c = m->children; c; c = c->next)
        if (c->kind == CHILD_STATE && c->channel)
            return c;
    return NULL;
}

static void announce(struct master *m, const struct master_child *peer,
                     bool is_alive)
{
    struct master_child *state = state_child(m);

    if (state && is_peer(peer))
        channel_send_take(state->channel,
                          json_pack("{s:s,s:s,s:I,s:b}", "m", "peer", "role",
                                    kind_names[peer->kind], "pid",
                                    (json_int_t)peer->pid, "alive", is_alive),
                          -1);
}

static void announce_all(struct master *m)
{
    struct master_child *state = state_child(m);

    if (!state)
        return;
    for (const struct master_child *c = m->children; c; c = c->next)
        announce(m, c, true);
    channel_send_take(state->channel, json_pack("{s:s}", "m", "peers_known"),
                      -1);
}

/* Which keys there are: state has the seals. */
static void tell_keys(struct master *m)
{
    const struct generation *g = m->now;
    struct master_child *state = state_child(m);
    json_t *ids = json_array(), *item;
    json_t *message = json_pack("{s:s,s:o}", "m", "keys", "ids", ids);

    for (unsigned i = 0; i < g->keys.count; i++) {
        uint8_t id[SEAL_ID_SIZE];

        keyring_id(&g->keys, i, id);
        item = json_object();
        wire_put_bytes(item, "id", id, sizeof(id));
        json_array_append_new(ids, item);
    }
    wire_put_bytes(message, "public_key", g->public_key, SEAL_KEY_SIZE);
    if (state)
        channel_send_take(state->channel, json_incref(message), -1);
    json_decref(message);
}

/* Which sockets a role inherits; the message says what they are. */
static int collect_fds(const struct master *m, enum child_kind kind, int *fds,
                       json_t *listeners, int witness)
{
    const struct generation *g = m->now;
    int count = 0;

    fds[count++] = g->conf_fd;
    if (kind == CHILD_STATE) {
        json_array_append_new(listeners,
                              json_pack("{s:i,s:i}", "fd", ROLE_LISTEN_FD,
                                        "index", ROLE_STATE_SOCKET));
        json_array_append_new(listeners,
                              json_pack("{s:i,s:i}", "fd", ROLE_LISTEN_FD + 1,
                                        "index", ROLE_CONTROL_SOCKET));
        fds[count++] = m->state_fd;
        fds[count++] = m->control_fd;
        if (witness != -1) {
            json_array_append_new(listeners, json_pack("{s:i,s:i}", "fd",
                                                       ROLE_CONF_FD + count,
                                                       "index", ROLE_WITNESS));
            fds[count++] = witness;
        }
    }
    if (kind == CHILD_LOGIN) {
        json_array_append_new(listeners,
                              json_pack("{s:i,s:i}", "fd", ROLE_CONF_FD + count,
                                        "index", ROLE_VERIFIED));
        fds[count++] = m->verified_fd;
    }
    for (unsigned i = 0; i < g->listener_count; i++) {
        unsigned index = g->listeners[i].index;

        if (master_role_of(g->conf->listen[index].protocol) != kind)
            continue;
        json_array_append_new(listeners,
                              json_pack("{s:i,s:i}", "fd", ROLE_CONF_FD + count,
                                        "index", (int)index));
        fds[count++] = g->listeners[i].fd;
    }
    return count;
}

static void put_keys(json_t *message, const struct keyring *ring)
{
    json_t *list = json_array(), *item;

    for (unsigned i = 0; i < ring->count; i++) {
        item = json_object();
        wire_put_bytes(item, "key", ring->keys[i].bytes, ring->keys[i].length);
        json_array_append_new(list, item);
    }
    json_object_set_new(message, "private_keys", list);
}

static json_t *role_message(const struct master *m, enum child_kind kind,
                            json_t *listeners)
{
    const struct generation *g = m->now;
    json_t *message =
        json_pack("{s:s,s:s,s:i,s:o}", "m", "role", "role", kind_names[kind],
                  "generation", g->number, "listeners", listeners);

    if ((kind == CHILD_LOGIN || kind == CHILD_JOBS) && g->local_password.bytes)
        wire_put_bytes(message, "local_password", g->local_password.bytes,
                       g->local_password.length);
    if (kind == CHILD_LOGIN)
        wire_put_bytes(message, "verified_key", m->verified_key,
                       sizeof(m->verified_key));
    if (kind == CHILD_JOBS) {
        put_keys(message, &g->keys);
        return message;
    }
    if (kind == CHILD_ADMIN)
        return message;
    wire_put_bytes(message, "public_key", g->public_key, SEAL_KEY_SIZE);
    if ((kind == CHILD_LOGIN || kind == CHILD_SMTP) &&
        g->certificate_pem.bytes) {
        json_object_set_new(message, "certificate",
                            json_string(g->certificate_pem.bytes));
        json_object_set_new(message, "key", json_string(g->key_pem.bytes));
    }
    return message;
}

/* --- starting */

static void on_message(void *ctx, json_t *message, int fd);

static void on_closed(void *ctx)
{
    struct master_child *c = ctx;

    channel_free(&c->channel);
    /* nobody can tell it anything any more; its death is reaped */
    kill(c->pid, SIGTERM);
}

static int open_witness(const struct generation *g)
{
    struct err err;
    int fd = master_witness_open(g, &err);

    if (fd == -1 && err.kind != ERR_NONE)
        log_error("no witness journal: %s", err.text);
    return fd;
}

static int spawn(struct master *m, enum child_kind kind, struct err *err)
{
    const struct generation *g = m->now;
    const char *argv[] = {m->program,       "-c", m->conf_path, "--role",
                          kind_names[kind], NULL};
    int *fds = mem_alloc((g->listener_count + 4) * sizeof(*fds));
    json_t *listeners = json_array();
    struct child_options options = {.argv = argv,
                                    .change_user = g->has_user,
                                    .uid = g->user_uid,
                                    .gid = g->user_gid,
                                    .inherit_fds = fds};
    int witness = kind == CHILD_STATE ? open_witness(g) : -1;
    struct master_child *c;
    pid_t pid;
    int fd, rc;

    options.inherit_count = collect_fds(m, kind, fds, listeners, witness);
    rc = child_spawn(&options, &pid, &fd, err);
    if (witness != -1)
        close(witness);
    free(fds);
    if (rc == -1) {
        json_decref(listeners);
        return -1;
    }
    c = master_child_add(m, kind, pid);
    c->channel = channel_new_take(m->loop, fd, on_message, on_closed, c);
    channel_send_take(c->channel, role_message(m, kind, listeners), -1);
    log_debug("%s[%d] started generation=%d", kind_names[kind], (int)pid,
              g->number);
    return 0;
}

static void start_slot(void *ctx)
{
    struct master_slot *slot = ctx;
    struct master *m = slot->master;
    struct err err;

    if (m->is_stopping)
        return;
    if (spawn(m, slot->kind, &err) == -1) {
        log_error("%s: %s", kind_names[slot->kind], err.text);
        timer_start(slot->timer, DELAY_MAX_MS);
        return;
    }
    slot->child = m->children; /* the newest */
    slot->child->slot = slot;
    if (slot->kind == CHILD_STATE) {
        tell_keys(m);
        announce_all(m);
    } else
        announce(m, slot->child, true);
}

static void add_slots(struct master *m, enum child_kind kind, long count)
{
    while (count-- > 0) {
        struct master_slot *slot = mem_alloc(sizeof(*slot));

        slot->master = m;
        slot->kind = kind;
        slot->timer = timer_new(m->loop, start_slot, slot);
        slot->next = m->slots;
        m->slots = slot;
        start_slot(slot);
    }
}

/* The old generation: its processes end with their last session. */
static void drain_slots(struct master *m)
{
    struct master_slot **at = &m->slots;

    while (*at) {
        struct master_slot *slot = *at;

        if (slot->kind == CHILD_STATE) {
            at = &slot->next;
            continue;
        }
        *at = slot->next;
        if (slot->child) {
            slot->child->slot = NULL;
            if (slot->child->channel)
                channel_send_take(slot->child->channel,
                                  json_pack("{s:s}", "m", "drain"), -1);
        }
        timer_free(&slot->timer);
        free(slot);
    }
}

void master_start_roles(struct master *m)
{
    const struct conf *conf = m->now->conf;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long logins = conf->login.processes ? conf->login.processes
                  : cores > 0           ? cores
                                        : 1;

    drain_slots(m);
    if (!m->slots)
        add_slots(m, CHILD_STATE, 1);
    if (master_has_role(conf, CHILD_LOGIN))
        add_slots(m, CHILD_LOGIN, logins);
    if (master_has_role(conf, CHILD_SMTP))
        add_slots(m, CHILD_SMTP, 1);
    if (master_has_role(conf, CHILD_JOBS))
        add_slots(m, CHILD_JOBS, 1);
    if (master_has_role(conf, CHILD_ADMIN))
        add_slots(m, CHILD_ADMIN, 1);
    tell_keys(m);
    announce_all(m);
}

/* --- what they say, and their end */

static void note_ready(struct master *m, struct master_child *c)
{
    if (c->slot)
        c->slot->was_ready = true;
    for (const struct master_slot *s = m->slots; s; s = s->next)
        if (!s->was_ready)
            return;
    if (m->is_up)
        return;
    m->is_up = true;
    log_info("up");
    if (m->up_fd >= 0) {
        if (write(m->up_fd, "u", 1) != 1)
            log_warn("who started us has gone");
        close(m->up_fd);
        m->up_fd = -1;
    }
}

/* No seal needs an older key any more: the file loses them too. */
static void forget_keys(struct master *m, const json_t *message)
{
    struct generation *g = m->now;
    uint8_t newest[SEAL_ID_SIZE], own[SEAL_ID_SIZE];
    char *path;
    struct err err;

    keyring_id(&g->keys, 0, own);
    if (wire_bytes(message, "newest", newest, sizeof(newest)) != SEAL_ID_SIZE ||
        memcmp(newest, own, sizeof(own)) != 0 || g->keys.count < 2)
        return; /* a newer one has come meanwhile */
    path = conf_key_path(g->conf);
    keyring_keep_newest(&g->keys);
    if (master_drop_older_keys(g, path, &err) == 0)
        log_info("keys rotated file=%s", path);
    else if (err.kind == ERR_RETRY) /* the next rotation ends this one too */
        log_info("keys stay in the file: %s", err.text);
    else
        log_warn("the older sealing keys are not needed any more, take them "
                 "out yourself: %s",
                 err.text);
    free(path);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct master_child *c = ctx;
    const char *m = wire_text(message, "m");

    if (fd >= 0)
        close(fd);
    if (m && strcmp(m, "ready") == 0)
        note_ready(c->master, c);
    else if (m && strcmp(m, "old_keys_unused") == 0 && c->kind == CHILD_STATE)
        forget_keys(c->master, message);
    else if (m && strcmp(m, "spawn") == 0 && c->kind == CHILD_JOBS)
        master_worker_spawn(c->master, c, wire_int(message, "id", 0));
}

static void start_again(struct master *m, struct master_slot *slot,
                        int64_t lived_ms, int status)
{
    bool is_setup = WIFEXITED(status) && WEXITSTATUS(status) == ROLE_EXIT_SETUP;

    slot->child = NULL;
    if (is_setup && !slot->was_ready && m->now->number == 1) {
        master_stop(m, 1); /* it has said why */
        return;
    }
    if (lived_ms >= SHORT_LIFE_MS)
        slot->delay_ms = 0;
    else
        slot->delay_ms = slot->delay_ms ? slot->delay_ms * 2 : DELAY_MS;
    if (slot->delay_ms > DELAY_MAX_MS)
        slot->delay_ms = DELAY_MAX_MS;
    /* the first time at once, also for one that died young */
    timer_start(slot->timer, slot->delay_ms == DELAY_MS ? 0 : slot->delay_ms);
}

static void log_end(const struct master *m, const struct master_child *c,
                    int status)
{
    if (m->is_stopping || !c->slot)
        log_debug("%s[%d] ended", kind_names[c->kind], (int)c->pid);
    else if (WIFSIGNALED(status))
        log_error("%s[%d] died signal=%d", kind_names[c->kind], (int)c->pid,
                  WTERMSIG(status));
    else
        log_error("%s[%d] died status=%d", kind_names[c->kind], (int)c->pid,
                  WEXITSTATUS(status));
}

void master_reap(struct master *m, pid_t pid, int status)
{
    struct master_child **at = &m->children;
    struct master_child *c;

    while (*at && (*at)->pid != pid)
        at = &(*at)->next;
    if (!(c = *at))
        return;
    *at = c->next;
    log_end(m, c, status);
    announce(m, c, false);
    if (c->kind == CHILD_WORKER)
        master_worker_exited(m, c, status);
    else if (c->kind == CHILD_JOBS)
        master_worker_kill(m, pid);
    if (c->slot && !m->is_stopping)
        start_again(m, c->slot, loop_now_ms(m->loop) - c->started_ms, status);
    channel_free(&c->channel);
    free(c);
    if (m->is_stopping && !m->children)
        loop_stop(m->loop);
}

static void on_end(void *ctx)
{
    struct master *m = ctx;

    for (const struct master_child *c = m->children; c; c = c->next)
        kill(c->pid, SIGKILL);
}

void master_stop(struct master *m, int exit_status)
{
    if (m->is_stopping)
        return;
    m->is_stopping = true;
    m->exit_status = exit_status;
    for (struct master_child *c = m->children; c; c = c->next)
        kill(c->pid, SIGTERM);
    m->end = timer_new(m->loop, on_end, m);
    timer_start(m->end, END_MS);
    if (!m->children)
        loop_stop(m->loop);
}
