/*
 * The process of the admin role: its sockets, which it binds itself, since they
 * are no mail client's.
 */
#include "daemon/role.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "account/wire.h"
#include "admin/admin.h"
#include "base/dns.h"
#include "base/mem.h"

#define BACKLOG         128
#define DESCRIPTORS_MAX 256 /* bounds the connections too */

struct admin_role {
    struct role *role;
    struct admin *admin;
};

static void on_message(void *ctx, json_t *message, int fd)
{
    struct admin_role *a = ctx;
    const char *m = wire_text(message, "m");

    if (fd >= 0)
        close(fd);
    if (!m || strcmp(m, "drain") != 0)
        return;
    admin_free(&a->admin); /* its successor has the sockets already, or soon */
    role_stop(a->role);
}

/* The predecessor of an older generation may still listen there. */
static int listen_tcp(const struct conf *conf, struct err *err)
{
    struct sockaddr_storage address;
    socklen_t length;
    int on = 1, fd;

    if (conf->admin.port == 0)
        return -1;
    if (!dns_parse_numeric(conf->admin.address, conf->admin.port, &address)) {
        err_set(err, ERR_SETUP, "admin.address: not numeric");
        return -2;
    }
    length = address.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                           : sizeof(struct sockaddr_in);
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0);
    if (fd != -1 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
        bind(fd, (struct sockaddr *)&address, length) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    err_set(err, ERR_SETUP, "admin: %s port %u: %s", conf->admin.address,
            conf->admin.port, strerror(errno));
    if (fd != -1)
        close(fd);
    return -2;
}

/* The folder of the store's template, as far as it has no {word}. */
static char *store_folder(const struct conf *conf)
{
    char *path = conf->store.path ? mem_dup_text(conf->store.path) : NULL;
    char *word = path ? strchr(path, '{') : NULL;

    if (word) {
        *word = '\0';
        *strrchr(path, '/') = '\0';
    }
    return path;
}

int role_admin_start(struct role *role, struct err *err)
{
    const struct rlimit files = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};
    struct admin_role *a = mem_alloc(sizeof(*a));
    const struct conf *conf = role->conf;
    char *path = conf_state_path(conf, conf->admin.socket);
    char *store = store_folder(conf);
    struct admin_options o = {.loop = role->loop,
                              .state_socket = role->state_socket,
                              .state_dir = conf->state_dir,
                              .store = store};

    setrlimit(RLIMIT_NOFILE, &files);
    a->role = role;
    o.tcp_fd = listen_tcp(conf, err);
    if (o.tcp_fd == -2)
        return -1;
    /* whoever calls is told apart by his uid, and refused by state */
    o.unix_fd = channel_listen_unix(path, 0666, err);
    free(path);
    if (o.unix_fd == -1)
        return -1;
    a->admin = admin_start(&o, err);
    free(store);
    if (!a->admin)
        return -1;
    role->on_message = on_message;
    role->ctx = a;
    role_ready(role);
    return 0;
}
