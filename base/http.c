#include "base/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop_inside.h"
#include "base/mem.h"

#define PAUSE_MS 200

struct http_server {
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    struct timer *pause; /* runs while no more are accepted */
    http_fn *fn;
    void *ctx;
    struct http_request *requests;
    struct http_server *next; /* of this process */
};

struct http_request {
    struct http_server *server; /* NULL: it has been freed */
    struct http_request *next;
    struct evhttp_request *request; /* NULL: the client has gone */
    struct evkeyvalq query;
    char *path; /* owned */
    uid_t uid;
};

static struct http_server *servers;

/* --- no more connections than there are descriptors for */

static void on_pause_over(void *ctx)
{
    struct http_server *s = ctx;

    evconnlistener_enable(evhttp_bound_socket_get_listener(s->socket));
}

/* No file descriptors left: libevent would ask again at once, for ever. Its ctx
   is evhttp's own. */
static void on_accept_error(struct evconnlistener *listener, void *ctx)
{
    struct http_server *s = servers;

    (void)ctx;
    while (s && evhttp_bound_socket_get_listener(s->socket) != listener)
        s = s->next;
    if (s == NULL)
        return;
    evconnlistener_disable(listener);
    timer_start(s->pause, PAUSE_MS);
}

/* --- requests */

static void unlink_request(struct http_request *r)
{
    struct http_request **at = &r->server->requests;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->server = NULL;
}

static void on_gone(struct evhttp_connection *connection, void *ctx)
{
    struct http_request *r = ctx;

    (void)connection;
    r->request = NULL; /* libevent frees it */
}

static uid_t uid_of(struct evhttp_connection *connection)
{
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    int domain = 0;
    socklen_t domain_length = sizeof(domain);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_length) == -1 ||
        domain != AF_UNIX ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == -1)
        return HTTP_NOBODY;
    return peer.uid;
}

static void on_request(struct evhttp_request *request, void *ctx)
{
    struct http_server *s = ctx;
    struct http_request *r = mem_alloc(sizeof(*r));
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    struct evhttp_connection *connection =
        evhttp_request_get_connection(request);
    size_t length = 0;

    r->server = s;
    r->request = request;
    r->next = s->requests;
    s->requests = r;
    TAILQ_INIT(&r->query);
    if (query && evhttp_parse_query_str(query, &r->query) == -1)
        evhttp_clear_headers(&r->query);
    r->path = path ? evhttp_uridecode(path, 0, &length) : NULL;
    if (r->path && strlen(r->path) != length) {
        free(r->path); /* a NUL in it */
        r->path = NULL;
    }
    r->uid = uid_of(connection);
    evhttp_connection_set_closecb(connection, on_gone, r);
    s->fn(s->ctx, r);
}

bool http_is_post(const struct http_request *r)
{
    return evhttp_request_get_command(r->request) == EVHTTP_REQ_POST;
}

const char *http_path(const struct http_request *r)
{
    return r->path ? r->path : "";
}

const char *http_query(const struct http_request *r, const char *name)
{
    return evhttp_find_header(&r->query, name);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(r->request),
                              name);
}

const char *http_body(struct http_request *r, size_t *length_out)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(r->request);

    *length_out = evbuffer_get_length(body);
    return *length_out ? (const char *)evbuffer_pullup(body, -1) : "";
}

uid_t http_peer_uid(const struct http_request *r)
{
    return r->uid;
}

void http_answer_take(struct http_request **request, int status,
                      const char *type, const char *body, size_t length)
{
    struct http_request *r = *request;

    *request = NULL;
    if (r->request) {
        struct evkeyvalq *headers =
            evhttp_request_get_output_headers(r->request);
        struct evbuffer *out = evbuffer_new();

        evhttp_connection_set_closecb(evhttp_request_get_connection(r->request),
                                      NULL, NULL);
        evhttp_add_header(headers, "Content-Type", type);
        evhttp_add_header(headers, "Cache-Control", "no-store");
        evbuffer_add(out, body, length);
        evhttp_send_reply(r->request, status, NULL, out);
        evbuffer_free(out);
    }
    if (r->server)
        unlink_request(r);
    evhttp_clear_headers(&r->query);
    free(r->path);
    free(r);
}

/* --- the server */

struct http_server *http_serve_take(struct loop *loop, int fd,
                                    const struct http_options *options,
                                    http_fn *fn, void *ctx, struct err *err)
{
    struct http_server *s = mem_alloc(sizeof(*s));

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    s->fn = fn;
    s->ctx = ctx;
    s->http = evhttp_new(loop_event_base(loop));
    evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD |
                                            EVHTTP_REQ_POST);
    evhttp_set_max_headers_size(s->http, (ssize_t)options->headers_max_bytes);
    evhttp_set_max_body_size(s->http, (ssize_t)options->body_max_bytes);
    evhttp_set_timeout(s->http, (int)options->idle_seconds);
    evhttp_set_gencb(s->http, on_request, s);
    s->socket = evhttp_accept_socket_with_handle(s->http, fd);
    if (s->socket == NULL) {
        close(fd);
        evhttp_free(s->http);
        free(s);
        err_set(err, ERR_SETUP, "the socket cannot be served");
        return NULL;
    }
    s->pause = timer_new(loop, on_pause_over, s);
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(s->socket),
                                on_accept_error);
    s->next = servers;
    servers = s;
    return s;
}

void http_free(struct http_server **server)
{
    struct http_server *s = *server;

    if (s == NULL)
        return;
    *server = NULL;
    for (struct http_server **at = &servers; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    while (s->requests) /* whoever has them answers them into nothing */
        unlink_request(s->requests);
    evhttp_free(s->http);
    timer_free(&s->pause);
    free(s);
}
