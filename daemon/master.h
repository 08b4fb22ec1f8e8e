/*
 * The master process: binds ports, reads keys, starts every other process and
 * starts again what dies. Parses nothing that a mail client or server sends.
 *
 *   master.c         start, signals, a new generation, the end
 *   master_keys.c    what is read from files: certificates, sealing keys
 *   master_listen.c  sockets
 *   master_role.c    the processes of the roles
 *   master_worker.c  the workers that jobs asks for
 */
#ifndef DAEMON_MASTER_H
#define DAEMON_MASTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "account/keyring.h"
#include "base/channel.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/secret.h"

struct master;

struct master_listener {
    int fd;         /* owned; shared with the listener of the next generation */
    unsigned index; /* in conf->listen */
};

/* One reading of the configuration, and what it names. */
struct generation {
    int number;
    struct conf *conf; /* owned */
    int conf_fd;       /* owned; a memory file with its text, for the roles */
    struct secret certificate_pem, key_pem;
    struct keyring keys;
    struct secret local_password; /* of local.master_user; may be empty */
    uint8_t public_key[SEAL_KEY_SIZE];
    struct master_listener *listeners; /* owned */
    unsigned listener_count;
    bool has_user, has_owner; /* to change to */
    uid_t user_uid, owner_uid;
    gid_t user_gid, owner_gid;
};

enum child_kind {
    CHILD_STATE,
    CHILD_LOGIN,
    CHILD_SMTP,
    CHILD_JOBS,
    CHILD_ADMIN,
    CHILD_WORKER,
    CHILD_KIND_COUNT
};

/* The place of a process that is to be there always. */
struct master_slot {
    struct master_slot *next;
    struct master *master;
    enum child_kind kind;
    struct master_child *child; /* borrowed; NULL: dead, timer runs */
    struct timer *timer;        /* owned */
    int64_t delay_ms;           /* of the last start */
    bool was_ready;
};

struct master_child {
    struct master_child *next;
    struct master *master;
    enum child_kind kind;
    pid_t pid;
    pid_t parent;             /* worker: the jobs process that asked for it */
    struct channel *channel;  /* owned; NULL for workers */
    struct master_slot *slot; /* borrowed; NULL: draining, or a worker */
    int64_t started_ms;
};

struct master {
    struct loop *loop;
    const char *conf_path;  /* borrowed */
    char *program;          /* owned; our executable */
    struct generation *now; /* owned */
    int lock_fd, state_fd, control_fd;
    int verified_fd; /* what login processes remember, and its key */
    uint8_t verified_key[SEAL_KEY_SIZE];
    struct master_slot *slots;
    struct master_child *children;
    struct timer *end; /* kills what has not ended */
    bool is_stopping;
    bool is_up; /* every role was ready once */
    int up_fd;  /* who started us in the background waits there; -1: nobody */
    int exit_status;
};

/* Load the configuration, wanted keys and identities; bind what `old` (may be
   NULL) has not bound. ERR_SETUP. */
int generation_load(const char *conf_path, const struct generation *old,
                    struct generation **out, struct err *err);
/* Sockets that `heir` (may be NULL) has too stay open. */
void generation_free(struct generation **g, const struct generation *heir);

/* --- master_keys.c */
int master_read_keys(struct generation *g, struct err *err);
/* The newest one's public half to where command lines find it: once the
   generation is the one that serves. */
void master_publish_key(const struct generation *g);
/* No seal needs them: the file at path keeps the newest only. ERR_RETRY if a
   newer one has come into it. */
int master_drop_older_keys(const struct generation *g, const char *path,
                           struct err *err);

/* --- master_listen.c */
int master_listen(struct generation *g, const struct generation *old,
                  struct err *err);
/* Which role serves the protocol; CHILD_KIND_COUNT: none of those built. */
enum child_kind master_role_of(enum conf_protocol protocol);
bool master_has_role(const struct conf *conf, enum child_kind kind);
/* state.sock and control.sock. */
int master_listen_unix(struct master *m, struct err *err);

/* --- master_witness.c */
/* A descriptor of the witness journal, made if it is missing; -1 with ERR_NONE
   where there is no store. */
int master_witness_open(const struct generation *g, struct err *err);

/* --- master_role.c */
const char *child_kind_name(enum child_kind kind);
/* Have the processes of the current generation; those of an older one drain,
   save state. */
void master_start_roles(struct master *m);
/* A process has ended. */
void master_reap(struct master *m, pid_t pid, int status);
/* Begin the end: exit_status is what the program returns. */
void master_stop(struct master *m, int exit_status);

/* --- master_worker.c */
void master_worker_spawn(struct master *m, struct master_child *jobs,
                         int64_t request);
void master_worker_exited(struct master *m, const struct master_child *worker,
                          int status);
/* The jobs process has died: its workers must not go on. */
void master_worker_kill(struct master *m, pid_t jobs);

struct master_child *master_child_add(struct master *m, enum child_kind kind,
                                      pid_t pid);

/* The whole life of master; the program's exit status. */
int master_run(const char *conf_path, bool in_foreground);
/* `--check`: 0, or 2 with what is wrong on stderr. */
int master_check(const char *conf_path);

#endif
