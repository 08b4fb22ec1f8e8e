/*
 * The sockets: listeners of the mail protocols and the two Unix sockets of
 * state. A generation takes over those that its predecessor has bound.
 */
#include "daemon/master.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define BACKLOG 1024

enum child_kind master_role_of(enum conf_protocol protocol)
{
    switch (protocol) {
    case CONF_IMAP:
    case CONF_POP3: return CHILD_LOGIN;
    case CONF_SMTP:
    case CONF_LMTP: return CHILD_SMTP;
    case CONF_SUBMISSION:
    case CONF_SIEVE: break;
    }
    return CHILD_KIND_COUNT;
}

bool master_has_role(const struct conf *conf, enum child_kind kind)
{
    for (unsigned i = 0; i < conf->roles.count; i++)
        if (strcmp(conf->roles.items[i], child_kind_name(kind)) == 0)
            return true;
    return kind == CHILD_STATE;
}

static int bind_one(const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family,
                            SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -1)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    on = errno;
    close(fd);
    errno = on;
    return -1;
}

static int bind_listen(const struct conf *conf, const struct conf_listen *l,
                       struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char port[8];
    int rc, fd;

    snprintf(port, sizeof(port), "%u", l->port);
    rc = getaddrinfo(l->address, port, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_SETUP, "%s: listen: %s: %s", conf->path,
                       l->address, gai_strerror(rc));
    fd = bind_one(found);
    freeaddrinfo(found);
    if (fd == -1)
        return err_set(err, ERR_SETUP, "listen: %s port %u: %s", l->address,
                       l->port, strerror(errno));
    return fd;
}

static const struct master_listener *bound_before(const struct generation *old,
                                                  const struct conf_listen *l)
{
    for (unsigned i = 0; old && i < old->listener_count; i++) {
        const struct conf_listen *o =
            &old->conf->listen[old->listeners[i].index];

        if (o->port == l->port && strcmp(o->address, l->address) == 0)
            return &old->listeners[i];
    }
    return NULL;
}

static int listen_one(struct generation *g, const struct generation *old,
                      unsigned index, struct err *err)
{
    const struct conf_listen *l = &g->conf->listen[index];
    enum child_kind kind = master_role_of(l->protocol);
    const struct master_listener *before;
    struct master_listener *listener;
    int fd;

    if (kind == CHILD_KIND_COUNT || !master_has_role(g->conf, kind))
        return 0; /* the former is told by tell_unserved() */
    if (l->tls != TLS_NONE && !g->certificate_pem.bytes)
        return err_set(err, ERR_SETUP,
                       "%s: listen: port %u wants TLS, but there is no "
                       "tls.certificate",
                       g->conf->path, l->port);
    before = bound_before(old, l);
    fd = before ? before->fd : bind_listen(g->conf, l, err);
    if (fd == -1)
        return -1;
    listener = &g->listeners[g->listener_count++];
    listener->fd = fd;
    listener->index = index;
    return 0;
}

int master_listen(struct generation *g, const struct generation *old,
                  struct err *err)
{
    g->listeners =
        mem_alloc((g->conf->listen_count + 1) * sizeof(*g->listeners));
    for (unsigned i = 0; i < g->conf->listen_count; i++)
        if (listen_one(g, old, i, err) == -1)
            return -1;
    return 0;
}

static int listen_unix(struct master *m, const char *name, mode_t mode,
                       struct err *err)
{
    char *path = conf_state_path(m->now->conf, name);
    int fd = channel_listen_unix(path, mode, err);

    if (fd != -1 && m->now->has_user &&
        chown(path, m->now->user_uid, m->now->user_gid) == -1) {
        err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
        close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

int master_listen_unix(struct master *m, struct err *err)
{
    m->state_fd = listen_unix(m, "state.sock", 0600, err);
    if (m->state_fd == -1)
        return -1;
    /* whoever calls is told apart by his uid, and refused by state */
    m->control_fd = listen_unix(m, "control.sock", 0666, err);
    return m->control_fd == -1 ? -1 : 0;
}
