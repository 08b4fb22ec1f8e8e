/*
 * What the path of a RCPT names: the mailbox to look up, and what the next hop
 * is told. Pure.
 */
#ifndef SMTP_PROXY_ADDRESS_H
#define SMTP_PROXY_ADDRESS_H

#include <stdbool.h>

#include "db/states.h"
#include "proto/smtp.h"

struct address {
    char typed[SMTP_PATH_MAX];    /* for the look-up: local part unquoted */
    char hop_path[SMTP_PATH_MAX]; /* for the hop: as given */
    char canonical[ADDRESS_MAX];  /* without case and tag */
};

/* False for what names nobody here: an address literal, no domain (but for
   postmaster, RFC 5321 4.5.1, who is the one of the domain that node is in),
   and local parts that a server behind us might route onwards ("!", "%", "@")
   or that can be no user. */
bool address_read(const struct smtp_path *path, const char *node,
                  struct address *out);

#endif
