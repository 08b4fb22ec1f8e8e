/*
 * TLS contexts and the blocking stream of the workers. The only OpenSSL door
 * besides conn.c and account/seal.c.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum tls_mode { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT };

struct tls_server; /* our certificate and key */
struct tls_client; /* what we trust */

/* minimum: "1.0", "1.1", "1.2" or "1.3" (NULL is "1.2"). PEM texts are
   borrowed for the call. */
struct tls_server *tls_server_new(const char *certificate_pem,
                                  const char *key_pem, const char *minimum,
                                  struct err *err);
void tls_server_free(struct tls_server **tls);

/* Trusts the system's authorities, and those of ca_file (may be NULL) besides.
   Certificate chain and host name (or IP address) are always verified. */
struct tls_client *tls_client_new(const char *ca_file, const char *minimum,
                                  struct err *err);
void tls_client_free(struct tls_client **tls);

/*
 * A blocking TCP connection with optional TLS, for workers only.
 */
struct tls_stream;

struct tls_target {
    const char *host; /* name or address; verified against the certificate */
    uint16_t port;
    enum tls_mode mode;
};

/* Connect (trying each address of the host) and, for TLS_IMPLICIT, shake hands.
   wait_ms bounds connecting and from then on each single read or write. tls is
   borrowed until tls_stream_free and may be NULL for TLS_NONE. NULL with
   ERR_RETRY (network) or ERR_SETUP (certificate refused). */
struct tls_stream *tls_stream_open(const struct tls_target *target,
                                   struct tls_client *tls, int wait_ms,
                                   struct err *err);

/* Shake hands on a stream that is in clear so far (after STARTTLS/STLS). The
   caller must have nothing unread buffered. */
int tls_stream_start(struct tls_stream *stream, struct err *err);

/* At least one byte; 0 at the end of the stream; -1 with ERR_RETRY. */
ssize_t tls_stream_read(struct tls_stream *stream, void *bytes, size_t size,
                        struct err *err);
/* All of it, or -1 with ERR_RETRY. */
int tls_stream_write(struct tls_stream *stream, const void *bytes,
                     size_t length, struct err *err);
int tls_stream_fd(const struct tls_stream *stream);
void tls_stream_close(struct tls_stream **stream);

#endif
