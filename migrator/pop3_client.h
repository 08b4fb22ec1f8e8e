/*
 * A small blocking POP3 session for workers: log in, list, quit. It has no way
 * to fetch or delete a message, so it cannot change a mailbox.
 */
#ifndef MIGRATOR_POP3_CLIENT_H
#define MIGRATOR_POP3_CLIENT_H

#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"
#include "proto/mail_url.h"

struct pop3_client;

struct pop3_login {
    const struct mail_url *url;
    const char *ca_file;     /* "" : the system's */
    const char *tls_minimum; /* "" : 1.2 */
    const char *user;
    const char *master_user; /* "" : user logs in himself */
    const struct secret *password;
};

/* Connect, STLS where the URL says so, USER and PASS (with a master user AUTH
   PLAIN). ERR_RETRY: network, or the box is in use; ERR_DENIED: refused;
   ERR_SETUP: certificate, no STLS, or a password that POP3 cannot carry. */
int pop3_client_open(const struct pop3_login *login, struct pop3_client **out,
                     struct err *err);

/* One line of a listing, "NUMBER REST", number >= 1; rest is borrowed. -1 ends
   the listing and the session. */
typedef int pop3_line_fn(void *ctx, uint32_t number, const char *rest,
                         struct err *err);
/* "UIDL" or "LIST". ERR_ITEM: the server refuses it; the session goes on.
   Lines that are no listing are skipped. */
int pop3_client_list(struct pop3_client *client, const char *command,
                     pop3_line_fn *fn, void *ctx, struct err *err);

/* QUIT if it still works, then close. */
void pop3_client_close(struct pop3_client **client);

#endif
