#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "account/difference.h"
#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_keep.h"
#include "base/mem.h"
#include "base/tally.h"
#include "db/audit.h"
#include "db/control.h"

#define TICK_MS    1000
#define PRUNE_MS   60000
#define ROOM_BYTES (1u << 20) /* on the disk, to begin writing */

/* Said after the commit: a message, or a call. */
struct state_said {
    struct state_said *next;
    struct state_peer *peer; /* NULL: a call, or its peer has gone */
    json_t *message;         /* owned */
    void (*fn)(struct state *s, int64_t id);
    int64_t id;
};

void state_must(int rc, const struct err *err)
{
    if (rc != -1)
        return;
    /* nothing that was not committed has been said; the next life reads what
       is on disk */
    log_error("control db: %s", err->text);
    _exit(1);
}

static void turn_ends(void *ctx)
{
    struct state *s = ctx;

    s->is_turn_ending = false;
    state_settle(s);
}

static void end_turn_later(struct state *s)
{
    if (s->is_turn_ending)
        return;
    s->is_turn_ending = true;
    loop_defer(s->loop, turn_ends, s);
}

void state_write(struct state *s)
{
    struct err err;

    if (!db_in_transaction(s->db))
        state_must(db_begin(s->db, &err), &err);
    end_turn_later(s);
}

static void say_later(struct state *s, struct state_said said)
{
    struct state_said *entry = mem_dup(&said, sizeof(said));

    *s->said_end = entry;
    s->said_end = &entry->next;
    end_turn_later(s);
}

void state_send(struct state *s, struct state_peer *peer, json_t *message)
{
    if (!peer->channel) {
        json_decref(message);
        return;
    }
    say_later(s, (struct state_said){.peer = peer, .message = message});
}

void state_after(struct state *s, void (*fn)(struct state *s, int64_t id),
                 int64_t id)
{
    say_later(s, (struct state_said){.fn = fn, .id = id});
}

void state_forget_peer(struct state *s, const struct state_peer *peer)
{
    for (struct state_said *said = s->said; said; said = said->next)
        if (said->peer == peer)
            said->peer = NULL;
}

void state_settle(struct state *s)
{
    struct err err;

    for (;;) {
        if (db_in_transaction(s->db)) {
            state_local_note(s);
            state_must(db_commit(s->db, &err), &err);
        }
        if (!s->said)
            return;
        /* what these calls write is committed before what they say is said */
        while (s->said && !db_in_transaction(s->db)) {
            struct state_said *said = s->said;

            if (!(s->said = said->next))
                s->said_end = &s->said;
            if (said->fn)
                said->fn(s, said->id);
            else if (said->peer && said->peer->channel)
                channel_send_take(said->peer->channel,
                                  json_incref(said->message), -1);
            json_decref(said->message);
            free(said);
        }
    }
}

void state_audit(struct state *s, int64_t account_id, const char *event,
                 const char *format, ...)
{
    char detail[512];
    struct account account;
    struct audit_entry entry = {.at = clock_unix_ms(),
                                .account_id = account_id,
                                .actor = "state",
                                .event = event,
                                .detail = detail};
    struct err err;
    va_list args;

    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    if (account_id && state_load(s, account_id, &account, NULL))
        entry.address = account.address;
    state_write(s);
    state_must(audit_append(s->db, &entry, &err), &err);
}

void state_audit_change(struct state *s, const struct account *was,
                        const struct account *is, const char *event,
                        const char *why)
{
    struct difference difference;
    struct audit_entry entry = {.at = clock_unix_ms(),
                                .account_id = is->id,
                                .actor = "state",
                                .event = event,
                                .address = is->address,
                                .was = difference.was,
                                .became = difference.became,
                                .reason = why};
    struct err err;

    account_difference(was, is, &difference);
    state_write(s);
    state_must(audit_append(s->db, &entry, &err), &err);
}

bool state_load(struct state *s, int64_t account_id, struct account *account,
                struct domain *domain)
{
    struct err err;
    int found = account_get(s->db, account_id, account, &err);

