#include "base/channel.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_SIZE   4
#define FD_FLAG     0x80000000u /* in the length: a descriptor belongs to it */
#define FDS_WAITING 16          /* received ahead of their frames */
#define QUEUE_MAX   (512u << 20)
#define READ_SIZE   (64u << 10)

/* A descriptor to be sent with the byte at this position of the stream. */
struct outgoing_fd {
    uint64_t position;
    int fd; /* owned */
};

struct channel {
    struct loop *loop; /* borrowed */
    int fd;            /* owned; -1 once closed */
    struct watch *watch;
    channel_message_fn *on_message;
    channel_closed_fn *on_closed;
    void *ctx;
    uid_t peer_uid;

    struct buf input;
    int fds_in[FDS_WAITING]; /* owned */
    int fds_in_count;

    struct buf output;
    uint64_t sent;               /* position of output.bytes[0] in the stream */
    struct outgoing_fd *fds_out; /* owned */
    size_t fds_out_count;

    bool is_flush_due; /* channel_on_turn_end is asked for */
    bool is_broken;    /* nothing more is sent */
    bool is_over;      /* on_closed has been called or is about to be */
    bool is_freed;
};

static void put_head(unsigned char head[HEAD_SIZE], uint32_t value)
{
    head[0] = (unsigned char)(value >> 24);
    head[1] = (unsigned char)(value >> 16);
    head[2] = (unsigned char)(value >> 8);
    head[3] = (unsigned char)value;
}

static uint32_t get_head(const void *bytes)
{
    const unsigned char *p = bytes;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static json_t *parse_object(const char *bytes, size_t length)
{
    json_t *message = json_loadb(bytes, length, 0, NULL);

    if (message != NULL && !json_is_object(message)) {
        json_decref(message);
        message = NULL;
    }
    return message;
}

static int take_fd(struct channel *c)
{
    int fd;

    if (c->fds_in_count == 0)
        return -1;
    fd = c->fds_in[0];
    c->fds_in_count--;
    memmove(c->fds_in, c->fds_in + 1,
            (size_t)c->fds_in_count * sizeof *c->fds_in);
    return fd;
}

/* 1: a message was given to the user; 0: not all there yet; -1: nonsense. */
static int deliver_one(struct channel *c)
{
    uint32_t head, length;
    json_t *message;
    int fd = -1;

    if (c->input.used < HEAD_SIZE)
        return 0;
    head = get_head(c->input.bytes);
    length = head & ~FD_FLAG;
    if (length > CHANNEL_MESSAGE_MAX)
        return -1;
    if (c->input.used < HEAD_SIZE + (size_t)length)
        return 0;
    message = parse_object(c->input.bytes + HEAD_SIZE, length);
    if (message == NULL)
        return -1;
    if (head & FD_FLAG) {
        fd = take_fd(c);
        if (fd == -1) {
            json_decref(message);
            return -1;
        }
    }
    buf_consume(&c->input, HEAD_SIZE + (size_t)length);
    c->on_message(c->ctx, message, fd);
    json_decref(message);
    return 1;
}

static void keep_fds(struct channel *c, struct msghdr *message)
{
    struct cmsghdr *part;

    for (part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        size_t count, i;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (c->fds_in_count < FDS_WAITING)
                c->fds_in[c->fds_in_count++] = fd;
            else
                close(fd);
        }
    }
}

/* What is read is also what may carry descriptors, so each read looks. */
static ssize_t receive_some(struct channel *c)
{
    static char scratch[READ_SIZE];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    struct iovec part = {scratch, sizeof scratch};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n == -1)
        return -1;
    keep_fds(c, &message);
    if (n > 0 && buf_append(&c->input, scratch, (size_t)n) == -1) {
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}

static void channel_break(struct channel *c)
{
    c->is_broken = true;
    watch_free(&c->watch);
    if (c->is_over)
        return;
    c->is_over = true;
    c->on_closed(c->ctx);
}

static void channel_read(struct channel *c)
{
    ssize_t n = receive_some(c);
    int delivered = 1;

    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    while (n > 0 && delivered == 1 && !c->is_freed)
        delivered = deliver_one(c);
    if (c->is_freed)
        return;
    if (n <= 0 || delivered == -1)
        channel_break(c);
    else if (c->input.used == 0)
        buf_release(&c->input);
}

/* How many bytes may go with one call, and the descriptor that goes along. */
static size_t next_stretch(const struct channel *c, int *fd_out)
{
    size_t first = 0;

    *fd_out = -1;
    if (c->fds_out_count > 0 && c->fds_out[0].position == c->sent) {
        *fd_out = c->fds_out[0].fd;
        first = 1;
    }
    if (c->fds_out_count > first)
        return (size_t)(c->fds_out[first].position - c->sent);
    return c->output.used;
}

