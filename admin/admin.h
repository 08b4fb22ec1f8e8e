/*
 * The admin role: /metrics and /healthz for everybody who may reach its port;
 * beside them, on a Unix socket only, the administrator's commands as JSON.
 * Knows nothing by itself: it asks the state process. This header is all that
 * the daemon needs.
 *
 *   GET  /metrics               Prometheus text; no series of a user
 *   GET  /healthz               200 "ok", or 503 with the reasons
 *   POST /v1/command            {"cmd": "account pause", "address": ...}: what
 *                               the command line asks, and what it is answered
 *   GET  /v1/accounts/ADDRESS   account show
 *   GET  /v1/status?domain=     status
 *   GET  /v1/audit?address=&domain=&since=&limit=
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "base/err.h"
#include "base/loop.h"

struct admin;

struct admin_options {
    struct loop *loop;        /* borrowed until admin_free */
    const char *state_socket; /* copied, as all below */
    const char *state_dir;    /* its room is told */
    const char *store;        /* the same; NULL: none */
    int tcp_fd;               /* listening; taken; -1: none */
    int unix_fd;              /* the same */
};

/* NULL with ERR_SETUP; the sockets are closed then. */
struct admin *admin_start(const struct admin_options *options, struct err *err);
void admin_free(struct admin **admin);

#endif
