/*
 * The dialogue with a POP3 client before login (RFC 1939 section 4, 2449, 2595,
 * 3206, 5034).
 *
 * COMMAND (a USER is kept for PASS) -> PLAIN -> COMMAND; COMMAND ->
 * LOGIN_USER -> LOGIN_PASSWORD -> COMMAND.
 */
#include "login-proxy/login_dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "login-proxy/backend.h"

enum login_pop3_state {
    LP_COMMAND,
    LP_PLAIN,
    LP_LOGIN_USER,
    LP_LOGIN_PASSWORD
};

struct login_pop3 {
    enum login_pop3_state state;
    bool has_user;
    struct sasl_name user;
};

static void *login_pop3_start(struct session *s)
{
    (void)s;
    return mem_alloc(sizeof(struct login_pop3));
}

static void login_pop3_free(void *state)
{
    free(state);
}

static void login_pop3_greet(struct session *s)
{
    conn_printf(session_client(s), "+OK %s ready\r\n", session_node(s));
}

static void login_pop3_on_tls(struct session *s)
{
    memset(session_dialogue_state(s), 0, sizeof(struct login_pop3));
}

static void say(struct session *s, const char *line)
{
    conn_printf(session_client(s), "%s\r\n", line);
}

static void cmd_capa(struct session *s)
{
    say(s, "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE");
    if (session_offers_tls(s))
        say(s, "STLS");
    if (session_allows_login(s))
        say(s, "USER\r\nSASL PLAIN LOGIN");
    say(s, ".");
}

static void cmd_user(struct session *s, struct slice arg)
{
    struct login_pop3 *d = session_dialogue_state(s);

    if (arg.length == 0 || arg.length > SASL_USER_MAX) {
        say(s, "-ERR No such name");
        return;
    }
    memcpy(d->user.bytes, arg.bytes, arg.length);
    d->user.bytes[arg.length] = '\0';
    d->user.length = arg.length;
    d->has_user = true;
    say(s, "+OK");
}

static void login_with(struct session *s, struct slice bytes)
{
    struct login_pop3 *d = session_dialogue_state(s);
    struct secret password;

    d->has_user = false;
    secret_init(&password);
    secret_set(&password, bytes.bytes, bytes.length);
    session_login_take(s, (struct slice){d->user.bytes, d->user.length},
                       &password, "USER");
}

static void cmd_pass(struct session *s, struct slice arg)
{
    struct login_pop3 *d = session_dialogue_state(s);

    if (d->has_user)
        login_with(s, arg);
    else
        say(s, "-ERR USER first");
}

static void take_plain(struct session *s, struct slice response)
{
    if (!session_login_plain(s, response))
        say(s, "-ERR Invalid PLAIN response");
}

static void take_login_user(struct session *s, struct slice response)
{
    struct login_pop3 *d = session_dialogue_state(s);

    d->has_user = false;
    if (sasl_login_user(response, &d->user) == PARSE_BAD) {
        d->state = LP_COMMAND;
        say(s, "-ERR Invalid response");
        return;
    }
    d->state = LP_LOGIN_PASSWORD;
    say(s, "+ " SASL_LOGIN_ASK_PASSWORD);
}

static void cmd_auth(struct session *s, struct slice arg)
{
    struct login_pop3 *d = session_dialogue_state(s);
    struct slice mechanism = slice_next_word(&arg);
    struct slice response = slice_next_word(&arg);

    if (mechanism.length == 0) {
        say(s, "+OK\r\nPLAIN\r\nLOGIN\r\n.");
    } else if (slice_is(mechanism, "PLAIN")) {
        if (response.length > 0) {
            take_plain(s, response);
            return;
        }
        d->state = LP_PLAIN;
        say(s, "+ ");
    } else if (slice_is(mechanism, "LOGIN")) {
        d->state = LP_LOGIN_USER;
        if (response.length > 0)
            take_login_user(s, response);
        else
            say(s, "+ " SASL_LOGIN_ASK_USER);
    } else {
        say(s, "-ERR Unsupported mechanism");
    }
}

