/*
 * The dialogue with an IMAP client before login (RFC 3501 section 6.1 and 6.2,
 * 2971 ID, 4959 SASL-IR, 7888 literals, 5530 codes).
 *
 * COMMAND -> PLAIN -> COMMAND; COMMAND -> LOGIN_USER -> LOGIN_PASSWORD ->
 * COMMAND; after a good login the session splices.
 */
#include "login-proxy/login_dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "login-proxy/backend.h"
#include "proto/imap_cmd.h"

#define CLIENT_TEXT_MAX 128 /* of what it says of itself */

enum login_imap_state {
    LI_COMMAND,
    LI_PLAIN,
    LI_LOGIN_USER,
    LI_LOGIN_PASSWORD
};

struct login_imap {
    enum login_imap_state state;
    struct imap_cmd cmd;
    char tag[IMAP_TAG_MAX + 1]; /* of the login under way */
    struct sasl_name user;      /* of AUTHENTICATE LOGIN */
};

static void *login_imap_start(struct session *s)
{
    struct login_imap *d = mem_alloc(sizeof *d);

    (void)s;
    imap_cmd_init(&d->cmd);
    return d;
}

static void login_imap_free(void *state)
{
    struct login_imap *d = state;

    imap_cmd_release(&d->cmd);
    explicit_bzero(d, sizeof *d);
    free(d);
}

static const char *capabilities(const struct session *s)
{
    bool offers_tls = session_offers_tls(s);

    /* only what is ours before login; the server's own list comes with OK */
    if (session_allows_login(s))
        return offers_tls ? "IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS "
                            "AUTH=PLAIN AUTH=LOGIN"
                          : "IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN "
                            "AUTH=LOGIN";
    return offers_tls ? "IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED"
                      : "IMAP4rev1 LITERAL+ SASL-IR ID LOGINDISABLED";
}

static void login_imap_greet(struct session *s)
{
    conn_printf(session_client(s), "* OK [CAPABILITY %s] %s ready\r\n",
                capabilities(s), session_node(s));
}

static void login_imap_on_tls(struct session *s)
{
    struct login_imap *d = session_dialogue_state(s);

    imap_cmd_reset(&d->cmd);
    d->state = LI_COMMAND;
}

static void answer(struct session *s, const char *text)
{
    struct login_imap *d = session_dialogue_state(s);

    conn_printf(session_client(s), "%s %s\r\n", d->tag[0] ? d->tag : "*", text);
}

static void cmd_login(struct session *s, const struct imap_cmd *cmd)
{
    struct secret password;

    if (cmd->arg_count != 2) {
        answer(s, "BAD LOGIN wants a name and a password");
        return;
    }
    secret_init(&password);
    secret_set(&password, cmd->args[1].bytes, cmd->args[1].length);
    session_login_take(s, cmd->args[0], &password, "IMAP-LOGIN");
}

static void take_plain(struct session *s, struct slice response)
{
    if (!session_login_plain(s, response))
        answer(s, "BAD Invalid PLAIN response");
}

static void take_login_user(struct session *s, struct slice response)
{
    struct login_imap *d = session_dialogue_state(s);

    if (sasl_login_user(response, &d->user) == PARSE_BAD) {
        d->state = LI_COMMAND;
        answer(s, "BAD Invalid response");
        return;
    }
    d->state = LI_LOGIN_PASSWORD;
    conn_printf(session_client(s), "+ %s\r\n", SASL_LOGIN_ASK_PASSWORD);
}

static void cmd_authenticate(struct session *s, const struct imap_cmd *cmd)
{
    struct login_imap *d = session_dialogue_state(s);
    bool has_response = cmd->arg_count == 2;

    if (cmd->arg_count != 1 && cmd->arg_count != 2) {
        answer(s, "BAD AUTHENTICATE wants a mechanism");
    } else if (slice_is(cmd->args[0], "PLAIN")) {
        if (has_response) {
            take_plain(s, cmd->args[1]);
            return;
        }
        d->state = LI_PLAIN;
        conn_printf(session_client(s), "+ \r\n");
    } else if (slice_is(cmd->args[0], "LOGIN")) {
        d->state = LI_LOGIN_USER;
        if (has_response)
            take_login_user(s, cmd->args[1]);
        else
            conn_printf(session_client(s), "+ %s\r\n", SASL_LOGIN_ASK_USER);
    } else {
        answer(s, "NO [CANNOT] Unsupported mechanism");
    }
}

/* "name=Thunderbird,version=115": the pairs that say something, as far as they
   fit (RFC 2971 3.3). */
static void cmd_id(struct session *s, const struct imap_cmd *cmd)
{
    unsigned count =
        cmd->arg_count < IMAP_CMD_ARGS ? cmd->arg_count : IMAP_CMD_ARGS;
    struct buf text;

    buf_init(&text, CLIENT_TEXT_MAX);
    for (unsigned i = 1; i + 1 < count; i += 2) {
        struct slice key = cmd->args[i], value = cmd->args[i + 1];

        if (slice_is(value, "NIL") || slice_is(value, ")"))
            continue;
        if (text.used + key.length + value.length + 2 > text.max)
            break;
        if (text.used > 0)
            buf_append_text(&text, ",");
        buf_append(&text, key.bytes, key.length);
        buf_append_text(&text, "=");
        buf_append(&text, value.bytes, value.length);
    }
    if (text.used > 0)
        session_set_client(s, buf_text(&text));
    buf_release(&text);
    conn_printf(session_client(s), "* ID NIL\r\n");
    answer(s, "OK Done");
}