    state_must(found, &err);
    if (found && domain) {
        found = domain_get(s->db, account->domain_id, domain, &err);
        state_must(found, &err);
    }
    return found == 1;
}

void state_store(struct state *s, struct account *account)
{
    struct err err;

    state_write(s);
    account->updated_at = clock_unix_ms();
    state_must(account_update(s->db, account, &err), &err);
}

bool state_change(struct state *s, struct account *account,
                  enum account_event event, const char *why)
{
    struct account_state next = {account->route, account->copy, account->epoch};
    struct account was;
    struct err err;

    if (lifecycle_apply(&next, event, &err) == -1) {
        log_error("account %s %s: %s", account->address,
                  account_event_name(event), err.text);
        return false;
    }
    log_info("account %s %s route=%s copy=%s epoch=%lld %s", account->address,
             account_event_name(event), account_route_name(next.route),
             account_copy_name(next.copy), (long long)next.epoch, why);
    account->route = next.route;
    account->copy = next.copy;
    account->epoch = next.epoch;
    if (!state_load(s, account->id, &was, NULL))
        return false;
    state_audit_change(s, &was, account, account_event_name(event), why);
    tally_add(1, "account_events_total{event=\"%s\"}",
              account_event_name(event));
    state_store(s, account);
    return true;
}

/* --- the start */

struct held {
    struct account *accounts; /* owned */
    size_t count;
};

static int collect(void *ctx, const struct account *account)
{
    struct held *all = ctx;

    if ((all->count & (all->count - 1)) == 0)
        all->accounts =
            mem_grow(all->accounts, (all->count ? all->count * 2 : 1) *
                                        sizeof(*all->accounts));
    all->accounts[all->count++] = *account;
    return 0;
}

/* A hold of an earlier life: nobody knows how far it came, so back. */
static void take_back(struct state *s, struct account *account)
{
    int64_t now = clock_unix_ms();
    struct domain domain;

    if (lifecycle_is_way_back(account->copy)) {
        if (state_change(s, account, EVENT_BACK_FAILED,
                         "found held at the start") &&
            state_load(s, account->id, account, &domain)) {
            state_back_given_up(s, account, &domain, SCHEDULE_BUSY_MS);
            state_flip_end(s, account, &domain);
        }
        return;
    }
    account->next_flip_at = now + SCHEDULE_BUSY_MS;
    account->is_clean = false;
    if (!state_change(s, account, EVENT_HOLD_FAILED, "found held at the start"))
        return;
    if (state_load(s, account->id, account, &domain)) {
        state_jobs_stop(s, account->id, JOB_FINAL);
        state_jobs_queue(s, account, &domain, JOB_DELTA, now);
    }
}

static void take_back_held(struct state *s)
{
    struct held all = {NULL, 0};
    struct err err;

    state_must(account_each_held(s->db, collect, &all, &err), &err);
    for (size_t i = 0; i < all.count; i++)
        if (!state_witness_refuses(s, all.accounts[i].address))
            take_back(s, &all.accounts[i]);
    free(all.accounts);
}

/* --- no room on the disk

   A write that fails ends this process, see state_must; the next one finds the
   disk full, answers from what is there, and writes again when there is room.
   Who is known is served; nobody is learnt, copied or flipped. */

static bool has_room(const struct state *s)
{
    struct statvfs disk;

    return statvfs(s->conf->state_dir, &disk) == -1 || disk.f_blocks == 0 ||
           (uint64_t)disk.f_bavail * disk.f_frsize >= ROOM_BYTES;
}

static void begin_writing(struct state *s)
{
    struct err err;

    s->is_full = false;
    state_must(db_set_read_only(s->db, false, &err), &err);
    state_must(job_free_leases(s->db, "", &err), &err);
    state_witness_start(s);
    take_back_held(s);
    state_local_start(s);
    state_brake_follow(s);
    state_settle(s);
    state_jobs_wake(s);
}

static void wait_for_room(struct state *s)
{
    struct err err;

    s->is_full = true;
    state_must(db_set_read_only(s->db, true, &err), &err);
    state_witness_start(s);
    log_error("%s: no room on the disk; nothing moves until there is",
              s->conf->state_dir);
}

