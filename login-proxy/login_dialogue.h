/*
 * What a dialogue with a client and its session ask of each other.
 */
#ifndef LOGIN_PROXY_LOGIN_DIALOGUE_H
#define LOGIN_PROXY_LOGIN_DIALOGUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conn.h"
#include "base/secret.h"
#include "proto/parse.h"
#include "proto/pop3.h"
#include "proto/sasl.h"

struct session;
struct backend_answer;

enum login_failure {
    LOGIN_DENIED,
    LOGIN_TEMPORARY,
    LOGIN_IN_USE, /* POP3's own kinds of temporary */
    LOGIN_DELAY
};

struct dialogue {
    void *(*start)(struct session *s); /* the dialogue's state */
    void (*free)(void *state);         /* wipes it */
    void (*greet)(struct session *s);
    void (*on_tls)(struct session *s);   /* after session_start_tls() */
    void (*on_input)(struct session *s); /* until session_is_listening() ends */
    void (*accept)(struct session *s, const struct backend_answer *answer);
    void (*refuse)(struct session *s, enum login_failure failure);
    /* a last line before the session closes: why is "timeout", "tries",
       "too-long", "temporary" */
    void (*say_bye)(struct session *s, const char *why);
};

extern const struct dialogue login_imap_dialogue;
extern const struct dialogue login_pop3_dialogue;

/* For the dialogues: */

/* Whether the dialogue has the word (and the client is still there). */
bool session_is_listening(const struct session *s);
void *session_dialogue_state(struct session *s);
struct conn *session_client(struct session *s);
const char *session_node(const struct session *s);
bool session_offers_tls(const struct session *s); /* STARTTLS makes sense now */
bool session_allows_login(const struct session *s); /* or TLS must come first */

/* Take bytes off the client's input; they are overwritten. Says BYE and ends
   the session when that was too much. */
void session_consume(struct session *s, size_t length);
/* PARSE_DONE: the client's next line is in copy, which the caller wipes, and
   off the input: what starts TLS throws away everything behind it. PARSE_BAD:
   it is longer than POP3_LINE_MAX. */
enum parse_result session_take_line(struct session *s, char copy[POP3_LINE_MAX],
                                    struct slice *line_out);

/* The client wants in. The password is taken over; mechanism is a literal.
   dialogue->accept or ->refuse follows, from the loop. */
void session_login_take(struct session *s, struct slice user,
                        struct secret *password, const char *mechanism);
/* The same with a response of AUTH PLAIN, or the second one of AUTH LOGIN in
   base64; false, and nothing follows, if it is malformed. */
bool session_login_plain(struct session *s, struct slice response);
bool session_login_password(struct session *s, const struct sasl_name *user,
                            struct slice response);
/* What the client says of itself, for the log. */
void session_set_client(struct session *s, const char *text);
void session_start_tls(struct session *s);
/* The client said good-bye, or broke the protocol; what was written is sent. */
void session_close(struct session *s, const char *reason);

#endif
