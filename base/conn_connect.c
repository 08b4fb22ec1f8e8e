/*
 * Reaching the peer: resolve its name, try each address in turn.
 */
#include "base/conn_inside.h"

#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_DEFAULT_MS 30000

void conn_dial_free(struct conn_dial **dial)
{
    if (*dial == NULL)
        return;
    dns_cancel(&(*dial)->query);
    free((*dial)->host);
    free((*dial)->addresses);
    free(*dial);
    *dial = NULL;
}

static int open_socket(const struct sockaddr_storage *address)
{
    socklen_t size = address->ss_family == AF_INET6
                         ? sizeof(struct sockaddr_in6)
                         : sizeof(struct sockaddr_in);
    int fd = socket(address->ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return -1;
    if (connect(fd, (const struct sockaddr *)address, size) == -1 &&
        errno != EINPROGRESS) {
        int saved_errno = errno;

        close(fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

static void leave_address(struct conn *c)
{
    watch_free(&c->watch);
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
}

/* Each address gets an equal share of the time that is left. */
static void try_next(struct conn *c, const char *why)
{
    struct conn_dial *dial = c->dial;
    int64_t now_ms = loop_now_ms(c->loop);

    leave_address(c);
    while (dial->address_next < dial->address_count) {
        int left = dial->address_count - dial->address_next;
        int fd = open_socket(&dial->addresses[dial->address_next++]);

        if (fd == -1) {
            why = strerror(errno);
            continue;
        }
        dial->until_ms = now_ms + (c->setup_until_ms - now_ms) / left;
        conn_watch_fd(c, fd);
        conn_set_wants(c);
        conn_set_timer(c);
        return;
    }
    conn_fail(c, ERR_RETRY, why);
}

void conn_dial_on_timeout(struct conn *c)
{
    try_next(c, "timed out");
}

void conn_dial_on_writable(struct conn *c)
{
    int status = 0;
    socklen_t size = sizeof status;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &status, &size) == -1)
        status = errno;
    if (status != 0) {
        try_next(c, strerror(status));
        return;
    }
    free(c->dial->addresses);
    c->dial->addresses = NULL;
    c->dial->until_ms = 0;
    conn_established(c, c->dial->mode);
}

static void start_trying(struct conn *c,
                         const struct sockaddr_storage *addresses, int count)
{
    c->dial->addresses =
        mem_dup(addresses, (size_t)count * sizeof *c->dial->addresses);
    c->dial->address_count = count;
    conn_enter(c, CS_CONNECT);
    try_next(c, "no address");
}

static void conn_on_resolved(void *ctx,
                             const struct sockaddr_storage *addresses,
                             int count, const struct err *err)
{
    struct conn *c = ctx;

    c->dial->query = NULL;
    if (count == 0)
        conn_fail(c, err->kind, err->text);
    else
        start_trying(c, addresses, count);
}

/* Everything here ends in a callback from the loop, failures too. */
void conn_dial_start(struct conn *c, const struct conn_target *target)
{
    struct sockaddr_storage address;
    struct conn_dial *dial = mem_alloc(sizeof *dial);

    c->dial = dial;
    dial->host = mem_dup_text(target->host);
    dial->port = target->port;
    dial->mode = target->mode;
    dial->tls = target->tls;
    dial->wait_ms = target->wait_ms > 0 ? target->wait_ms : WAIT_DEFAULT_MS;
    c->setup_until_ms = loop_now_ms(c->loop) + dial->wait_ms;
    conn_set_timer(c);
    if (dns_parse_numeric(target->host, target->port, &address))
        start_trying(c, &address, 1);
    else if (target->dns == NULL)
        conn_fail(c, ERR_SETUP, "a host name, but no resolver");
    else
        dial->query = dns_resolve(target->dns, target->host, target->port,
                                  conn_on_resolved, c);
}
