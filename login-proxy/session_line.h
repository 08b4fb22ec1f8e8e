/*
 * The lines of a session in the log: one for each login and one for its end,
 * with all that support asks for later. Every line is "event key=value ...";
 * what a peer has said stands in quotes with everything but printable ASCII,
 * and spaces, as \xNN. docs/OPERATING.md lists the keys.
 */
#ifndef LOGIN_PROXY_SESSION_LINE_H
#define LOGIN_PROXY_SESSION_LINE_H

#include "login-proxy/session.h"

/* "pop3", "imap" */
const char *session_protocol_name(const struct session *s);
/* "legacy", "local", or "none" */
const char *session_side_name(const struct session *s);

/* He is in. */
void session_line_accepted(const struct session *s);
/* He is not: reason is a word, text says more for us. */
void session_line_failed(const struct session *s, const char *reason,
                         const char *text);
/* The session is over. */
void session_line_end(const struct session *s);

#endif
