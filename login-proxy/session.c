/*
 * The life of a session: its client, its timers, and its end.
 *
 *   TLS -> CLIENT -> ASK (-> TURN) -> BACKEND (-> PROVE -> LEARN, or CHECK) ->
 * SPLICED a login that failed: -> REFUSE -> CLIENT any state, an error, a
 * deadline, or all is said: -> END
 */
#include "login-proxy/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/tally.h"
#include "login-proxy/lesson.h"
#include "login-proxy/session_line.h"

#define CLIENT_INPUT_MAX 16384 /* what may be pipelined behind a login */
#define TRIES_MAX        3

static const char *const state_names[] = {
    "tls",   "client", "ask",    "turn",    "backend", "prove",
    "learn", "check",  "refuse", "spliced", "end"};
_Static_assert(sizeof state_names / sizeof state_names[0] ==
                   SESSION_STATE_COUNT,
               "a name for each state");

void session_enter(struct session *s, enum session_state next)
{
    log_debug("session %s %s -> %s", s->id, state_names[s->state],
              state_names[next]);
    s->state = next;
}

static void session_delete(void *ctx)
{
    struct session *s = ctx;

    if (s->dialogue_state != NULL) /* it may have asked for the end itself */
        s->dialogue->free(s->dialogue_state);
    free(s->user);
    free(s->address);
    free(s->kick_reason);
    free(s->server_name);
    free(s->client_id);
    free(s->server);
    free(s);
}

static void count_end(const struct session *s)
{
    const char *protocol = session_protocol_name(s);
    const char *side = s->relay != NULL ? session_side_name(s) : "none";
    uint64_t bytes = s->relay == NULL ? 0
                                      : relay_bytes_to_backend(s->relay) +
                                            relay_bytes_to_client(s->relay);

    tally_add(-1, "sessions{protocol=\"%s\"}", protocol);
    tally_add(1, "session_ends_total{protocol=\"%s\",side=\"%s\"}", protocol,
              side);
    tally_add((int64_t)bytes,
              "session_bytes_total{protocol=\"%s\",side=\"%s\"}", protocol,
              side);
    if (s->relay != NULL)
        tally_add(-1, "sessions_spliced{protocol=\"%s\",side=\"%s\"}", protocol,
                  side);
}

/* The only exit. What was written to the client is still sent. */
static void session_end(struct session *s, const char *reason)
{
    struct login *login = s->login;

    if (s->state == SESSION_END)
        return;
    s->reason = reason;
    count_end(s);
    session_line_end(s);
    session_enter(s, SESSION_END);
    attempt_free(s);
    lesson_leave(&s->lesson);
    kick_remove(login->kick, &s->tracked);
    relay_free(&s->relay);
    conn_finish(&s->client);
    timer_free(&s->deadline);
    timer_free(&s->wait);
    *s->link = s->next;
    if (s->next != NULL)
        s->next->link = s->link;
    login->session_count--;
    loop_defer(login->options.loop, session_delete, s);
    login_one_less(login);
}

void session_finish(struct session *s, const char *reason)
{
    session_end(s, reason);
}

void session_close(struct session *s, const char *reason)
{
    session_end(s, reason);
}

bool session_is_listening(const struct session *s)
{
    return s->state == SESSION_CLIENT;
}

void *session_dialogue_state(struct session *s)
{
    return s->dialogue_state;
}

struct conn *session_client(struct session *s)
{
    return s->client;
}

const char *session_node(const struct session *s)
{
    return s->login->options.node;
}

bool session_offers_tls(const struct session *s)
{
    return s->mode == TLS_STARTTLS && s->login->options.tls != NULL &&
           !conn_is_tls(s->client);
}

bool session_allows_login(const struct session *s)
{
    return s->plain_auth || conn_is_tls(s->client);
}

void session_consume(struct session *s, size_t length)
{
    struct buf *input = conn_input(s->client);

    explicit_bzero(input->bytes, length);
    buf_consume(input, length);
    s->input_bytes += length;
    if (s->input_bytes > SESSION_INPUT_MAX) {
        s->dialogue->say_bye(s, "too much before a login");
        session_end(s, "too-long");
    }
}

enum parse_result session_take_line(struct session *s, char copy[POP3_LINE_MAX],
                                    struct slice *line_out)
{
    struct buf *input = conn_input(s->client);
    enum parse_result result;
    size_t used;

    result =
        pop3_line(input->bytes, input->used, POP3_LINE_MAX, line_out, &used);
    if (result != PARSE_DONE)
        return result;
    memcpy(copy, line_out->bytes, line_out->length);
    line_out->bytes = copy;
    session_consume(s, used);
    return PARSE_DONE;
}

bool session_login_plain(struct session *s, struct slice response)
{
    struct sasl_name user;
    struct secret password;
    bool is_good;

    secret_init(&password);
    is_good = sasl_plain_decode(response, &user, &password) == PARSE_DONE;
    if (is_good)
        session_login_take(s, (struct slice){user.bytes, user.length},
                           &password, "PLAIN");
    secret_wipe(&password);
    return is_good;
}

bool session_login_password(struct session *s, const struct sasl_name *user,
                            struct slice response)
{
    struct secret password;
    bool is_good;

