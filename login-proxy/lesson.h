/*
 * Teaching the state process a password that legacy has accepted, when needed
 * after proving it over a connection of its own. Goes on when the session that
 * started it has ended. Belongs to the login process.
 */
#ifndef LOGIN_PROXY_LESSON_H
#define LOGIN_PROXY_LESSON_H

#include "account/directory.h"
#include "base/secret.h"
#include "login-proxy/backend.h"
#include "login-proxy/role.h"

struct lesson;

struct lesson_subject { /* all copied */
    const char *typed;
    const char *address; /* canonical */
    const char *legacy_user;
    const char *via; /* "imap", "pop3" */
    const struct secret *password;
    int64_t account_id;            /* 0: not known yet */
    int64_t epoch;                 /* of the answer */
    const char *prefix;            /* lesson_start_proven: or NULL */
    const char *separator;         /* the same */
    uint32_t uidvalidity;          /* the same, of INBOX; 0: not known */
    const struct mail_url *server; /* lesson_start: legacy's IMAP or POP3 */
    bool
        is_inquiry; /* inquiry_begin() said INQUIRY_ASK: its end is told here */
};

/* outcome BACKEND_IN: taught, answer is set; err and answer are borrowed. */
struct lesson_answer {
    enum backend_outcome outcome;
    const struct err *err;
    const struct directory_answer *answer;
};

/* Called once, from the loop, unless the lesson was left or given up. */
typedef void lesson_fn(void *ctx, const struct lesson_answer *answer);

/* Teach what has been proven. While somebody waits (fn is not NULL and not
   left), a state process that cannot be asked is asked again. NULL if the
   password cannot be sealed. */
struct lesson *lesson_start_proven(struct login *login,
                                   const struct lesson_subject *subject,
                                   lesson_fn *fn, void *ctx);
/* Prove it first, over a connection to subject->server. */
struct lesson *lesson_start(struct login *login,
                            const struct lesson_subject *subject, lesson_fn *fn,
                            void *ctx);

/* fn will not be called, the lesson goes on; *lesson may be NULL. */
void lesson_leave(struct lesson **lesson);

/* End all of a login process. */
void lesson_free_all(struct login *login);

#endif
