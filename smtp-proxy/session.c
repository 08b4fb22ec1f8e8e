#include "smtp-proxy/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/conn.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tally.h"
#include "proto/smtp.h"
#include "proto/smtp_data.h"
#include "proto/smtp_reply.h"

#define INPUT_MAX   65536
#define OUTPUT_MAX  65536 /* replies a client may leave unread */
#define TEXT_CHUNK  16384
#define IDLE_MS     300000 /* RFC 5321 4.5.3.2.7 */
#define FAREWELL_MS 5000
#define ERRORS_MAX  20

/* GREET (TLS) -> COMMAND; COMMAND -> WAIT -> COMMAND; COMMAND -> LONG ->
   COMMAND COMMAND -> TLS -> COMMAND; WAIT -> TEXT -> VERDICT -> COMMAND
   VERDICT, client gone -> ORPHAN -> END; COMMAND -> FAREWELL -> END;
   any other -> END */
enum session_state {
    SS_GREET,
    SS_COMMAND,
    SS_LONG, /* the rest of a line too long is thrown away */
    SS_WAIT, /* the answer to RCPT or DATA is due */
    SS_TLS,  /* shaking hands after STARTTLS */
    SS_TEXT,
    SS_VERDICT,  /* the answer to the text is due */
    SS_ORPHAN,   /* it is due, and nobody is left to hear it */
    SS_FAREWELL, /* all is said; the client's end proves that it was read */
    SS_END,
    SS_COUNT
};

static const char *const state_name[] = {
    "greet", "command", "long",   "wait",     "tls",
    "text",  "verdict", "orphan", "farewell", "end"};
_Static_assert(sizeof(state_name) / sizeof(state_name[0]) == SS_COUNT,
               "a name for each state");

struct session {
    struct session_options options;
    struct smtp_session_link link;
    enum session_state state;
    struct conn *conn;               /* owned; NULL for an orphan */
    struct transaction *transaction; /* owned */
    char id[40];
    char ip[64];
    unsigned port;
    char hello[SMTP_NAME_MAX];
    bool is_esmtp;
    bool is_told;         /* tell_ended has run */
    bool is_reading;      /* session_read is on the stack */
    bool awaits_proof;    /* the next byte proves that the last 250 was read */
    bool lacks_proof;     /* it came with bytes sent before that 250 */
    bool is_data_refused; /* what follows may be text of a careless client */
    unsigned error_count;
    unsigned message_count;
    struct smtp_data text;
    struct buf text_out;
};

static void session_read(struct session *s);

static int64_t idle_ms(enum session_state state)
{
    if (state == SS_WAIT || state == SS_VERDICT)
        return 0;
    return state == SS_FAREWELL ? FAREWELL_MS : IDLE_MS;
}

/* The only writer of s->state. */
static void session_enter(struct session *s, enum session_state next)
{
    bool listens = next == SS_COMMAND || next == SS_LONG || next == SS_TEXT;

    log_debug("smtp %s %s -> %s", s->id, state_name[s->state],
              state_name[next]);
    s->state = next;
    if (s->conn == NULL)
        return;
    if (listens)
        conn_resume(s->conn);
    else if (next == SS_WAIT || next == SS_VERDICT)
        conn_pause(s->conn);
    conn_set_idle_ms(s->conn, idle_ms(next));
}

static void tell_ended(void *ctx)
{
    struct session *s = ctx;

    s->is_told = true;
    if (s->options.ended != NULL)
        s->options.ended(s->options.ctx, s);
    else
        free(s);
}

/* The only exit. What is still on the stack sees SS_END and returns. */
static void session_end(struct session *s)
{
    if (s->state == SS_END)
        return;
    session_enter(s, SS_END);
    log_info("smtp %s session ip=%s port=%u hello=\"%s\" protocol=%s "
             "messages=%u errors=%u",
             s->id, s->ip, s->port, log_safe(s->hello),
             s->options.is_lmtp ? "lmtp" : "smtp", s->message_count,
             s->error_count);
    tally_add(-1, "sessions{protocol=\"smtp\"}");
    if (s->conn != NULL)
        conn_finish(&s->conn);
    transaction_free(&s->transaction);
    buf_release(&s->text_out);
    loop_defer(s->options.site->loop, tell_ended, s);
}