    secret_init(&password);
    is_good = sasl_login_password(response, &password) == PARSE_DONE;
    if (is_good)
        session_login_take(s, (struct slice){user->bytes, user->length},
                           &password, "LOGIN");
    secret_wipe(&password);
    return is_good;
}

void session_set_client(struct session *s, const char *text)
{
    free(s->client_id);
    s->client_id = mem_dup_text(text);
}

void session_start_tls(struct session *s)
{
    session_enter(s, SESSION_TLS);
    conn_start_tls(s->client);
}

void session_fail(struct session *s, enum login_failure failure,
                  const char *reason)
{
    static const char *const names[] = {
        [LOGIN_DENIED] = "denied",
        [LOGIN_TEMPORARY] = "temporary",
        [LOGIN_IN_USE] = "in-use",
        [LOGIN_DELAY] = "login-delay",
    };
    int64_t wait_ms = s->login->options.refuse_ms;

    session_line_failed(s, names[failure], reason);
    tally_add(1, "logins_total{protocol=\"%s\",side=\"none\",result=\"%s\"}",
              session_protocol_name(s), names[failure]);
    attempt_free(s);
    lesson_leave(&s->lesson);
    kick_remove(s->login->kick, &s->tracked);
    s->failures++;
    s->failure = failure;
    session_enter(s, SESSION_REFUSE);
    timer_start(s->wait, failure == LOGIN_DENIED && wait_ms > 0 ? wait_ms : 0);
}

static void tell_failure(struct session *s)
{
    s->dialogue->refuse(s, s->failure);
    free(s->user);
    s->user = NULL;
    free(s->address);
    s->address = NULL;
    s->side = SESSION_SIDE_NONE;
    if (s->failures >= TRIES_MAX) {
        s->dialogue->say_bye(s, "too many tries");
        session_end(s, "tries");
        return;
    }
    session_enter(s, SESSION_CLIENT);
    conn_resume(s->client);
    s->dialogue->on_input(s);
}

/* In REFUSE only; LEARN has its own in session_login.c. */
static void session_on_wait_over(void *ctx)
{
    struct session *s = ctx;

    if (s->state == SESSION_REFUSE)
        tell_failure(s);
    else
        session_on_wait(s);
}

static void session_on_deadline(void *ctx)
{
    struct session *s = ctx;

    if (s->state == SESSION_REFUSE)
        s->dialogue->refuse(s, s->failure);
    else if (s->state != SESSION_CLIENT && s->state != SESSION_TLS)
        s->dialogue->refuse(s, LOGIN_TEMPORARY);
    if (s->state != SESSION_TLS)
        s->dialogue->say_bye(s, "no login in time");
    session_end(s, "timeout");
}

static void session_on_ready(void *ctx)
{
    struct session *s = ctx;

    snprintf(s->tls_version, sizeof s->tls_version, "%s",
             conn_tls_version(s->client));
    if (conn_is_tls(s->client)) {
        s->cipher = conn_tls_cipher(s->client);
        free(s->server_name);
        s->server_name = mem_dup_text(conn_tls_name(s->client));
    }
    session_enter(s, SESSION_CLIENT);
    if (s->dialogue_state == NULL) {
        s->dialogue_state = s->dialogue->start(s);
        s->dialogue->greet(s);
    } else {
        s->dialogue->on_tls(s);
    }
}

static void session_on_input(void *ctx)
{
    struct session *s = ctx;

    if (session_is_listening(s))
        s->dialogue->on_input(s);
    if (session_is_listening(s) && conn_is_eof(s->client))
        session_end(s, "client-closed");
}

static void session_on_end(void *ctx, const struct err *err)
{
    (void)err;
    session_end(ctx, "client-failed");
}

static const struct conn_ops session_ops = {
    .on_ready = session_on_ready,
    .on_input = session_on_input,
    .on_end = session_on_end,
};

void session_start_take(struct login *login, const struct listener *l, int fd)
{
    struct session *s = mem_alloc(sizeof *s);
    struct loop *loop = login->options.loop;

    s->login = login;
    s->protocol = l->protocol;
    s->mode = l->mode;
    s->plain_auth = l->plain_auth;
    s->dialogue =
        l->protocol == MAIL_POP3 ? &login_pop3_dialogue : &login_imap_dialogue;
    s->tracked.ops = &session_track_ops;
    s->tracked.ctx = s;
    s->client = conn_accept_take(loop, fd, l->mode, login->options.tls,
                                 CLIENT_INPUT_MAX, &session_ops, s);
    snprintf(s->peer, sizeof s->peer, "%s", conn_peer_address(s->client));
    s->peer_port = conn_peer_port(s->client);
    s->own_port = conn_own_address(s->client, s->own);
    snprintf(s->id, sizeof s->id, "%s-%x", login->id, ++login->session_number);
    s->began_ms = s->asked_ms = loop_now_ms(loop);
    s->deadline = timer_new(loop, session_on_deadline, s);
    s->wait = timer_new(loop, session_on_wait_over, s);
    timer_start(s->deadline, login->options.login_ms);
    s->next = login->sessions;
    s->link = &login->sessions;
    if (s->next != NULL)
        s->next->link = &s->next;
    login->sessions = s;
    login->session_count++;
    tally_add(1, "sessions{protocol=\"%s\"}", session_protocol_name(s));
    tally_add(1, "sessions_total{protocol=\"%s\"}", session_protocol_name(s));
}
