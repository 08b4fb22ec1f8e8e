/*
 * What all sessions of the process share, and what they must tell it. Filled by
 * smtp.c, borrowed by the sessions.
 */
#ifndef SMTP_PROXY_SITE_H
#define SMTP_PROXY_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "account/directory.h"
#include "base/dns.h"
#include "base/loop.h"
#include "base/tls.h"
#include "proto/mail_url.h"
#include "smtp-proxy/journal.h"
#include "smtp-proxy/strangers.h"

struct smtp;
struct transaction;

struct site {
    struct loop *loop;
    struct dns *dns;
    struct tls_server *tls_server; /* may be NULL */
    struct tls_client *tls_client;
    struct directory *directory;
    struct journal *journal;
    struct strangers *strangers;
    struct mail_url local_lmtp;
    char *node;
    uint64_t size_max_bytes;
    struct smtp *smtp;
    bool is_draining;
};

/* May one more session turn to this hop? A hop that does not answer may tie up
   half of all sessions, not all. */
bool site_admits(const struct site *site, const struct mail_url *hop);

/* Is another session waiting for a hop's verdict on the same message, for
   a recipient that this one has too? */
bool site_is_under_way(const struct site *site,
                       const struct transaction *asking);

/* A message that was on its way has ended: a hold may have waited for it. */
void site_message_ended(const struct site *site);

#endif
