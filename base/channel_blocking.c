/*
 * The channel's frames for processes that have no loop, and the sockets that
 * channels are made on.
 */
#include "base/channel.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FD_FLAG 0x80000000u

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int send_all(int fd, const void *bytes, size_t length, struct err *err)
{
    const char *p = bytes;

    while (length > 0) {
        ssize_t n = send(fd, p, length, MSG_NOSIGNAL);

        if (n == -1 && errno == EAGAIN) {
            struct pollfd waiting = {fd, POLLOUT, 0};

            poll(&waiting, 1, -1);
        } else if (n == -1 && errno != EINTR) {
            return err_set(err, ERR_RETRY, "channel: %s", strerror(errno));
        } else if (n > 0) {
            p += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

int channel_send_blocking(int fd, const json_t *message, struct err *err)
{
    char *text = json_dumps(message, JSON_COMPACT);
    size_t length = text == NULL ? 0 : strlen(text);
    uint32_t head = htonl((uint32_t)length);
    int result;

    if (text == NULL || length > CHANNEL_MESSAGE_MAX) {
        free(text);
        return err_set(err, ERR_ITEM, "channel: message cannot be sent");
    }
    result = send_all(fd, &head, sizeof head, err);
    if (result == 0)
        result = send_all(fd, text, length, err);
    explicit_bzero(text, length);
    free(text);
    return result;
}

/* until_ms -1: for ever. */
static int wait_readable(int fd, int64_t until_ms, struct err *err)
{
    struct pollfd waiting = {fd, POLLIN, 0};
    int64_t left = -1;
    int n;

    if (until_ms != -1) {
        left = until_ms - now_ms();
        if (left < 0)
            left = 0;
    }
    n = poll(&waiting, 1, (int)left);
    if (n == 0)
        return err_set(err, ERR_RETRY, "channel: timed out");
    if (n == -1 && errno != EINTR)
        return err_set(err, ERR_RETRY, "channel: %s", strerror(errno));
    return 0;
}

/* Descriptors that come along are refused by having no room for them. */
static int receive_all(int fd, void *bytes, size_t length, int64_t until_ms,
                       struct err *err)
{
    char *p = bytes;

    while (length > 0) {
        ssize_t n;

        if (wait_readable(fd, until_ms, err) == -1)
            return -1;
        n = recv(fd, p, length, MSG_DONTWAIT);
        if (n == 0)
            return err_set(err, ERR_RETRY, "channel: closed by the peer");
        if (n == -1 && errno != EAGAIN && errno != EINTR)
            return err_set(err, ERR_RETRY, "channel: %s", strerror(errno));
        if (n > 0) {
            p += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

int channel_receive_blocking(int fd, int wait_ms, json_t **message_out,
                             struct err *err)
{
    int64_t until_ms = wait_ms < 0 ? -1 : now_ms() + wait_ms;
    uint32_t length;
    char *text;
    int result;

    *message_out = NULL;
    if (receive_all(fd, &length, sizeof length, until_ms, err) == -1)
        return -1;
    length = ntohl(length) & ~FD_FLAG;
    if (length > CHANNEL_MESSAGE_MAX)
        return err_set(err, ERR_PEER, "channel: message too long");
    text = mem_alloc(length);
    result = receive_all(fd, text, length, until_ms, err);
    if (result == 0) {
        *message_out = json_loadb(text, length, 0, NULL);
        if (!json_is_object(*message_out)) {
            json_decref(*message_out);
            *message_out = NULL;
            result = err_set(err, ERR_PEER, "channel: not a JSON object");
        }
    }
    explicit_bzero(text, length);
    free(text);
    return result;
}

static int unix_address(const char *path, struct sockaddr_un *out,
                        struct err *err)
{
    size_t length = strlen(path);

    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    if (length >= sizeof out->sun_path)
        return err_set(err, ERR_SETUP, "%s: too long for a socket", path);
    memcpy(out->sun_path, path, length);
    return 0;
}

static int unix_socket(struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return err_set(err, ERR_RETRY, "socket: %s", strerror(errno));
    return fd;
}

int channel_connect_unix(const char *path, struct err *err)
{
    struct sockaddr_un address;
    int fd;

    if (unix_address(path, &address, err) == -1)
        return -1;
    fd = unix_socket(err);
    if (fd == -1)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == -1) {
        err_set(err, ERR_RETRY, "%s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* A socket file that nobody listens on is left from a process that died. */
static int remove_stale(const char *path, struct err *err)
{
    struct stat found;
    int fd;

    if (lstat(path, &found) == -1 || !S_ISSOCK(found.st_mode))
        return 0;
    fd = channel_connect_unix(path, NULL);
    if (fd != -1) {
        close(fd);
        return err_set(err, ERR_SETUP, "%s: another process listens", path);
    }
    unlink(path);
    return 0;
}

int channel_listen_unix(const char *path, mode_t mode, struct err *err)
{
    struct sockaddr_un address;
    int fd;

    if (unix_address(path, &address, err) == -1 ||
        remove_stale(path, err) == -1)
        return -1;
    fd = unix_socket(err);
    if (fd == -1)
        return -1;
    /* nobody can connect before listen(), so the mode is right in time */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == -1 ||
        chmod(path, mode) == -1 || listen(fd, 128) == -1) {
        err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}
