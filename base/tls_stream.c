/*
 * The blocking stream of the workers: a non-blocking socket and poll(), so that
 * every wait has its limit.
 */
#include "base/tls.h"

#include "base/mem.h"
#include "base/tls_session.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct tls_stream {
    int fd; /* owned */
    int wait_ms;
    char *host;                  /* owned */
    struct tls_client *tls;      /* borrowed */
    struct tls_session *session; /* owned; NULL in clear */
};

static int wait_for(const struct tls_stream *stream, short events,
                    struct err *err)
{
    struct pollfd waiting = {stream->fd, events, 0};
    int n;

    do
        n = poll(&waiting, 1, stream->wait_ms);
    while (n == -1 && errno == EINTR);
    if (n == 1)
        return 0;
    return err_set(err, ERR_RETRY, "%s",
                   n == 0 ? "timed out" : strerror(errno));
}

/* 0 when the step may be repeated, -1 when it failed. */
static int wait_progress(const struct tls_stream *stream,
                         enum tls_progress progress, struct err *err)
{
    if (progress == TLS_PROGRESS_WANT_READ)
        return wait_for(stream, POLLIN, err);
    if (progress == TLS_PROGRESS_WANT_WRITE)
        return wait_for(stream, POLLOUT, err);
    return -1;
}

static int finish_connect(const struct tls_stream *stream, struct err *err)
{
    int status = 0;
    socklen_t size = sizeof status;

    if (wait_for(stream, POLLOUT, err) == -1)
        return -1;
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &status, &size) == -1)
        status = errno;
    if (status != 0)
        return err_set(err, ERR_RETRY, "%s", strerror(status));
    return 0;
}

static int connect_to(struct tls_stream *stream, const struct addrinfo *to,
                      struct err *err)
{
    int one = 1;

    stream->fd =
        socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (stream->fd == -1)
        return err_set(err, ERR_RETRY, "%s", strerror(errno));
    if (connect(stream->fd, to->ai_addr, to->ai_addrlen) == -1 &&
        errno != EINPROGRESS)
        err_set(err, ERR_RETRY, "%s", strerror(errno));
    else if (finish_connect(stream, err) == 0) {
        setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(stream->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        return 0;
    }
    close(stream->fd);
    stream->fd = -1;
    return -1;
}

static int connect_any(struct tls_stream *stream, uint16_t port,
                       struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list, *to;
    char service[8];
    int status;

    snprintf(service, sizeof service, "%u", (unsigned)port);
    status = getaddrinfo(stream->host, service, &hints, &list);
    if (status != 0)
        return err_set(err, ERR_RETRY, "%s", gai_strerror(status));
    err_set(err, ERR_RETRY, "no address");
    status = -1;
    for (to = list; to != NULL && status == -1; to = to->ai_next)
        status = connect_to(stream, to, err);
    freeaddrinfo(list);
    return status;
}

int tls_stream_start(struct tls_stream *stream, struct err *err)
{
    struct tls_session *session;
    enum tls_progress progress;

    if (stream->session != NULL)
        return err_set(err, ERR_PEER, "TLS is up already");
    session =
        tls_session_new_client(stream->tls, stream->host, stream->fd, err);
    if (session == NULL)
        return -1;
    stream->session = session;
    do
        progress = tls_session_handshake(session, err);
    while (progress != TLS_PROGRESS_DONE &&
           wait_progress(stream, progress, err) == 0);
    return progress == TLS_PROGRESS_DONE ? 0 : -1;
}

struct tls_stream *tls_stream_open(const struct tls_target *target,
                                   struct tls_client *tls, int wait_ms,
                                   struct err *err)
{
    struct tls_stream *stream = mem_alloc(sizeof *stream);

    stream->fd = -1;
    stream->wait_ms = wait_ms;
    stream->host = mem_dup_text(target->host);
    stream->tls = tls;
    if (connect_any(stream, target->port, err) == -1 ||
        (target->mode == TLS_IMPLICIT && tls_stream_start(stream, err) == -1)) {
        err_prefix(err, "%s port %u", target->host, (unsigned)target->port);
        tls_stream_close(&stream);
    } else {
        err_clear(err);
    }
    return stream;
}

static ssize_t read_clear(struct tls_stream *stream, void *bytes, size_t size,
                          struct err *err)
{
    for (;;) {
        ssize_t n = recv(stream->fd, bytes, size, 0);

        if (n >= 0)
            return n;
        if (errno == EAGAIN) {
            if (wait_for(stream, POLLIN, err) == -1)
                return -1;
        } else if (errno != EINTR) {
            return err_set(err, ERR_RETRY, "%s", strerror(errno));
        }
    }
}

/* Whatever ends a stream that was up is the network's trouble. */
static int broken(struct err *err)
{
    if (err != NULL && err->kind != ERR_RETRY)
        err->kind = ERR_RETRY;
    return -1;
}

ssize_t tls_stream_read(struct tls_stream *stream, void *bytes, size_t size,
                        struct err *err)
{
    enum tls_progress progress;
    size_t n;

    if (stream->session == NULL)
        return read_clear(stream, bytes, size, err);
    do
        progress = tls_session_read(stream->session, bytes, size, &n, err);
    while (progress != TLS_PROGRESS_DONE && progress != TLS_PROGRESS_EOF &&
           wait_progress(stream, progress, err) == 0);
    if (progress == TLS_PROGRESS_EOF)
        return 0;
    return progress == TLS_PROGRESS_DONE ? (ssize_t)n : broken(err);
}

/* One step of writing; how far it came, or -1. */
static ssize_t write_some(struct tls_stream *stream, const char *bytes,
                          size_t length, struct err *err)
{
    enum tls_progress progress;
    size_t done = 0;
    ssize_t n;

    if (stream->session != NULL) {
        progress =
            tls_session_write(stream->session, bytes, length, &done, err);
        if (progress != TLS_PROGRESS_DONE &&
            wait_progress(stream, progress, err) == -1)
            return broken(err);
        return (ssize_t)done;
    }
    n = send(stream->fd, bytes, length, MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (errno == EINTR)
        return 0;
    if (errno == EAGAIN)
        return wait_for(stream, POLLOUT, err);
    return err_set(err, ERR_RETRY, "%s", strerror(errno));
}

int tls_stream_write(struct tls_stream *stream, const void *bytes,
                     size_t length, struct err *err)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n =
            write_some(stream, (const char *)bytes + done, length - done, err);

        if (n == -1)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int tls_stream_fd(const struct tls_stream *stream)
{
    return stream->fd;
}

void tls_stream_close(struct tls_stream **stream_ref)
{
    struct tls_stream *stream = *stream_ref;

    if (stream == NULL)
        return;
    *stream_ref = NULL;
    if (stream->session != NULL)
        tls_session_close_notify(stream->session);
    tls_session_free(&stream->session);
    if (stream->fd != -1)
        close(stream->fd);
    free(stream->host);
    free(stream);
}
