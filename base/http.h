/*
 * A small HTTP server on a listening socket (TCP or Unix): requests come in
 * whole and bounded, each is answered once, now or later. The only door to
 * libevent's evhttp. No TLS, no files, no chunks out.
 */
#ifndef BASE_HTTP_H
#define BASE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

struct http_server;
struct http_request;

#define HTTP_NOBODY ((uid_t)-1)

/* r is to be answered by http_answer_take(), from inside the call or later. */
typedef void http_fn(void *ctx, struct http_request *r);

struct http_options {
    size_t headers_max_bytes;
    size_t body_max_bytes;
    unsigned idle_seconds; /* a connection that is silent so long is shut */
};

/* fd is taken. While the process has no descriptors left, connections wait in
   the kernel. NULL with ERR_SETUP. GET, HEAD and POST come through; any other
   method is refused here. */
struct http_server *http_serve_take(struct loop *loop, int fd,
                                    const struct http_options *options,
                                    http_fn *fn, void *ctx, struct err *err);
/* Unanswered requests are dropped. */
void http_free(struct http_server **server);

/* All borrowed until the answer. */
bool http_is_post(const struct http_request *r);
/* Decoded, without the query, with its first slash; "" if it is malformed. */
const char *http_path(const struct http_request *r);
/* The value in the query; NULL if there is none. */
const char *http_query(const struct http_request *r, const char *name);
/* The value of a header; NULL if there is none. */
const char *http_header(const struct http_request *r, const char *name);
const char *http_body(struct http_request *r, size_t *length_out);
/* The caller's uid on a Unix socket, else HTTP_NOBODY. */
uid_t http_peer_uid(const struct http_request *r);

/* The answer, copied. *r is freed and NULL, also if the client has gone. */
void http_answer_take(struct http_request **r, int status, const char *type,
                      const char *body, size_t length);

#endif