/* ---- replies ---- */

static void say_reply(struct session *s, const struct smtp_reply *reply)
{
    struct buf out;

    if (s->conn == NULL)
        return;
    buf_init(&out, 64 * 1024);
    smtp_reply_write(reply, &out);
    conn_write(s->conn, out.bytes, out.used);
    buf_release(&out);
}

static void say(struct session *s, int code, const char *text)
{
    struct smtp_reply reply;

    smtp_reply_set(&reply, code, text);
    say_reply(s, &reply);
}

static void say_and_end(struct session *s, int code, const char *text)
{
    say(s, code, text);
    session_end(s);
}

static void say_error(struct session *s, int code, const char *text)
{
    if (++s->error_count >= ERRORS_MAX)
        say_and_end(s, 421, "4.7.0 Too many errors");
    else
        say(s, code, text);
}

/* ---- commands ---- */

static bool offers_tls(const struct session *s)
{
    return s->options.mode == TLS_STARTTLS &&
           s->options.site->tls_server != NULL && !conn_is_tls(s->conn);
}

static void on_hello(struct session *s, const struct smtp_command *command)
{
    const struct site *site = s->options.site;

    if ((command->verb == SMTP_LHLO) != s->options.is_lmtp) {
        say_error(s, 500, "5.5.1 Not in this protocol");
        return;
    }
    transaction_reset(s->transaction);
    snprintf(s->hello, sizeof(s->hello), "%s", command->name);
    s->is_esmtp = command->verb != SMTP_HELO;
    if (!s->is_esmtp) {
        conn_printf(s->conn, "250 %s\r\n", site->node);
        return;
    }
    conn_printf(s->conn,
                "250-%s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n%s"
                "250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n",
                site->node, (unsigned long long)site->size_max_bytes,
                offers_tls(s) ? "250-STARTTLS\r\n" : "");
}

static void on_mail(struct session *s, const struct smtp_command *command)
{
    if (s->hello[0] == '\0') {
        say_error(s, 503, "5.5.1 Say hello first");
    } else if (transaction_has_sender(s->transaction)) {
        say_error(s, 503, "5.5.1 There is a sender already");
    } else if (command->has_size &&
               command->size_bytes > s->options.site->size_max_bytes) {
        say(s, 552, "5.3.4 Message too big");
    } else {
        transaction_begin(s->transaction, command);
        say(s, 250, "2.1.0 Ok");
    }
}

static void on_rcpt(struct session *s, const struct smtp_command *command)
{
    if (!transaction_has_sender(s->transaction)) {
        say_error(s, 503, "5.5.1 MAIL comes first");
        return;
    }
    session_enter(s, SS_WAIT);
    transaction_recipient(s->transaction, &command->path);
}

/* A client that sends its text without waiting for 354 would have it read as
   commands; no bytes may follow DATA (RFC 2920 3.1), so they betray it. */
static void after_data_refused(struct session *s)
{
    s->is_data_refused = true;
    if (conn_input(s->conn)->used > 0)
        session_end(s);
}

static const char *protocol_word(const struct session *s)
{
    bool is_tls = conn_is_tls(s->conn);

    if (s->options.is_lmtp)
        return is_tls ? "LMTPS" : "LMTP";
    if (!s->is_esmtp)
        return "SMTP";
    return is_tls ? "ESMTPS" : "ESMTP";
}

static void on_data(struct session *s)
{
    struct trace_origin origin = {.hello = s->hello,
                                  .address = conn_peer_address(s->conn),
                                  .with = protocol_word(s),
                                  .id = s->id,
                                  .now = time(NULL)};

    if (!transaction_has_sender(s->transaction)) {
        say_error(s, 503, "5.5.1 MAIL comes first");
        after_data_refused(s);
        return;
    }
    if (transaction_recipient_count(s->transaction) == 0) {
        say(s, 554, "5.5.1 No valid recipients");
        transaction_reset(s->transaction);
        after_data_refused(s);
        return;
    }
    session_enter(s, SS_WAIT);
    transaction_start_text(s->transaction, &origin);
}