static void cmd_stls(struct session *s)
{
    if (!session_offers_tls(s)) {
        say(s, "-ERR TLS is not available");
        return;
    }
    say(s, "+OK Begin TLS");
    session_start_tls(s);
}

static void login_pop3_on_command(struct session *s, const struct pop3_cmd *cmd)
{
    bool is_login = cmd->verb == POP3_USER || cmd->verb == POP3_PASS ||
                    cmd->verb == POP3_AUTH;

    if (is_login && !session_allows_login(s)) {
        say(s, "-ERR Start TLS first");
        return;
    }
    switch (cmd->verb) {
    case POP3_CAPA: cmd_capa(s); break;
    case POP3_USER: cmd_user(s, cmd->arg); break;
    case POP3_PASS: cmd_pass(s, cmd->arg); break;
    case POP3_AUTH: cmd_auth(s, cmd->arg); break;
    case POP3_STLS: cmd_stls(s); break;
    case POP3_NOOP: say(s, "+OK"); break;
    case POP3_QUIT:
        say(s, "+OK Logging out");
        session_close(s, "logout");
        break;
    case POP3_UNKNOWN: say(s, "-ERR Unknown command, or log in first"); break;
    }
}

static void login_pop3_on_response(struct session *s, struct slice line)
{
    struct login_pop3 *d = session_dialogue_state(s);
    enum login_pop3_state state = d->state;

    d->state = LP_COMMAND;
    if (slice_is(line, "*"))
        say(s, "-ERR Cancelled");
    else if (state == LP_PLAIN)
        take_plain(s, line);
    else if (state == LP_LOGIN_USER)
        take_login_user(s, line);
    else if (!session_login_password(s, &d->user, line))
        say(s, "-ERR Invalid response");
}

static void login_pop3_on_line(struct session *s, struct slice line)
{
    struct login_pop3 *d = session_dialogue_state(s);
    struct pop3_cmd cmd;

    if (d->state != LP_COMMAND)
        login_pop3_on_response(s, line);
    else if (pop3_cmd_parse(line, &cmd) == PARSE_DONE)
        login_pop3_on_command(s, &cmd);
    else
        say(s, "-ERR Syntax error");
}

static void login_pop3_on_input(struct session *s)
{
    while (session_is_listening(s)) {
        char copy[POP3_LINE_MAX];
        struct slice line;

        switch (session_take_line(s, copy, &line)) {
        case PARSE_MORE: return;
        case PARSE_BAD:
            say(s, "-ERR Line too long");
            session_close(s, "too-long");
            return;
        case PARSE_DONE: break;
        }
        if (session_is_listening(s))
            login_pop3_on_line(s, line);
        explicit_bzero(copy, line.length);
    }
}

static void login_pop3_accept(struct session *s,
                              const struct backend_answer *backend)
{
    say(s, backend->greeting);
}

static void login_pop3_refuse(struct session *s, enum login_failure failure)
{
    switch (failure) {
    case LOGIN_DENIED: say(s, "-ERR [AUTH] Invalid name or password"); break;
    case LOGIN_TEMPORARY:
        say(s, "-ERR [SYS/TEMP] Temporarily unavailable, try again later");
        break;
    case LOGIN_IN_USE: say(s, "-ERR [IN-USE] Mailbox is in use"); break;
    case LOGIN_DELAY: say(s, "-ERR [LOGIN-DELAY] Try again later"); break;
    }
}

static void login_pop3_say_bye(struct session *s, const char *why)
{
    conn_printf(session_client(s), "-ERR Closing: %s\r\n", why);
}

const struct dialogue login_pop3_dialogue = {
    .start = login_pop3_start,
    .free = login_pop3_free,
    .greet = login_pop3_greet,
    .on_tls = login_pop3_on_tls,
    .on_input = login_pop3_on_input,
    .accept = login_pop3_accept,
    .refuse = login_pop3_refuse,
    .say_bye = login_pop3_say_bye,
};
