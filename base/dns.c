#include "base/dns.h"

#include "base/log.h"
#include "base/mem.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESSES_MAX 16
#define TRY_MS        2000
#define TRIES         2

struct dns_socket {
    int fd; /* borrowed from c-ares */
    struct watch *watch;
    struct dns_socket *next;
};

struct dns {
    struct loop *loop; /* borrowed */
    ares_channel channel;
    struct timer *timer; /* c-ares' next time-out */
    struct dns_socket *sockets;
};

struct dns_query {
    struct loop *loop; /* borrowed */
    dns_fn *fn;        /* NULL once cancelled */
    void *ctx;
    char *host; /* owned */
    uint16_t port;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    int count;
    struct err err;
};

static void dns_set_timer(struct dns *dns)
{
    struct timeval wait, *next = ares_timeout(dns->channel, NULL, &wait);

    if (next == NULL)
        timer_cancel(dns->timer);
    else
        timer_start(dns->timer, next->tv_sec * 1000 + next->tv_usec / 1000 + 1);
}

static void dns_on_timer(void *ctx)
{
    struct dns *dns = ctx;

    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    dns_set_timer(dns);
}

static void dns_on_event(int fd, bool can_read, bool can_write, void *ctx)
{
    struct dns *dns = ctx;

    ares_process_fd(dns->channel, can_read ? fd : ARES_SOCKET_BAD,
                    can_write ? fd : ARES_SOCKET_BAD);
    dns_set_timer(dns);
}

/* c-ares says which of its sockets it waits for; neither means closing. */
static void dns_on_socket(void *ctx, ares_socket_t fd, int read, int write)
{
    struct dns *dns = ctx;
    struct dns_socket **at = &dns->sockets, *s;

    while (*at != NULL && (*at)->fd != fd)
        at = &(*at)->next;
    s = *at;
    if (!read && !write) {
        if (s != NULL) {
            *at = s->next;
            watch_free(&s->watch);
            free(s);
        }
        return;
    }
    if (s == NULL) {
        s = mem_alloc(sizeof *s);
        s->fd = fd;
        s->watch = watch_new(dns->loop, fd, dns_on_event, dns);
        s->next = dns->sockets;
        dns->sockets = s;
    }
    watch_want(s->watch, read != 0, write != 0);
}

struct dns *dns_new(struct loop *loop, struct err *err)
{
    struct dns *dns = mem_alloc(sizeof *dns);
    char lookups[] = "fb"; /* /etc/hosts, then the servers */
    struct ares_options options = {.timeout = TRY_MS,
                                   .tries = TRIES,
                                   .lookups = lookups,
                                   .sock_state_cb = dns_on_socket,
                                   .sock_state_cb_data = dns};
    int status = ares_library_init(ARES_LIB_INIT_ALL);

    dns->loop = loop;
    if (status == ARES_SUCCESS)
        status =
            ares_init_options(&dns->channel, &options,
                              ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                  ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) {
        free(dns);
        err_set(err, ERR_SETUP, "resolver: %s", ares_strerror(status));
        return NULL;
    }
    dns->timer = timer_new(loop, dns_on_timer, dns);
    return dns;
}

void dns_free(struct dns **dns_ref)
{
    struct dns *dns = *dns_ref;

    if (dns == NULL)
        return;
    *dns_ref = NULL;
    ares_destroy(dns->channel); /* closes its sockets by dns_on_socket */
    timer_free(&dns->timer);
    free(dns);
    ares_library_cleanup();
}

static void query_on_done(void *ctx)
{
    struct dns_query *query = ctx;

    if (query->fn != NULL)
        query->fn(query->ctx, query->addresses, query->count, &query->err);
    free(query->host);
    free(query);
}

static void add_address(struct dns_query *query,
                        const struct ares_addrinfo_node *node)
{
    struct sockaddr_storage *address = &query->addresses[query->count];

    if (query->count == ADDRESSES_MAX ||
        node->ai_addrlen > (ares_socklen_t)sizeof *address)
        return;
    memcpy(address, node->ai_addr, node->ai_addrlen);
    if (node->ai_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(query->port);
    else if (node->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(query->port);
    else
        return;
    query->count++;
}

/* c-ares calls this from inside ares_getaddrinfo() too, hence the deferring. */
static void query_on_answer(void *ctx, int status, int timeouts,
                            struct ares_addrinfo *result)
{
    struct dns_query *query = ctx;
    struct ares_addrinfo_node *node;

    (void)timeouts;
    for (node = result == NULL ? NULL : result->nodes; node != NULL;
         node = node->ai_next)
        add_address(query, node);
    ares_freeaddrinfo(result);
    if (status == ARES_EDESTRUCTION)
        query->fn = NULL;
    if (query->count == 0)
        err_set(&query->err, ERR_RETRY, "%s: %s", log_safe(query->host),
                ares_strerror(status == ARES_SUCCESS ? ARES_ENODATA : status));
    loop_defer(query->loop, query_on_done, query);
}

struct dns_query *dns_resolve(struct dns *dns, const char *host, uint16_t port,
                              dns_fn *fn, void *ctx)
{
    struct dns_query *query = mem_alloc(sizeof *query);
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
                                        .ai_socktype = SOCK_STREAM};

    query->loop = dns->loop;
    query->fn = fn;
    query->ctx = ctx;
    query->host = mem_dup_text(host);
    query->port = port;
    if (dns_parse_numeric(host, port, &query->addresses[0])) {
        query->count = 1;
        loop_defer(dns->loop, query_on_done, query);
        return query;
    }
    ares_getaddrinfo(dns->channel, host, NULL, &hints, query_on_answer, query);
    dns_set_timer(dns);
    return query;
}

void dns_cancel(struct dns_query **query)
{
    if (*query == NULL)
        return;
    (*query)->fn = NULL; /* freed when c-ares lets go of it */
    *query = NULL;
}

bool dns_parse_numeric(const char *host, uint16_t port,
                       struct sockaddr_storage *address_out)
{
    struct sockaddr_in *four = (struct sockaddr_in *)address_out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address_out;

    memset(address_out, 0, sizeof *address_out);
    if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        return true;
    }
    return false;
}