static void on_starttls(struct session *s)
{
    if (!offers_tls(s)) {
        say_error(s, 502, "5.5.1 Not offered");
        return;
    }
    transaction_reset(s->transaction);
    s->hello[0] = '\0';
    s->awaits_proof = false;
    conn_printf(s->conn, "220 2.0.0 Go ahead\r\n");
    session_enter(s, SS_TLS);
    conn_start_tls(s->conn);
}

static void on_rset(struct session *s)
{
    transaction_reset(s->transaction);
    say(s, 250, "2.0.0 Ok");
}

/* QUIT sent together with the dot, as Postfix does, proves nothing of the 250;
   but who closes in good order has read it all, else his kernel would reset. */
static void on_quit(struct session *s)
{
    if (!s->lacks_proof) {
        say_and_end(s, 221, "2.0.0 Bye");
        return;
    }
    say(s, 221, "2.0.0 Bye");
    conn_half_close(s->conn);
    session_enter(s, SS_FAREWELL);
}

static void on_fault(struct session *s, const struct smtp_command *command)
{
    switch (command->fault) {
    case SMTP_BAD_ADDRESS:
        if (command->verb == SMTP_MAIL)
            say_error(s, 501, "5.1.7 Bad sender address");
        else
            say_error(s, 501, "5.1.3 Bad recipient address");
        return;
    case SMTP_BAD_PARAMETER:
        say_error(s, 555, "5.5.4 Unknown parameter");
        return;
    case SMTP_BAD_ENCODING:
        say_error(s, 500, "5.5.2 Only printable ASCII here");
        return;
    case SMTP_GOOD:
    case SMTP_BAD_SYNTAX: break;
    }
    say_error(s, 501, "5.5.4 Syntax error");
}

static void on_command(struct session *s, const struct smtp_command *command)
{
    switch (command->verb) {
    case SMTP_HELO:
    case SMTP_EHLO:
    case SMTP_LHLO: on_hello(s, command); return;
    case SMTP_MAIL: on_mail(s, command); return;
    case SMTP_RCPT: on_rcpt(s, command); return;
    case SMTP_DATA: on_data(s); return;
    case SMTP_RSET: on_rset(s); return;
    case SMTP_NOOP: say(s, 250, "2.0.0 Ok"); return;
    case SMTP_QUIT: on_quit(s); return;
    case SMTP_VRFY: say(s, 252, "2.5.0 Send some mail to find out"); return;
    case SMTP_HELP: say(s, 214, "2.0.0 See RFC 5321"); return;
    case SMTP_STARTTLS: on_starttls(s); return;
    case SMTP_BDAT: /* its payload is not to be read as commands */
        say_and_end(s, 502, "5.5.1 CHUNKING is not offered");
        return;
    case SMTP_HTTP: say_and_end(s, 554, "5.5.1 This is a mail server"); return;
    case SMTP_OTHER:
    case SMTP_VERB_COUNT: break;
    }
    if (s->is_data_refused)
        say_and_end(s, 421, "4.7.0 Text without leave");
    else
        say_error(s, 500, "5.5.2 Unknown command");
}

/* The only listener for lines. */
static void session_on_line(struct session *s, const char *line, size_t length)
{
    struct smtp_command command;

    smtp_command_parse(line, length, &command);
    log_trace("smtp %s < %s", s->id, smtp_verb_name(command.verb));
    if (command.fault != SMTP_GOOD && command.verb != SMTP_OTHER)
        on_fault(s, &command);
    else
        on_command(s, &command);
    if (command.verb != SMTP_DATA && command.verb != SMTP_OTHER)
        s->is_data_refused = false;
}

/* ---- what the transaction says ---- */

/* The client may go on. */
static void session_listen(struct session *s)
{
    session_enter(s, SS_COMMAND);
    if (!s->is_reading)
        session_read(s);
}

