/*
 * One client: from its greeting through its logins to the splice and the end.
 * The dialogues (login_imap, login_pop3) speak with the client and hand over
 * names and passwords; the session finds the server and logs in there. Belongs
 * to the login process.
 */
#ifndef LOGIN_PROXY_SESSION_H
#define LOGIN_PROXY_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/relay.h"
#include "login-proxy/backend.h"
#include "login-proxy/login_dialogue.h"
#include "login-proxy/proof.h"
#include "login-proxy/role.h"

/* Bytes that a client may send before it is logged in. */
#define SESSION_INPUT_MAX (64u << 10)

enum session_state {
    SESSION_TLS,     /* shaking hands with the client */
    SESSION_CLIENT,  /* the dialogue has the word */
    SESSION_ASK,     /* who serves this user? */
    SESSION_TURN,    /* another login has the same pair verified */
    SESSION_BACKEND, /* logging in there */
    SESSION_PROVE,   /* looking at the mailbox on the same session */
    SESSION_LEARN,   /* the state process makes the account */
    SESSION_CHECK,   /* local refused: does legacy accept the password? */
    SESSION_REFUSE,  /* the failure is told a little later */
    SESSION_SPLICED,
    SESSION_END,
    SESSION_STATE_COUNT
};

enum session_side {
    SESSION_SIDE_NONE,
    SESSION_SIDE_LEGACY,
    SESSION_SIDE_LOCAL
};

#define SESSION_ID_SIZE 32

struct attempt; /* one try to log in; only while it lasts */

struct session {
    struct login *login;  /* borrowed */
    struct session *next; /* in login->sessions */
    struct session **link;
    enum session_state state;
    enum mail_protocol protocol;
    enum tls_mode mode;
    bool plain_auth;

    struct conn *client;             /* owned until spliced */
    const struct dialogue *dialogue; /* of the protocol */
    void *dialogue_state;            /* owned by the dialogue */
    struct timer *deadline;          /* to log in; freed when spliced */
    struct timer *wait;              /* of SESSION_REFUSE, SESSION_LEARN */
    size_t input_bytes;              /* taken from the client so far */
    unsigned failures;
    enum login_failure failure; /* in SESSION_REFUSE */
    struct attempt *attempt;    /* owned, NULL in SESSION_CLIENT and SPLICED */
    struct lesson *lesson;      /* that tells us its end, or NULL */
    struct relay *relay;        /* owned, when spliced */
    struct tracked tracked;
    bool may_say_bye; /* no COMPRESS can be on */

    char id[SESSION_ID_SIZE]; /* in every line of it; unique */
    int64_t began_ms;         /* loop time */
    int64_t asked_ms;         /* the same of the last login */
    char peer[CONN_ADDRESS_SIZE], own[CONN_ADDRESS_SIZE]; /* numeric */
    uint16_t peer_port, own_port;
    char tls_version[12];
    const char *cipher;                /* a literal; NULL in clear */
    char *server_name;                 /* owned: SNI; NULL: none */
    char *client_id;                   /* owned: IMAP ID; NULL: none */
    const char *mechanism;             /* a literal, of the last login */
    char *user;                        /* owned: as typed, of the good login */
    char *address;                     /* owned: canonical, the same */
    enum session_side side;            /* where the last login went */
    char *server;                      /* owned: its host:port */
    char server_ip[CONN_ADDRESS_SIZE]; /* once it has let us in */
    bool is_by_master;                 /* it was local's master user */
    const char *reason;                /* of the end, a literal */
    char *kick_reason;                 /* owned: why it was "kicked" */
};

/* Between session.c and session_login.c: */

/* The only writer of s->state. */
void session_enter(struct session *s, enum session_state next);
/* Give the attempt up (or be done with it): everything that it holds goes. */
void attempt_free(struct session *s);
/* Tell the client after a while that it is not in. */
void session_fail(struct session *s, enum login_failure failure,
                  const char *reason);
void session_on_wait(void *ctx); /* s->wait has run out */
extern const struct track_ops session_track_ops;

/* Serve an accepted socket (taken). */
void session_start_take(struct login *login, const struct listener *l, int fd);

/* End it at once; for login_free(). */
void session_finish(struct session *s, const char *reason);

#endif
