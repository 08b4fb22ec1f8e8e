/*
 * What every role does at its start and end: takes the first message of master
 * from fd 3, reads the configuration that master has read (fd 4), opens the log
 * and lives until master closes the channel.
 *
 * The first message, "role":
 *   role         "login", "smtp", "state", "jobs", "admin"
 *   generation   counts the readings of the configuration
 *   listeners    array of {fd, index}: index into conf->listen; for state
 *                index -1 is state.sock, -2 control.sock, -3
 *                the witness journal (absent: no store); for login index -4
 *                is the table of verified pairs
 *   certificate, key     PEM texts: login, smtp (absent: no TLS)
 *   public_key           login, smtp, state
 *   private_keys         jobs: array of {key}, newest first
 *   verified_key         login: of the table of verified pairs
 *   local_password       login, jobs: of conf->local.master_user (absent: none)
 *
 * Later, master -> role: "drain" (end when the last session has ended); and
 * what account/wire.h lists. role -> master: "ready" once it serves.
 */
#ifndef DAEMON_ROLE_H
#define DAEMON_ROLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "account/keyring.h"
#include "base/channel.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/secret.h"
#include "base/tls.h"

#define ROLE_CONF_FD   4 /* the text of the configuration */
#define ROLE_LISTEN_FD 5 /* the first listener */

/* Exit status of a role that cannot work until an operator acts: master ends
   too, instead of starting it again for ever. */
#define ROLE_EXIT_SETUP 3

#define ROLE_STATE_SOCKET   (-1)
#define ROLE_CONTROL_SOCKET (-2)
#define ROLE_WITNESS        (-3)
#define ROLE_VERIFIED       (-4) /* no socket: login's table of verified pairs */

struct role_listener {
    int fd;
    int index; /* of conf->listen, or one of those above */
};

struct role {
    const char *name;
    struct loop *loop;               /* owned */
    struct conf *conf;               /* owned */
    struct channel *master;          /* owned */
    char *state_socket;              /* owned; path */
    struct role_listener *listeners; /* owned */
    unsigned listener_count;
    bool has_public_key;
    uint8_t public_key[SEAL_KEY_SIZE];
    bool has_verified_key;
    uint8_t verified_key[SEAL_KEY_SIZE];
    struct keyring keys;          /* empty unless given */
    struct secret local_password; /* the same; of conf->local.master_user */
    struct secret certificate_pem, key_pem;
    /* called for each later message of master; set by the role */
    void (*on_message)(void *ctx, json_t *message, int fd);
    void *ctx;
};

/* The whole life of a process of that role, to its exit status. */
int role_run(const char *name);

/* Tell master that this process serves. */
void role_ready(struct role *role);
/* End the process in order, from a callback. */
void role_stop(struct role *role);

/* The TLS contexts that login and smtp share: server NULL where no certificate
   was given; client for both legacy and local. */
int role_tls(struct role *role, struct tls_server **server_out,
             struct tls_client **client_out, struct err *err);

/* The roles' own starts: fill role->on_message and role->ctx. */
int role_state_start(struct role *role, struct err *err);
int role_login_start(struct role *role, struct err *err);
int role_smtp_start(struct role *role, struct err *err);
int role_jobs_start(struct role *role, struct err *err);
int role_admin_start(struct role *role, struct err *err);

#endif