static void prune_kept_lines(struct state *s)
{
    int64_t now = loop_now_ms(s->loop);

    if (s->pruned_ms && now < s->pruned_ms + PRUNE_MS)
        return;
    s->pruned_ms = now;
    log_keep_prune(s->kept_lines, s->conf->log.keep_days,
                   (uint64_t)s->conf->log.keep_megabytes << 20);
}

static void on_tick(void *ctx)
{
    struct state *s = ctx;

    state_on_flip_reap(s);
    state_on_flip_run(s);
    state_close_tick(s);
    state_jobs_tick(s);
    state_routes_tick(s);
    state_keys_tick(s);
    prune_kept_lines(s);
    if (s->is_full && has_room(s)) {
        log_info("%s: there is room again", s->conf->state_dir);
        begin_writing(s);
    }
    state_local_tick(s);
    timer_start(s->tick, TICK_MS);
}

static void on_child(void *ctx)
{
    state_on_flip_reap(ctx);
}

static void on_due(void *ctx)
{
    state_jobs_wake(ctx);
}

static void on_accept(int fd, bool can_read, bool can_write, void *ctx)
{
    struct state *s = ctx;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)can_write;
    if (peer == -1 || !can_read) {
        if (peer == -1 && errno != EAGAIN && errno != EINTR)
            log_warn("accept: %s", strerror(errno));
        return;
    }
    for (unsigned i = 0; i < s->role->listener_count; i++)
        if (s->role->listeners[i].fd == fd) {
            if (s->role->listeners[i].index == ROLE_STATE_SOCKET)
                state_peers_accept_take(s, peer);
            else
                state_control_accept_take(s, peer);
            return;
        }
    close(peer);
}

static void on_master(void *ctx, json_t *message, int fd)
{
    struct state *s = ctx;
    const char *m = wire_text(message, "m");
    const char *role = wire_text(message, "role");

    if (fd >= 0)
        close(fd);
    if (!m)
        return;
    if (strcmp(m, "peer") == 0 && role)
        state_peers_announce(s, role, (pid_t)wire_int(message, "pid", 0),
                             wire_bool(message, "alive"));
    else if (strcmp(m, "peers_known") == 0)
        s->are_peers_known = true;
    else if (strcmp(m, "keys") == 0)
        state_keys_take(s, message);
}

static void serve(struct state *s)
{
    for (unsigned i = 0; i < s->role->listener_count && i < 2; i++) {
        int fd = s->role->listeners[i].fd;

        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        s->accepts[i] = watch_new(s->loop, fd, on_accept, s);
        watch_want(s->accepts[i], true, false);
    }
    timer_start(s->tick, TICK_MS);
    role_ready(s->role);
}

int role_state_start(struct role *role, struct err *err)
{
    struct state *s = mem_alloc(sizeof(*s));

    s->role = role;
    s->loop = role->loop;
    s->conf = role->conf;
    s->said_end = &s->said;
    s->has_ends = true; /* who knows how far an earlier life came */
    s->good_masters = json_object();
    s->full_trails = json_object();
    s->gone_counts = json_object();
    s->host_failures = json_object();
    s->kept_lines = conf_state_path(s->conf, "trace");
    s->unclean = json_object();
    if (s->conf->provision.dovecot && s->conf->provision.doveadm.count == 0)
        log_warn("local-not-asked: provision.doveadm is not set; nothing "
                 "tells before a flip that the local server reads auth.db");
    if (control_open(s->conf->database, s->conf->state_dir, false, &s->db,
                     err) == -1 ||
        provision_open(s->conf, &s->provision, err) == -1)
        return -1;
    s->tick = timer_new(s->loop, on_tick, s);
    s->due = timer_new(s->loop, on_due, s);
    loop_on_signal(s->loop, SIGCHLD, on_child, s);
    role->on_message = on_master;
    role->ctx = s;
    if (has_room(s))
        begin_writing(s);
    else
        wait_for_room(s);
    serve(s);
    return 0;
}
