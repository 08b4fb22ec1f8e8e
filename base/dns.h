/*
 * Host names to addresses without blocking the loop (c-ares; /etc/hosts is
 * honoured).
 */
#ifndef BASE_DNS_H
#define BASE_DNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/loop.h"

struct dns;
struct dns_query;

/* addresses: `count` of them, best first; borrowed for the call. On failure
   count is 0 and *err says why (ERR_RETRY). Called once, from the loop. */
typedef void dns_fn(void *ctx, const struct sockaddr_storage *addresses,
                    int count, const struct err *err);

struct dns *dns_new(struct loop *loop, struct err *err);
void dns_free(struct dns **dns);

/* A numeric address needs no server. The port is put into each address. */
struct dns_query *dns_resolve(struct dns *dns, const char *host, uint16_t port,
                              dns_fn *fn, void *ctx);
/* fn will not be called. To be called before dns_free for each query that runs;
   fn has ended its query by itself. */
void dns_cancel(struct dns_query **query);

/* Whether host is a numeric address; it is put into *address_out if so. */
bool dns_parse_numeric(const char *host, uint16_t port,
                       struct sockaddr_storage *address_out);

#endif
