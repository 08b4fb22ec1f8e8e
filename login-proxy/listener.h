/*
 * One listening socket: accepts what comes, and rests for a moment when the
 * process can have no more descriptors or sessions. Other processes may accept
 * on the same socket.
 */
#ifndef LOGIN_PROXY_LISTENER_H
#define LOGIN_PROXY_LISTENER_H

#include <stdbool.h>

#include "base/loop.h"
#include "base/tls.h"
#include "proto/mail_url.h"

struct listener {
    struct loop *loop;   /* borrowed */
    struct watch *watch; /* owned */
    struct timer *rest;  /* owned: while we do not accept */
    int fd;              /* borrowed */
    enum mail_protocol protocol;
    enum tls_mode mode;
    bool plain_auth;
    struct listener *next; /* in the role's list */

    bool (*has_room)(void *ctx); /* asked before each accept */
    /* takes the accepted, non-blocking socket */
    void (*on_accept)(void *ctx, const struct listener *l, int fd);
    void *ctx;
};

/* Starts accepting with what l->fd, on_accept, has_room and ctx say. */
void listener_start(struct listener *l, struct loop *loop);
void listener_stop(struct listener *l);

#endif