static ssize_t send_stretch(struct channel *c, size_t length, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {c->output.bytes, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd != -1) {
        struct cmsghdr *head;

        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    return sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drop_fds_out(struct channel *c, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        close(c->fds_out[i].fd);
    c->fds_out_count -= count;
    if (c->fds_out_count > 0) /* else there may be no memory to move */
        memmove(c->fds_out, c->fds_out + count,
                c->fds_out_count * sizeof *c->fds_out);
}

static void drop_output(struct channel *c)
{
    drop_fds_out(c, c->fds_out_count);
    free(c->fds_out);
    c->fds_out = NULL;
    buf_wipe(&c->output);
}

static void channel_write(struct channel *c)
{
    while (c->output.used > 0 && !c->is_broken) {
        int fd;
        size_t length = next_stretch(c, &fd);
        ssize_t n = send_stretch(c, length, fd);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno == EAGAIN)
            break;
        if (n == -1) {
            /* what the peer said last may still be there to be read, and the
               end of that is what the user is told */
            c->is_broken = true;
            break;
        }
        if (fd != -1)
            drop_fds_out(c, 1);
        c->sent += (uint64_t)n;
        buf_consume(&c->output, (size_t)n);
    }
    if (c->is_broken || c->output.used == 0)
        drop_output(c);
    if (c->watch != NULL)
        watch_want(c->watch, true, c->output.used > 0);
}

static void channel_on_turn_end(void *ctx)
{
    struct channel *c = ctx;

    c->is_flush_due = false;
    if (!c->is_freed)
        channel_write(c);
}

static void channel_on_event(int fd, bool can_read, bool can_write, void *ctx)
{
    struct channel *c = ctx;

    (void)fd;
    if (can_write)
        channel_write(c);
    if (can_read && !c->is_freed)
        channel_read(c);
}

/* One turn's messages leave in one call. */
static void flush_later(struct channel *c)
{
    if (c->is_flush_due)
        return;
    c->is_flush_due = true;
    loop_defer(c->loop, channel_on_turn_end, c);
}

static void queue_fd(struct channel *c, int fd)
{
    c->fds_out =
        mem_grow(c->fds_out, (c->fds_out_count + 1) * sizeof *c->fds_out);
    c->fds_out[c->fds_out_count].position = c->sent + c->output.used;
    c->fds_out[c->fds_out_count].fd = fd;
    c->fds_out_count++;
}

void channel_send_take(struct channel *c, json_t *message, int fd)
{
    unsigned char head[HEAD_SIZE];
    char *text = json_dumps(message, JSON_COMPACT);
    size_t length = text == NULL ? 0 : strlen(text);

    json_decref(message);
    if (text == NULL || length > CHANNEL_MESSAGE_MAX ||
        length + HEAD_SIZE > QUEUE_MAX - c->output.used) {
        /* a peer that has read nothing for so long is as good as gone; the end
           of the input then tells the user */
        c->is_broken = true;
        shutdown(c->fd, SHUT_RDWR);
    }
    if (c->is_broken) {
        if (fd != -1)
            close(fd);
    } else {
        if (fd != -1)
            queue_fd(c, fd);
        put_head(head, (uint32_t)length | (fd != -1 ? FD_FLAG : 0));
        buf_append(&c->output, head, sizeof head);
        buf_append(&c->output, text, length);
    }
    if (text != NULL)
        explicit_bzero(text, length);
    free(text);
    flush_later(c);
}

struct channel *channel_new_take(struct loop *loop, int fd,
                                 channel_message_fn *on_message,
                                 channel_closed_fn *on_closed, void *ctx)
{
    struct channel *c = mem_alloc(sizeof *c);
    struct ucred peer = {0};
    socklen_t size = sizeof peer;

    c->loop = loop;
    c->fd = fd;
    c->on_message = on_message;
    c->on_closed = on_closed;
    c->ctx = ctx;
    c->peer_uid = (uid_t)-1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        c->peer_uid = peer.uid;
    buf_init(&c->input, HEAD_SIZE + CHANNEL_MESSAGE_MAX + READ_SIZE);
    buf_init(&c->output, QUEUE_MAX);
    c->watch = watch_new(loop, fd, channel_on_event, c);
    watch_want(c->watch, true, false);
    return c;
}

static void channel_on_freed(void *ctx)
{
    free(ctx);
}

void channel_free(struct channel **channel)
{
    struct channel *c = *channel;

    if (c == NULL)
        return;
    *channel = NULL;
    c->is_freed = true;
    c->is_broken = true;
    watch_free(&c->watch);
    drop_output(c);
    while (c->fds_in_count > 0)
        close(take_fd(c));
    buf_wipe(&c->input);
    close(c->fd);
    c->fd = -1;
    loop_defer(c->loop, channel_on_freed, c);
}

uid_t channel_peer_uid(const struct channel *c)
{
    return c->peer_uid;
}
