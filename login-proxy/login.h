/*
 * The login role: accepts IMAP and POP3 clients, speaks with them until they
 * have logged in, finds out who serves them, logs in there in their name and
 * splices the two. Owns its sessions and its connection to the state process.
 */
#ifndef LOGIN_PROXY_LOGIN_H
#define LOGIN_PROXY_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "account/seal.h"
#include "base/dns.h"
#include "base/loop.h"
#include "base/tls.h"
#include "login-proxy/verified.h"
#include "proto/mail_url.h"

struct login;

/* Zero in a number of milliseconds means the default in brackets. Pointers and
   texts are borrowed until login_free(). */
struct login_options {
    struct loop *loop;
    struct dns *dns;
    const char *state_socket; /* path; login makes its struct directory */
    const char *node;         /* our name in greetings */
    struct tls_server *tls;   /* NULL: no TLS offered */
    struct tls_client *legacy_tls;
    struct tls_client *local_tls;
    struct mail_url local_imap; /* host empty where there is none */
    struct mail_url local_pop3;
    /* who may act for others on local; NULL: nobody */
    const char *local_master;
    const struct secret *local_master_password;
    struct verified *verified; /* taken; NULL: nothing is remembered */
    uint8_t seal_public_key[SEAL_KEY_SIZE];
    int64_t quiet_ms;      /* of a session that is held (300) */
    int64_t force_ms;      /* then it is cut (5000) */
    int64_t refuse_ms;     /* delay of a failed login (1000); -1: none */
    int64_t login_ms;      /* to log in (60000) */
    int64_t backend_ms;    /* for each answer of a backend (30000) */
    int64_t learn_ms;      /* for the answer of directory_learn (2000) */
    unsigned max_sessions; /* at most, then accepting pauses (100000) */
};

/* Connects to the state process by itself, again and again. */
struct login *login_start(const struct login_options *options);

/* Accept on fd (listening, borrowed, set non-blocking; other processes may
   accept on it too) until login_drain(). protocol is MAIL_IMAP or MAIL_POP3.
   Without options.tls STARTTLS is not offered, and TLS_IMPLICIT must not be
   asked for. plain_auth: logging in is allowed before TLS. */
void login_listen(struct login *login, int fd, enum mail_protocol protocol,
                  enum tls_mode mode, bool plain_auth);

/* Stop accepting; fn(ctx) is called once, from the loop, when the last session
   and the last proof are over. Holds are answered until login_free(). */
void login_drain(struct login *login, loop_fn *fn, void *ctx);

/* Ends every session at once. */
void login_free(struct login **login);

#endif