static void on_reply(void *ctx, const struct smtp_reply *reply, bool is_last)
{
    struct session *s = ctx;

    if (s->state == SS_END)
        return;
    say_reply(s, reply);
    if (!is_last)
        return;
    if (s->state == SS_ORPHAN) {
        log_info("smtp %s client=gone before=%d", s->id, reply->code);
        session_end(s);
        return;
    }
    if (s->state == SS_VERDICT) {
        s->message_count++;
        s->awaits_proof = conn_input(s->conn)->used == 0;
        s->lacks_proof = !s->awaits_proof;
    } else if (!transaction_has_sender(s->transaction)) {
        after_data_refused(s);
        if (s->state == SS_END)
            return;
    }
    session_listen(s);
}

static void on_start_text(void *ctx)
{
    struct session *s = ctx;

    conn_printf(s->conn, "354 End with CR LF dot CR LF\r\n");
    smtp_data_init(&s->text);
    session_enter(s, SS_TEXT);
    if (!s->is_reading)
        session_read(s);
}

static void on_room(void *ctx)
{
    struct session *s = ctx;

    if (s->state != SS_TEXT)
        return;
    conn_resume(s->conn);
    if (!s->is_reading)
        session_read(s);
}

static const struct transaction_ops transaction_ops = {
    .on_reply = on_reply,
    .on_start_text = on_start_text,
    .on_room = on_room,
};

/* ---- input ---- */

/* Each step_ function takes something from the input; false: nothing to take,
   or not now. */
static bool step_line(struct session *s)
{
    struct buf *in = conn_input(s->conn);
    char line[SMTP_COMMAND_MAX];
    const char *end = in->used > 0 ? memchr(in->bytes, '\n', in->used) : NULL;
    size_t length;

    if (conn_output_bytes(s->conn) > OUTPUT_MAX)
        return false; /* on_drained goes on */
    if (end == NULL) {
        if (in->used < sizeof(line))
            return false;
        session_enter(s, SS_LONG);
        return true;
    }
    length = (size_t)(end - in->bytes);
    if (length >= sizeof(line)) {
        session_enter(s, SS_LONG);
        return true;
    }
    memcpy(line, in->bytes, length);
    buf_consume(in, length + 1);
    if (length > 0 && line[length - 1] == '\r')
        length--;
    session_on_line(s, line, length);
    return true;
}

static bool step_long(struct session *s)
{
    struct buf *in = conn_input(s->conn);
    const char *end = in->used > 0 ? memchr(in->bytes, '\n', in->used) : NULL;

    buf_consume(in, end != NULL ? (size_t)(end - in->bytes) + 1 : in->used);
    if (end == NULL)
        return false;
    session_enter(s, SS_COMMAND);
    say_error(s, 500, "5.5.2 Line too long");
    return true;
}

static bool step_text(struct session *s)
{
    struct buf *in = conn_input(s->conn);
    size_t piece = in->used < TEXT_CHUNK ? in->used : TEXT_CHUNK;
    size_t taken;

    if (!transaction_has_room(s->transaction)) {
        conn_pause(s->conn);
        return false;
    }
    if (piece == 0)
        return false;
    taken = smtp_data_read(&s->text, in->bytes, piece, &s->text_out);
    buf_consume(in, taken);
    transaction_text(s->transaction, s->text_out.bytes, s->text_out.used);
    buf_clear(&s->text_out);
    if (smtp_data_is_done(&s->text)) {
        buf_release(&s->text_out);
        session_enter(s, SS_VERDICT);
        transaction_end_text(s->transaction);
    }
    return true;
}

static bool session_step(struct session *s)
{
    switch (s->state) {
    case SS_COMMAND:
        if (s->options.site->is_draining &&
            !transaction_has_sender(s->transaction)) {
            say_and_end(s, 421, "4.3.2 Going down, try again");
            return false;
        }
        return step_line(s);
    case SS_LONG: return step_long(s);
    case SS_TEXT: return step_text(s);
    case SS_FAREWELL: /* what comes after QUIT is nothing */
        buf_consume(conn_input(s->conn), conn_input(s->conn)->used);
        return false;
    case SS_GREET:
    case SS_WAIT:
    case SS_TLS:
    case SS_VERDICT:
    case SS_ORPHAN:
    case SS_END:
    case SS_COUNT: break;
    }
    return false;
}

