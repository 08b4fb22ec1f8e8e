/*
 * The connections to the state process and the processes behind them. A process
 * that master has announced counts until master says it is dead, connected or
 * not; one that only connected counts while it is connected.
 */
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/log.h"
#include "base/mem.h"

#define OWED_MAX 10000 /* to one that does not connect */

bool state_peer_serves(const struct state_peer *peer)
{
    return strcmp(peer->role, "login") == 0 || strcmp(peer->role, "smtp") == 0;
}

static struct state_peer *peer_add(struct state *s)
{
    struct state_peer *peer = mem_alloc(sizeof(*peer));

    peer->state = s;
    peer->next = s->peers;
    s->peers = peer;
    return peer;
}

static void peer_remove(struct state_peer *peer)
{
    struct state_peer **at = &peer->state->peers;

    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    state_metrics_forget_peer(peer->state, peer);
    json_decref(peer->counts);
    json_decref(peer->owed);
    free(peer);
}

/* Its connection is over: nothing waits for it any more. */
static void peer_disconnect(struct state_peer *peer)
{
    struct state *s = peer->state;

    if (!peer->channel)
        return;
    channel_free(&peer->channel);
    state_forget_peer(s, peer);
    state_routes_forget_peer(s, peer);
    state_jobs_forget_peer(s, peer);
    state_control_forget_peer(s, peer);
}

static void on_closed(void *ctx)
{
    struct state_peer *peer = ctx;
    struct state *s = peer->state;
    pid_t pid = peer->pid;

    peer_disconnect(peer);
    if (peer->is_announced)
        return; /* it may come back; until then it is not quiet */
    peer_remove(peer);
    state_flip_peer_went(s, pid);
}

static void set_role(struct state_peer *peer, const char *role)
{
    snprintf(peer->role, sizeof(peer->role), "%s", role ? role : "");
}

static void say_owed(struct state *s, struct state_peer *peer)
{
    size_t i;
    json_t *message;

    json_array_foreach(peer->owed, i, message)
        state_send(s, peer, json_incref(message));
    json_decref(peer->owed);
    peer->owed = NULL;
}

static void on_hello(struct state_peer *peer, const json_t *message)
{
    struct state *s = peer->state;
    pid_t pid = (pid_t)wire_int(message, "pid", 0);
    struct state_peer *other = s->peers;

    while (other && (other->pid != pid || other == peer))
        other = other->next;
    if (other) { /* what master announced, or an older connection */
        peer->is_announced = other->is_announced;
        json_decref(other->counts); /* it will tell them again */
        other->counts = NULL;
        peer->owed = json_incref(other->owed);
        peer_disconnect(other);
        peer_remove(other);
    }
    peer->pid = pid;
    set_role(peer, wire_text(message, "role"));
    log_debug("peer %s[%d] connected", peer->role, (int)pid);
    state_flip_peer_came(s, peer);
    /* every hold in force has been said: what else it remembers is over */
    if (state_peer_serves(peer))
        state_send(s, peer, json_pack("{s:s}", "m", "welcome"));
    say_owed(s, peer);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct state_peer *peer = ctx;
    struct state *s = peer->state;
    const char *m = wire_text(message, "m");

    if (fd >= 0)
        close(fd);
    if (!m)
        return;
    if (strcmp(m, "hello") == 0)
        on_hello(peer, message);
    else if (strcmp(m, "ask") == 0)
        state_routes_ask(s, peer, message);
    else if (strcmp(m, "learn") == 0)
        state_routes_learn(s, peer, message);
    else if (strcmp(m, "stranger") == 0)
        state_strangers_count(s, peer, message);
    else if (strcmp(m, "confirm") == 0)
        state_routes_confirm(s, wire_int(message, "account", 0));
    else if (strcmp(m, "quiet") == 0)
        state_flip_quiet(s, peer, message);
    else if (strcmp(m, "busy") == 0)
        state_flip_busy(s, peer, message);
    else if (strcmp(m, "metrics") == 0)
        state_metrics_answer(s, peer, message);
    else if (strcmp(m, "command") == 0)
        state_control_command(s, peer, message);
    else if (strcmp(m, "counts") == 0)
        state_metrics_counts(peer, message);
    else if (strcmp(m, "lease") == 0)
        state_jobs_lease(s, peer, message);
    else if (strcmp(m, "progress") == 0)
        state_jobs_progress(s, peer, message);
    else if (strcmp(m, "done") == 0)
        state_jobs_done(s, peer, message);
    else if (strcmp(m, "rewrapped") == 0)
        state_keys_rewrapped(s, message);
}

void state_peers_accept_take(struct state *s, int fd)
{
    struct state_peer *peer = peer_add(s);

    peer->channel = channel_new_take(s->loop, fd, on_message, on_closed, peer);
    /* the socket's mode says the same; this is the second lock */
    if (channel_peer_uid(peer->channel) != 0 &&
        channel_peer_uid(peer->channel) != geteuid()) {
        log_warn("peer of a foreign uid=%u refused",
                 (unsigned)channel_peer_uid(peer->channel));
        channel_free(&peer->channel);
        peer_remove(peer);
    }
}

void state_peers_announce(struct state *s, const char *role, pid_t pid,
                          bool is_alive)
{
    struct state_peer *peer = s->peers;

    while (peer && peer->pid != pid)
        peer = peer->next;
    if (is_alive) {
        if (!peer) {
            peer = peer_add(s);
            peer->pid = pid;
            set_role(peer, role);
        }
        peer->is_announced = true;
        return;
    }
    if (peer) {
        /* what it still sent before it died is of no use to anybody */
        peer_disconnect(peer);
        peer_remove(peer);
    }
    state_flip_peer_went(s, pid);
}

void state_peers_tell(struct state *s, json_t *message)
{
    for (struct state_peer *peer = s->peers; peer; peer = peer->next)
        if (peer->channel && state_peer_serves(peer))
            state_send(s, peer, json_incref(message));
    json_decref(message);
}

/* The same, and to who connects in a moment too: its sessions go on meanwhile.
 */
static void tell_all(struct state *s, json_t *message)
{
    for (struct state_peer *peer = s->peers; peer; peer = peer->next) {
        if (peer->channel || !state_peer_serves(peer))
            continue;
        if (!peer->owed)
            peer->owed = json_array();
        if (json_array_size(peer->owed) >= OWED_MAX)
            json_array_remove(peer->owed, 0);
        json_array_append(peer->owed, message);
    }
    state_peers_tell(s, message);
}

void state_peers_kick(struct state *s, const struct account *account,
                      const char *service, const char *reason)
{
    tell_all(s, json_pack("{s:s,s:I,s:s,s:s,s:s}", "m", "kick", "account",
                          (json_int_t)account->id, "address", account->address,
                          "service", service, "reason", reason));
}

void state_peers_forget(struct state *s, const struct account *account)
{
    tell_all(s,
             json_pack("{s:s,s:I,s:s}", "m", "forget", "account",
                       (json_int_t)account->id, "address", account->address));
}
