/*
 * One TLS session over a non-blocking socket, for conn.c and tls_stream.c only:
 * every call says at once how far it came and what it waits for.
 */
#ifndef BASE_TLS_SESSION_H
#define BASE_TLS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tls.h"

struct tls_session;

enum tls_progress {
    TLS_PROGRESS_DONE,
    TLS_PROGRESS_WANT_READ,  /* again when the socket is readable */
    TLS_PROGRESS_WANT_WRITE, /* again when the socket is writable */
    TLS_PROGRESS_EOF,        /* the peer sends no more */
    TLS_PROGRESS_FAILED      /* *err says why */
};

/* fd is borrowed until tls_session_free; so are server and client. */
struct tls_session *tls_session_new_server(struct tls_server *server, int fd,
                                           struct err *err);
/* host is the name (sent as SNI) or address that the certificate must have. */
struct tls_session *tls_session_new_client(struct tls_client *client,
                                           const char *host, int fd,
                                           struct err *err);
void tls_session_free(struct tls_session **session);

/* ERR_SETUP when the peer's certificate is refused (with the reason), ERR_RETRY
   when the connection broke, ERR_PEER for anything else. */
enum tls_progress tls_session_handshake(struct tls_session *session,
                                        struct err *err);

/* *done_out bytes were moved on DONE. A write that wants something is to be
   repeated with the same bytes at its beginning. */
enum tls_progress tls_session_read(struct tls_session *session, void *bytes,
                                   size_t size, size_t *done_out,
                                   struct err *err);
enum tls_progress tls_session_write(struct tls_session *session,
                                    const void *bytes, size_t length,
                                    size_t *done_out, struct err *err);

/* Send close_notify: we send no more, the peer may. */
enum tls_progress tls_session_close_notify(struct tls_session *session);

/* Bytes are decrypted already that no event of the socket will announce. */
bool tls_session_has_pending(const struct tls_session *session);

const char *tls_session_version(const struct tls_session *session);
/* A literal: "TLS_AES_256_GCM_SHA384". */
const char *tls_session_cipher(const struct tls_session *session);
/* The name that a client asked for (SNI); NULL: none. Borrowed. */
const char *tls_session_name(const struct tls_session *session);

#endif
