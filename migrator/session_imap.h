/*
 * A libetpan session over our own TLS, logged in by our own dialogue: greeting,
 * STARTTLS, LOGIN or AUTHENTICATE PLAIN are spoken here, so that refusals are
 * told apart by their response codes and passwords stay out of the library.
 */
#ifndef MIGRATOR_SESSION_IMAP_H
#define MIGRATOR_SESSION_IMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"
#include "proto/imap_resp.h"
#include "proto/mail_url.h"

struct mailimap; /* libetpan's */
struct session_imap;

struct session_login {
    const struct mail_url *url;
    const char *ca_file;     /* "" or NULL: the system's */
    const char *tls_minimum; /* "" or NULL: 1.2 */
    const char *user;        /* the mailbox */
    const char *master_user; /* "" or NULL: user logs in himself */
    /* "{user}*{master}": his name says for whom; "" or NULL: SASL does, where
       PLAIN is offered */
    const char *master_login;
    const struct secret *password;
};

/* Connect, shake hands, log in, ask for capabilities. ERR_DENIED: the password
   was refused; ERR_RETRY: network, or [UNAVAILABLE], [LIMIT], [INUSE] ...;
   ERR_SETUP: certificate refused. */
int session_imap_open(const struct session_login *login,
                      struct session_imap **out, struct err *err);
/* LOGOUT if the connection still works, then close. */
void session_imap_close(struct session_imap **session);

/* Borrowed: until the close. */
struct mailimap *session_imap_library(struct session_imap *session);
/* Exact word, any case. */
bool session_imap_has(const struct session_imap *session,
                      const char *capability);
bool session_imap_is_broken(const struct session_imap *session);
/* An untagged response to session_imap_ask(). */
typedef void session_untagged_fn(void *ctx, const struct imap_resp *response);

/* A command in our own words, between those of the library: of what it reads
   it takes a connection to be lost that says one thing it does not expect.
   ERR_ITEM for NO or BAD (the connection goes on), ERR_RETRY for everything
   else. */
int session_imap_ask(struct session_imap *session, const char *command,
                     session_untagged_fn *fn, void *ctx, struct err *err);
/* Turn the library's result of a command into an error: ERR_ITEM for NO or BAD
   (the connection goes on), ERR_RETRY for everything else. `what` is put
   before the text. Returns -1. */
int session_imap_fail(struct session_imap *session, int result,
                      const char *what, struct err *err);

#endif
