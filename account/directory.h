/*
 * The state process as a login or smtp process sees it: who serves whom, what
 * was learnt, and the holds. Keeps one connection, connects again by itself,
 * answers questions in the order of arrival. Owns no account data.
 *
 * Order matters and is kept: a hold that the state process orders after it
 * answered a look-up arrives after that answer.
 */
#ifndef ACCOUNT_DIRECTORY_H
#define ACCOUNT_DIRECTORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "db/states.h"
#include "account/route.h"
#include "account/seal.h"
#include "base/err.h"
#include "base/loop.h"
#include "proto/mail_url.h"

struct directory;
struct directory_query; /* a question under way */

/* A hold: which side of the account has to become quiet. */
enum hold_side {
    HOLD_LEGACY, /* it is about to move to local */
    HOLD_LOCAL   /* it is about to go back to legacy */
};

struct directory_hold {
    int64_t account_id;
    int64_t epoch;
    int64_t quiet_within_ms;
    enum hold_side side;
    const char *address; /* of the account, for those who were let through
                            before there was one; "" if state does not say */
};

/* What the role must do when state asks. */
struct directory_ops {
    /* The account is held from now on: let nothing of it that is not there yet
       reach that side, end what can be ended within quiet_within_ms, and call
       directory_quiet() as soon as nothing of it is left towards that side
       (possibly at once, from inside this call). Nobody calls back to take it
       away: a release follows. Told again with the same epoch after the
       connection to state broke: quiet is then owed again. */
    void (*on_hold)(void *ctx, const struct directory_hold *hold);
    /* The hold with that epoch is over (flipped or not): what was ended for it
       has been; what is still running may go on; nothing more is to be ended.*/
    void (*on_release)(void *ctx, int64_t account_id, int64_t epoch);
    /* End every session of the account now, and of those who were let through
       under that address before there was one; what is logging in must ask
       again. service: "login", "submission", "all"; reason: one word. NULL for
       a role without sessions. */
    void (*on_kick)(void *ctx, int64_t account_id, const char *address,
                    const char *service, const char *reason);
    /* No password of the account that was seen to be good counts any more.
       NULL for a role that remembers none. */
    void (*on_forget)(void *ctx, int64_t account_id, const char *address);
    /* State has taken what directory_strangers() told last. NULL: nobody wants
       to know. */
    void (*on_counted)(void *ctx);
};

/* socket_path: state's socket. role: "login" or "smtp". Connects from the first
   turn of the loop on, since state waits for every process before a flip; ops
   and ctx are borrowed, the strings copied. */
struct directory *directory_new(struct loop *loop, const char *socket_path,
                                const char *role,
                                const struct directory_ops *ops, void *ctx);
/* Drops what is under way without calling back; safe inside its callbacks. */
void directory_free(struct directory **d);

struct directory_answer {
    enum route_answer answer; /* never ROUTE_WAIT: state waits for us */
    int64_t account_id;       /* 0 if there is none */
    int64_t epoch;
    int64_t version; /* of the passwords local takes; 0: nobody can tell */
    enum password_state password_state;
    bool may_ask_legacy;           /* what local refuses, legacy may know */
    char address[ADDRESS_MAX];     /* canonical */
    char legacy_user[ADDRESS_MAX]; /* name to log in with on legacy */
    char local_user[ADDRESS_MAX];  /* name to log in with on local */
    struct mail_url legacy_imap;   /* host empty where there is none */
    struct mail_url legacy_pop3;
    struct mail_url legacy_smtp;
};

/* Neither is ever NULL. err->kind is ERR_NONE when state has answered; when it
   could not be asked in time (5 s without a connection, 30 s in all), err says
   so (ERR_RETRY) and the answer is ROUTE_UNAVAILABLE. Both are borrowed for the
   call. Called once, from the loop, never from inside directory_ask(). */
typedef void directory_answer_fn(void *ctx,
                                 const struct directory_answer *answer,
                                 const struct err *err);

/* Who serves this name, as typed (username_parse has accepted it)? Waits in
   state while the account is held, at most hold_seconds of the domain. */
struct directory_query *directory_ask(struct directory *d,
                                      enum route_service service,
                                      const char *typed,
                                      directory_answer_fn *fn, void *ctx);

/* Legacy has accepted this password and served INBOX: create the account if
   there is none (prefix and separator as legacy's NAMESPACE said them, NULL if
   unknown; separator "" for NIL), or renew what is sealed. via: "imap",
   "pop3". The answer is that of a look-up made now, without waiting while it is
   held; two at once get the same row. For an account whose route is local the
   answer comes once local knows the new password. */
struct directory_learn {
    const char *typed;
    const char *legacy_user;
    const char *via;
    const char *prefix;
    const char *separator;
    uint32_t uidvalidity; /* of legacy's INBOX; 0: not known */
    const struct seal *seal;
};
struct directory_query *directory_learn(struct directory *d,
                                        const struct directory_learn *learnt,
                                        directory_answer_fn *fn, void *ctx);

/* fn will not be called (what was asked may still happen). Only for a question
   whose fn has not been called yet; *query becomes NULL. */
void directory_cancel(struct directory_query **query);

/* Local has accepted a login of this account. Lost without a connection: the
   next login tells it again. */
void directory_confirm(struct directory *d, int64_t account_id);

/* Legacy has taken mail for these, who are no accounts: an object of address ->
   number of mails, at most 1000, borrowed. False if there is no connection:
   nothing is told then. */
bool directory_strangers(struct directory *d, json_t *addresses);

/* A session that must not be cut is open (POP3: its DELEs commit at QUIT), so
   the hold cannot begin: state gives it up at once and tries again soon. */
void directory_busy(struct directory *d, int64_t account_id, int64_t epoch);

/* Nothing of the account towards legacy is left here. wants_trail: mail was in
   DATA when the hold came, or a session was cut; legacy may still be storing */
void directory_quiet(struct directory *d, int64_t account_id, int64_t epoch,
                     bool wants_trail);

#endif
