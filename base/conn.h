/*
 * One TCP peer on a loop, with or without TLS: the only object that protocol
 * dialogues speak through. Owns its socket, its SSL and its buffers; leaves the
 * meaning of the bytes to its user.
 */
#ifndef BASE_CONN_H
#define BASE_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/tls.h"

#define CONN_ADDRESS_SIZE 46 /* of a numeric address */

struct conn;
struct dns;

/* All are called from the loop, never from inside a conn_ call; each may be
   NULL. After on_end nothing more is called; the user then calls conn_free. */
struct conn_ops {
    /* connected, and TLS is up for TLS_IMPLICIT; or after conn_start_tls, TLS
       is up */
    void (*on_ready)(void *ctx);
    /* conn_input() has grown, or the peer has sent EOF (conn_is_eof()) and
       everything before it has been seen */
    void (*on_input)(void *ctx);
    /* the output queue has become empty */
    void (*on_drained)(void *ctx);
    /* error or deadline (err->kind is ERR_RETRY, ERR_PEER or ERR_SETUP) */
    void (*on_end)(void *ctx, const struct err *err);
    /* for those who pass bytes on: when set, what arrives is given here,
       borrowed for the call, and never kept in conn_input(); only EOF is still
       told by on_input */
    void (*on_bytes)(void *ctx, const char *bytes, size_t length);
};

/* Serve an accepted socket (taken). tls may be NULL; it is borrowed for the
   life of the conn and used at once when mode is TLS_IMPLICIT (on_ready follows
   in every mode). input_max bounds conn_input(). */
struct conn *conn_accept_take(struct loop *loop, int fd, enum tls_mode mode,
                              struct tls_server *tls, size_t input_max,
                              const struct conn_ops *ops, void *ctx);

struct conn_target {
    const char *host; /* name or address */
    uint16_t port;
    enum tls_mode mode;     /* TLS_STARTTLS connects in clear */
    struct tls_client *tls; /* borrowed; NULL only for TLS_NONE */
    struct dns *dns;        /* borrowed; resolver for names */
    int wait_ms;            /* for resolving, connecting and shaking hands */
};

/* Connect; on_ready or on_end follows. The strings of *target are copied. */
struct conn *conn_connect(struct loop *loop, const struct conn_target *target,
                          size_t input_max, const struct conn_ops *ops,
                          void *ctx);

/* Hand the conn to another user: later events go to ops and ctx. What is in
   conn_input() already, and an EOF told already, are not told again. */
void conn_set_user(struct conn *c, const struct conn_ops *ops, void *ctx);

/* Shake hands now (server side with its tls_server, client side verifying
   target->host); on_ready follows. What is in conn_input() when this is called
   was sent in clear and is thrown away; output must be drained into the socket
   first, which this call takes care of. */
void conn_start_tls(struct conn *c);

/* Bytes received and not yet consumed (buf_consume). At input_max reading
   stops until some are consumed. */
struct buf *conn_input(struct conn *c);
bool conn_is_eof(const struct conn *c);
bool conn_is_tls(const struct conn *c);
/* "TLSv1.3", or "" in clear. */
const char *conn_tls_version(const struct conn *c);
/* The same of the cipher, a literal; and of the name that the client asked for,
   borrowed, as he wrote it. */
const char *conn_tls_cipher(const struct conn *c);
const char *conn_tls_name(const struct conn *c);

/* Queue bytes for sending. Never fails; a dead peer is told by on_end. The user
   who streams watches conn_output_bytes() and on_drained. */
void conn_write(struct conn *c, const void *bytes, size_t length);
void conn_printf(struct conn *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
size_t conn_output_bytes(const struct conn *c);
/* The same at once instead of at the end of the turn: for bytes passed on in
   large pieces. Only what the socket does not take is queued (on_drained
   follows only then). */
void conn_forward(struct conn *c, const void *bytes, size_t length);

/* Stop and go on reading from the socket. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);

/* on_end with ERR_RETRY "timed out" if the peer sends nothing for so long;
   counted anew from this call and each arrival. 0: none. */
void conn_set_idle_ms(struct conn *c, int64_t idle_ms);
/* on_end at that distance from now whatever happens. 0: none. */
void conn_set_deadline_ms(struct conn *c, int64_t wait_ms);

/* Send what is queued, then shut our sending side (close_notify and FIN). */
void conn_half_close(struct conn *c);

/* Send what is queued, shut our side, wait for the peer to close (all in 5 s at
   most, and for 1 MB of what he still sends), close; no further callback. *c is
   NULL at once. */
void conn_finish(struct conn **c);
/* Close at once; no further callback. Freed after this turn of the loop. */
void conn_free(struct conn **c);

/* Numeric address and port of the peer. */
const char *conn_peer_address(const struct conn *c);
uint16_t conn_peer_port(const struct conn *c);
/* Our own end: the port, and the address in out ("" and 0 if unknown). */
uint16_t conn_own_address(const struct conn *c, char out[CONN_ADDRESS_SIZE]);
/* Bytes of payload received so far. */
uint64_t conn_bytes_in(const struct conn *c);

#endif