static void session_read(struct session *s)
{
    bool is_waiting;

    s->is_reading = true;
    while (session_step(s))
        continue;
    s->is_reading = false;
    if (s->lacks_proof && s->state == SS_COMMAND &&
        conn_input(s->conn)->used == 0) {
        s->lacks_proof = false;
        s->awaits_proof = true;
    }
    is_waiting = s->state == SS_WAIT || s->state == SS_VERDICT ||
                 s->state == SS_ORPHAN || s->state == SS_END ||
                 (s->state == SS_TEXT && !transaction_has_room(s->transaction));
    if (is_waiting || !conn_is_eof(s->conn) ||
        conn_output_bytes(s->conn) > OUTPUT_MAX)
        return;
    if (s->state == SS_FAREWELL && conn_output_bytes(s->conn) == 0)
        transaction_told(s->transaction);
    session_end(s);
}

static void on_input(void *ctx)
{
    struct session *s = ctx;

    if (s->awaits_proof && conn_input(s->conn)->used > 0) {
        s->awaits_proof = false;
        if (conn_output_bytes(s->conn) == 0)
            transaction_told(s->transaction);
    }
    session_read(s);
}

static void on_drained(void *ctx)
{
    struct session *s = ctx;

    if (s->state == SS_COMMAND)
        session_read(s);
}

static void on_ready(void *ctx)
{
    struct session *s = ctx;
    bool is_new = s->state == SS_GREET;
    char greeting[TRACE_GREETING_MAX];

    session_enter(s, SS_COMMAND);
    if (!is_new) {
        log_debug("smtp %s tls=%s", s->id, conn_tls_version(s->conn));
        return;
    }
    trace_greeting(s->options.site->node, s->options.is_lmtp, greeting);
    conn_printf(s->conn, "220 %s\r\n", greeting);
}

/* What the hop has been given the dot of must be heard out, client or not: its
   verdict belongs into the journal. */
static void on_end(void *ctx, const struct err *err)
{
    struct session *s = ctx;

    log_debug("smtp %s client %s: %s", s->id, state_name[s->state], err->text);
    if (s->state == SS_VERDICT) {
        conn_free(&s->conn);
        session_enter(s, SS_ORPHAN);
        return;
    }
    session_end(s);
}

static const struct conn_ops conn_ops = {.on_ready = on_ready,
                                         .on_input = on_input,
                                         .on_drained = on_drained,
                                         .on_end = on_end};

struct session *smtp_session_start_take(const struct session_options *options,
                                        int fd)
{
    static unsigned counter;
    struct session *s = mem_alloc(sizeof(*s));

    s->options = *options;
    snprintf(s->id, sizeof(s->id), "%llx-%x-%x", (unsigned long long)time(NULL),
             (unsigned)getpid(), ++counter);
    buf_init(&s->text_out, 2 * TEXT_CHUNK + 64);
    s->transaction = transaction_new(options->site, s->id, options->is_lmtp,
                                     &transaction_ops, s);
    s->conn =
        conn_accept_take(options->site->loop, fd, options->mode,
                         options->site->tls_server, INPUT_MAX, &conn_ops, s);
    conn_set_idle_ms(s->conn, IDLE_MS);
    snprintf(s->ip, sizeof(s->ip), "%s", conn_peer_address(s->conn));
    s->port = conn_peer_port(s->conn);
    tally_add(1, "sessions{protocol=\"smtp\"}");
    tally_add(1, "sessions_total{protocol=\"smtp\"}");
    return s;
}

void smtp_session_free(struct session **session)
{
    struct session *s = *session;

    if (s == NULL)
        return;
    *session = NULL;
    if (s->state != SS_END)
        tally_add(-1, "sessions{protocol=\"smtp\"}");
    transaction_free(&s->transaction);
    if (s->conn != NULL)
        conn_free(&s->conn);
    buf_release(&s->text_out);
    if (s->state == SS_END && !s->is_told)
        s->options.ended = NULL; /* tell_ended is still to come */
    else
        free(s);
}

void smtp_session_drain(struct session *session)
{
    if (session->state == SS_COMMAND && !session->is_reading)
        session_read(session);
}

struct transaction *smtp_session_transaction(struct session *session)
{
    return session->transaction;
}

struct smtp_session_link *smtp_session_link(struct session *session)
{
    return &session->link;
}
