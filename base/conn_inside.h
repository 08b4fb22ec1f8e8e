/*
 * What a conn is made of; for conn.c, conn_io.c and conn_connect.c only.
 *
 *   RESOLVE -> CONNECT -> SHAKE (TLS_IMPLICIT) -> OPEN
 *   OPEN -> CLEAR_OUT -> SHAKE -> OPEN       conn_start_tls
 *   OPEN -> FINISH                           conn_finish: last bytes, then gone
 *   any -> END                               error, time-out
 */
#ifndef BASE_CONN_INSIDE_H
#define BASE_CONN_INSIDE_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/conn.h"
#include "base/dns.h"
#include "base/tls_session.h"

enum conn_state {
    CS_RESOLVE,
    CS_CONNECT,
    CS_SHAKE,
    CS_OPEN,
    CS_CLEAR_OUT,
    CS_FINISH,
    CS_END,
    CS_COUNT
};

/* Only a client has one. */
struct conn_dial {
    char *host; /* owned */
    uint16_t port;
    enum tls_mode mode;
    struct tls_client *tls;  /* borrowed */
    struct dns_query *query; /* while resolving */
    int64_t wait_ms;
    struct sockaddr_storage *addresses; /* owned; while connecting */
    int address_count;
    int address_next;
    int64_t until_ms; /* for this address */
};

struct conn {
    struct loop *loop; /* borrowed */
    const struct conn_ops *ops;
    void *ctx;
    enum conn_state state;
    int fd; /* owned; -1 while there is none */
    struct watch *watch;
    struct timer *timer;         /* there once a limit is set */
    struct tls_session *session; /* owned; NULL in clear */
    struct tls_server *server;   /* borrowed; NULL for a client */
    struct conn_dial *dial;      /* owned; NULL for a server */
    struct buf input;
    struct buf output;
    struct err *err;           /* owned; why it ended */
    struct survivor *survivor; /* from conn_finish on */

    int64_t idle_ms;
    int64_t heard_ms;    /* when something arrived last */
    int64_t deadline_ms; /* these three: 0 for none */
    int64_t setup_until_ms;
    int64_t finish_until_ms;
    size_t linger_bytes; /* thrown away since our FIN */

    uint64_t bytes_in;
    char peer_address[INET6_ADDRSTRLEN];
    uint16_t peer_port;

    bool is_review_due; /* conn_on_review is asked for */
    bool is_ready_due;  /* on_ready has to be called */
    bool is_end_told;
    bool is_freed;
    bool is_paused;
    bool is_eof;
    bool is_half_closing; /* our side is to be shut when output is empty */
    bool is_half_closed;
    bool is_write_broken;  /* the peer takes no more */
    bool read_waits_write; /* TLS has to send before it can receive */
    bool write_waits_read; /* and the other way round */
    bool shake_waits_write;
};

/* conn.c */
void conn_enter(struct conn *c, enum conn_state next);
/* Ends it; on_end follows from the loop. */
void conn_fail(struct conn *c, enum err_kind kind, const char *text);
void conn_review_later(struct conn *c);
void conn_set_wants(struct conn *c);
void conn_set_timer(struct conn *c);
void conn_watch_fd(struct conn *c, int fd);
/* The socket is connected: what comes next by the mode. */
void conn_established(struct conn *c, enum tls_mode mode);
void conn_destroy(struct conn *c);

/* conn_connect.c */
void conn_dial_start(struct conn *c, const struct conn_target *target);
void conn_dial_free(struct conn_dial **dial);
void conn_dial_on_writable(struct conn *c);
void conn_dial_on_timeout(struct conn *c); /* this address took too long */

/* conn_io.c; each may call the user, who may free: look at c->is_freed */
bool conn_may_read(const struct conn *c);
void conn_read(struct conn *c);
void conn_flush(struct conn *c);
void conn_shake(struct conn *c);
void conn_linger(struct conn *c);
/* Writes what the socket takes; fewer than length if it is full or broken. */
size_t conn_write_now(struct conn *c, const char *bytes, size_t length);

#endif
