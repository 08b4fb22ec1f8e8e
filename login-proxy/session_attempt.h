/*
 * One try to log in, for session_login.c (who serves the user, logging in
 * there, the splice) and session_proof.c (proof and lesson where the account is
 * new or its password is).
 */
#ifndef LOGIN_PROXY_SESSION_ATTEMPT_H
#define LOGIN_PROXY_SESSION_ATTEMPT_H

#include "account/username.h"
#include "login-proxy/session.h"
#include "login-proxy/turn.h"

struct attempt {
    char login_name[ADDRESS_MAX]; /* of username_login_name; state says whose */
    struct secret password;
    struct directory_answer answer;
    unsigned starts;
    bool has_checked;              /* legacy was asked after local's refusal */
    unsigned check_waits;          /* for another question to end */
    bool is_lesson_due;            /* once in: teach this password */
    bool is_by_master;             /* local's master user logs in for us */
    bool goes_alone;               /* no use to wait for others */
    struct turn turn;              /* to have the pair verified by local */
    char *master_trouble;          /* owned: why he could not; NULL: he may */
    struct directory_query *query; /* owned in ASK */
    struct backend *backend;       /* owned in BACKEND */
    struct proof *proof;           /* owned in PROVE */
    struct conn *conn;             /* owned in LEARN: logged in, waiting */
    char *untagged;                /* owned: what the backend said */
    char *greeting;
    struct imap_caps caps;
};

/* session_login.c */

/* From the beginning, with nothing left towards any server. */
void session_ask(struct session *s);
/* Answer the client and join both sides; conn is taken. */
void session_splice(struct session *s, struct conn **conn,
                    const struct backend_answer *backend);
/* TRACK_IMAP or TRACK_POP3: end within wait_ms. */
void session_on_told_to_end(void *ctx, int64_t wait_ms);
bool attempt_is_towards_legacy(const struct attempt *a);
const char *attempt_address(const struct attempt *a);
const char *session_legacy_user(const struct session *s);
enum track_kind session_spliced_kind(const struct session *s);

/* session_proof.c */

/* Whether state is to hear of the password, if legacy accepts it. */
bool session_is_lesson_due(const struct session *s);
/* In over POP3, or with a password that is new: taught beside the session. */
void session_teach_beside(struct session *s);
/* Look at the mailbox on the session itself, then teach; *conn is taken. */
void session_prove(struct session *s, struct conn **conn);
/* The same where the login alone is proof. */
void session_learn(struct session *s, struct conn **conn,
                   const struct proof_answer *proof);
/* Local refuses, and state says that legacy may know better: an app password
   that was not learnt yet, or one that was set since. */
void session_check(struct session *s);

#endif
