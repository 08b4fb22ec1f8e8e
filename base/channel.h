/*
 * Messages between our own processes: frames of a 4-byte big-endian length and
 * one JSON object, over a Unix stream socket, optionally with one file
 * descriptor (the length's highest bit then says so). A message larger than
 * CHANNEL_MESSAGE_MAX breaks the channel.
 */
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

#define CHANNEL_MESSAGE_MAX (16u << 20)

struct channel;

/* message is borrowed for the call; fd (-1 if none) is the callee's. */
typedef void channel_message_fn(void *ctx, json_t *message, int fd);
/* The peer is gone or broke the framing; called once, from the loop. The user
   then calls channel_free. */
typedef void channel_closed_fn(void *ctx);

/* fd is taken. */
struct channel *channel_new_take(struct loop *loop, int fd,
                                 channel_message_fn *on_message,
                                 channel_closed_fn *on_closed, void *ctx);
void channel_free(struct channel **channel); /* safe inside its callbacks */

/* Queue a message (taken: its reference is dropped). fd (-1 for none) is taken
   too and closed once sent. On a broken channel it is dropped. */
void channel_send_take(struct channel *channel, json_t *message, int fd);

/* Effective uid of the process at the other end. */
uid_t channel_peer_uid(const struct channel *channel);

/* The same frames for processes that block (worker, CLI). Return 0 or -1;
   channel_receive_blocking gives a new reference in *message_out, wait_ms -1
   for ever, ERR_RETRY when the peer is gone or silent. */
int channel_send_blocking(int fd, const json_t *message, struct err *err);
int channel_receive_blocking(int fd, int wait_ms, json_t **message_out,
                             struct err *err);

/* Connect to a Unix socket; the fd or -1 (ERR_RETRY). */
int channel_connect_unix(const char *path, struct err *err);
/* Bind and listen, replacing a stale socket file; the fd or -1 (ERR_SETUP). */
int channel_listen_unix(const char *path, mode_t mode, struct err *err);

#endif