static void cmd_starttls(struct session *s)
{
    if (!session_offers_tls(s)) {
        answer(s, "BAD TLS is not available");
        return;
    }
    answer(s, "OK Begin TLS");
    session_start_tls(s);
}

static void login_imap_on_command(struct session *s, const struct imap_cmd *cmd)
{
    const char *verb = cmd->verb;
    struct conn *client = session_client(s);

    if (strcmp(verb, "CAPABILITY") == 0) {
        conn_printf(client, "* CAPABILITY %s\r\n", capabilities(s));
        answer(s, "OK Done");
    } else if (strcmp(verb, "NOOP") == 0) {
        answer(s, "OK Done");
    } else if (strcmp(verb, "ID") == 0) {
        cmd_id(s, cmd);
    } else if (strcmp(verb, "LOGOUT") == 0) {
        conn_printf(client, "* BYE Logging out\r\n");
        answer(s, "OK Done");
        session_close(s, "logout");
    } else if (strcmp(verb, "STARTTLS") == 0) {
        cmd_starttls(s);
    } else if (strcmp(verb, "LOGIN") != 0 &&
               strcmp(verb, "AUTHENTICATE") != 0) {
        answer(s, "BAD Unknown command, or log in first");
    } else if (!session_allows_login(s)) {
        answer(s, "NO [PRIVACYREQUIRED] Start TLS first");
    } else if (verb[0] == 'L') {
        cmd_login(s, cmd);
    } else {
        cmd_authenticate(s, cmd);
    }
}

static void read_command(struct session *s)
{
    struct login_imap *d = session_dialogue_state(s);
    struct buf *input = conn_input(session_client(s));
    enum parse_result result;
    size_t used;

    result = imap_cmd_feed(&d->cmd, input->bytes, input->used, &used);
    session_consume(s, used);
    if (!session_is_listening(s))
        return;
    if (d->cmd.wants_go_ahead) {
        conn_printf(session_client(s), "+ OK\r\n");
        d->cmd.wants_go_ahead = false;
    }
    if (result == PARSE_MORE)
        return;
    memcpy(d->tag, d->cmd.tag, sizeof d->tag);
    if (d->cmd.is_hopeless) {
        conn_printf(session_client(s), "* BYE Command too long\r\n");
        session_close(s, "too-long");
        return;
    }
    if (result == PARSE_DONE)
        login_imap_on_command(s, &d->cmd);
    else
        answer(s, "BAD Syntax error");
    /* still there, whatever the command did: logins are answered from the
       loop, and an ended session goes at the end of the turn */
    imap_cmd_reset(&d->cmd);
}

/* One line of a SASL exchange. */
static void login_imap_on_response(struct session *s, struct slice line)
{
    struct login_imap *d = session_dialogue_state(s);
    enum login_imap_state state = d->state;

    d->state = LI_COMMAND;
    if (slice_is(line, "*"))
        answer(s, "BAD Cancelled");
    else if (state == LI_PLAIN)
        take_plain(s, line);
    else if (state == LI_LOGIN_USER)
        take_login_user(s, line);
    else if (!session_login_password(s, &d->user, line))
        answer(s, "BAD Invalid response");
}

static void read_response(struct session *s)
{
    char copy[POP3_LINE_MAX];
    struct slice line;

    switch (session_take_line(s, copy, &line)) {
    case PARSE_MORE: return;
    case PARSE_BAD:
        conn_printf(session_client(s), "* BYE Response too long\r\n");
        session_close(s, "too-long");
        return;
    case PARSE_DONE: break;
    }
    if (session_is_listening(s))
        login_imap_on_response(s, line);
    explicit_bzero(copy, line.length);
}

static void login_imap_on_input(struct session *s)
{
    struct login_imap *d = session_dialogue_state(s);

    while (session_is_listening(s)) {
        size_t before = conn_input(session_client(s))->used;

        if (before == 0)
            return;
        if (d->state == LI_COMMAND)
            read_command(s);
        else
            read_response(s);
        if (session_is_listening(s) &&
            conn_input(session_client(s))->used == before)
            return;
    }
}

/* The server's own words with the client's tag: its capabilities are in them.*/
static void login_imap_accept(struct session *s,
                              const struct backend_answer *backend)
{
    conn_write(session_client(s), backend->untagged, strlen(backend->untagged));
    answer(s, backend->greeting);
}

static void login_imap_refuse(struct session *s, enum login_failure failure)
{
    if (failure == LOGIN_DENIED)
        answer(s, "NO [AUTHENTICATIONFAILED] Invalid name or password");
    else
        answer(s, "NO [UNAVAILABLE] Temporarily unavailable, try again later");
}

static void login_imap_say_bye(struct session *s, const char *why)
{
    conn_printf(session_client(s), "* BYE Closing: %s\r\n", why);
}

const struct dialogue login_imap_dialogue = {
    .start = login_imap_start,
    .free = login_imap_free,
    .greet = login_imap_greet,
    .on_tls = login_imap_on_tls,
    .on_input = login_imap_on_input,
    .accept = login_imap_accept,
    .refuse = login_imap_refuse,
    .say_bye = login_imap_say_bye,
};
