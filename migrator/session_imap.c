#include "migrator/session_imap.h"

#include <libetpan/libetpan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/master_name.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tls.h"

#define WAIT_MS         60000
#define LINE_MAX_BYTES  16384 /* of what a peer says before and at login */
#define MASTER_NAME_MAX 640
#define LINES_MAX       200 /* untagged lines of one command */
#define STREAM_BUFFER   65536
#define CAPABILITY_SIZE 4096

struct session_imap {
    struct tls_client *trust;
    struct tls_stream *stream;
    mailimap *library; /* owned; NULL during the login */
    char input[LINE_MAX_BYTES];
    size_t used, taken;
    unsigned tag;
    bool is_broken;
    char capabilities[CAPABILITY_SIZE]; /* " WORD WORD " in upper case */
    struct err stream_err;
};

enum reply { REPLY_OK, REPLY_NO, REPLY_BAD, REPLY_CONTINUE };

/* ---- the stream under the library ---- */

static ssize_t low_read(mailstream_low *low, void *bytes, size_t size)
{
    struct session_imap *s = low->data;
    size_t left = s->used - s->taken;
    ssize_t got;

    if (left > 0) { /* what came in one piece with the answer to our login */
        if (left > size)
            left = size;
        memcpy(bytes, s->input + s->taken, left);
        s->taken += left;
        return (ssize_t)left;
    }
    got = tls_stream_read(s->stream, bytes, size, &s->stream_err);
    if (got == 0)
        err_set(&s->stream_err, ERR_RETRY, "the server closed the connection");
    if (got <= 0) {
        s->is_broken = true;
        return -1; /* at 0 the library would read on for ever in a literal */
    }
    return got;
}

static ssize_t low_write(mailstream_low *low, const void *bytes, size_t size)
{
    struct session_imap *s = low->data;

    if (s->is_broken ||
        tls_stream_write(s->stream, bytes, size, &s->stream_err) == -1) {
        s->is_broken = true;
        return -1;
    }
    return (ssize_t)size;
}

static int low_close(mailstream_low *low)
{
    (void)low; /* the stream is closed by session_imap_close */
    return 0;
}

static int low_fd(mailstream_low *low)
{
    const struct session_imap *s = low->data;

    return tls_stream_fd(s->stream);
}

static void low_free(mailstream_low *low)
{
    free(low);
}

static mailstream_low_driver driver = {
    .mailstream_read = low_read,
    .mailstream_write = low_write,
    .mailstream_close = low_close,
    .mailstream_get_fd = low_fd,
    .mailstream_free = low_free,
};

/* ---- the dialogue of the login ---- */

/* One line without its end; it lives until the next call. */
static int read_line(struct session_imap *s, char **line_out, struct err *err)
{
    for (;;) {
        char *start = s->input + s->taken;
        char *end = memchr(start, '\n', s->used - s->taken);
        ssize_t got;

        if (end != NULL) {
            s->taken = (size_t)(end - s->input) + 1;
            if (end > start && end[-1] == '\r')
                end--;
            *end = '\0';
            *line_out = start;
            return 0;
        }
        memmove(s->input, start, s->used - s->taken);
        s->used -= s->taken;
        s->taken = 0;
        if (s->used == sizeof(s->input))
            return err_set(err, ERR_PEER, "line too long");
        got = tls_stream_read(s->stream, s->input + s->used,
                              sizeof(s->input) - s->used, err);
        if (got == -1)
            return -1;
        if (got == 0)
            return err_set(err, ERR_RETRY, "the server closed the connection");
        s->used += (size_t)got;
    }
}

static void keep_capabilities(struct session_imap *s, const char *words)
{
    size_t length = strcspn(words, "]\r\n");

    if (length + 3 > sizeof(s->capabilities))
        length = sizeof(s->capabilities) - 3;
    snprintf(s->capabilities, sizeof(s->capabilities), " %.*s ", (int)length,
             words);
}

static const char *find_case(const char *text, const char *word)
{
    return strcasestr(text, word);
}

/* Exchange, Gmail and others say in words what a code should say. */
static bool is_temporary(const char *text)
{
    static const char *const signs[] = {
        "[UNAVAILABLE]", "[LIMIT]",       "[INUSE]",
        "[IN-USE]",      "THROTTLED",     "[OVERQUOTA]",
        "backoff time",  "too many",      "try again",
        "temporar",      "not connected", "maximum number of connections"};

    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (find_case(text, signs[i]) != NULL)
            return true;
    return false;
}

/* Read up to the tagged answer of the current tag (or a continuation). *text
   is what follows the status word. */
static int read_reply(struct session_imap *s, enum reply *reply_out,
                      char **text_out, struct err *err)
{
    char tag[16];
    int length = snprintf(tag, sizeof(tag), "m%u ", s->tag);
    char *line;

    for (int i = 0; i < LINES_MAX; i++) {
        if (read_line(s, &line, err) == -1)
            return -1;
        if (line[0] == '+') {
            *reply_out = REPLY_CONTINUE;
            *text_out = line + 1;
            return 0;
        }
        if (strncasecmp(line, "* CAPABILITY ", 13) == 0)
            keep_capabilities(s, line + 13);
        if (strncasecmp(line, "* BYE", 5) == 0)
            return err_set(err, ERR_RETRY, "server says %s", log_safe(line));
        if (strncmp(line, tag, (size_t)length) != 0)
            continue;
        line += length;
        if (strncasecmp(line, "OK", 2) == 0)
            *reply_out = REPLY_OK;
        else if (strncasecmp(line, "NO", 2) == 0)
            *reply_out = REPLY_NO;
        else
            *reply_out = REPLY_BAD;
        if (strncasecmp(line, "OK [CAPABILITY ", 15) == 0)
            keep_capabilities(s, line + 15);
        *text_out = line;
        return 0;
    }
    return err_set(err, ERR_PEER, "no end of untagged lines");
}

/* Send one command and read its answer. */
static int command(struct session_imap *s, const char *words,
                   enum reply *reply_out, char **text_out, struct err *err)
{
    struct buf line;
    int rc;

    buf_init(&line, 2 * LINE_MAX_BYTES);
    if (buf_printf(&line, "m%u %s\r\n", ++s->tag, words) == -1)
        return err_set(err, ERR_SETUP, "command too long");
    rc = tls_stream_write(s->stream, line.bytes, line.used, err);
    buf_wipe(&line);
    if (rc == -1)
        return -1;
    return read_reply(s, reply_out, text_out, err);
}

static int ask_capabilities(struct session_imap *s, struct err *err)
{
    enum reply reply;
    char *text;

    if (command(s, "CAPABILITY", &reply, &text, err) == -1)
        return -1;
    if (reply != REPLY_OK)
        return err_set(err, ERR_PEER, "CAPABILITY: %s", log_safe(text));
    return 0;
}

static int start_tls(struct session_imap *s, struct err *err)
{
    enum reply reply;
    char *text;

    if (command(s, "STARTTLS", &reply, &text, err) == -1)
        return -1;
    if (reply != REPLY_OK)
        return err_set(err, ERR_SETUP, "STARTTLS refused: %s", log_safe(text));
    s->used = s->taken = 0; /* sent in clear: never used */
    s->capabilities[0] = '\0';
    return tls_stream_start(s->stream, err);
}

static int read_greeting(struct session_imap *s, struct err *err)
{
    char *line;

    if (read_line(s, &line, err) == -1)
        return -1;
    if (strncasecmp(line, "* OK", 4) != 0 &&
        strncasecmp(line, "* PREAUTH", 9) != 0)
        return err_set(
            err, strncasecmp(line, "* BYE", 5) == 0 ? ERR_RETRY : ERR_PEER,
            "greeting: %s", log_safe(line));
    return 0;
}

/* Send what the answer "+" asked for, then read the next answer. */
static int continue_with(struct session_imap *s, struct buf *bytes,
                         enum reply *reply_out, char **text_out,
                         struct err *err)
{
    int rc = tls_stream_write(s->stream, bytes->bytes, bytes->used, err);

    buf_wipe(bytes);
    return rc == -1 ? -1 : read_reply(s, reply_out, text_out, err);
}

static bool needs_literal(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)bytes[i] >= 0x80)
            return true;
    return length > 900;
}

static void append_quoted(struct buf *line, const char *bytes, size_t length)
{
    buf_append(line, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\')
            buf_append(line, "\\", 1);
        buf_append(line, bytes + i, 1);
    }
    buf_append(line, "\"", 1);
}

/* LOGIN with quoted strings, or literals where a byte has bit 8 set. */
static int login_plainly(struct session_imap *s, const struct session_login *l,
                         enum reply *reply, char **text, struct err *err)
{
    const char *parts[2] = {l->user, l->password->bytes};
    size_t lengths[2] = {strlen(l->user), l->password->length};
    struct buf line;

    buf_init(&line, LINE_MAX_BYTES);
    buf_printf(&line, "m%u LOGIN", ++s->tag);
    for (int i = 0; i < 2; i++) {
        buf_append(&line, " ", 1);
        if (!needs_literal(parts[i], lengths[i])) {
            append_quoted(&line, parts[i], lengths[i]);
            continue;
        }
        buf_printf(&line, "{%zu}\r\n", lengths[i]);
        if (continue_with(s, &line, reply, text, err) == -1)
            return -1;
        if (*reply != REPLY_CONTINUE)
            return 0;
        buf_append(&line, parts[i], lengths[i]);
    }
    buf_append(&line, "\r\n", 2);
    return continue_with(s, &line, reply, text, err);
}

static void append_base64(struct buf *out, const unsigned char *in,
                          size_t length)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        unsigned bits = (unsigned)in[i] << 16;
        char four[4] = {0, 0, '=', '='};

        if (left > 1)
            bits |= (unsigned)in[i + 1] << 8;
        if (left > 2)
            bits |= in[i + 2];
        four[0] = digits[bits >> 18];
        four[1] = digits[bits >> 12 & 63];
        if (left > 1)
            four[2] = digits[bits >> 6 & 63];
        if (left > 2)
            four[3] = digits[bits & 63];
        buf_append(out, four, 4);
    }
}

/* AUTHENTICATE PLAIN; with a master user he logs in as the mailbox's user. */
static int login_by_sasl(struct session_imap *s, const struct session_login *l,
                         enum reply *reply, char **text, struct err *err)
{
    bool has_master = l->master_user != NULL && l->master_user[0] != '\0';
    const char *authcid = has_master ? l->master_user : l->user;
    struct buf plain, line;

    buf_init(&plain, 4096);
    buf_init(&line, LINE_MAX_BYTES);
    if (has_master)
        buf_append_text(&plain, l->user);
    buf_append(&plain, "", 1);
    buf_append_text(&plain, authcid);
    buf_append(&plain, "", 1);
    buf_append(&plain, l->password->bytes, l->password->length);
    if (command(s, "AUTHENTICATE PLAIN", reply, text, err) == -1) {
        buf_wipe(&plain);
        return -1;
    }
    if (*reply != REPLY_CONTINUE) {
        buf_wipe(&plain);
        return 0;
    }
    append_base64(&line, (const unsigned char *)plain.bytes, plain.used);
    buf_append(&line, "\r\n", 2);
    buf_wipe(&plain);
    return continue_with(s, &line, reply, text, err);
}

/* The words of the login: by the master's own name for the user where SASL
   cannot say it, or is not to. */
static int log_in_as(struct session_imap *s, const struct session_login *l,
                     enum reply *reply, char **text, struct err *err)
{
    bool has_master = l->master_user != NULL && l->master_user[0] != '\0';
    bool has_template = l->master_login != NULL && l->master_login[0] != '\0';
    bool has_sasl = session_imap_has(s, "AUTH=PLAIN");
    bool is_disabled = session_imap_has(s, "LOGINDISABLED");
    struct session_login named = *l;
    char name[MASTER_NAME_MAX];

    s->capabilities[0] = '\0'; /* they change with the login */
    if (has_master && (has_template || !has_sasl)) {
        if (master_name_fill(has_template ? l->master_login : "", l->user,
                             l->master_user, name, sizeof(name), err) == -1)
            return -1;
        named.user = name;
        named.master_user = NULL;
        has_master = false;
    }
    return has_master || is_disabled
               ? login_by_sasl(s, &named, reply, text, err)
               : login_plainly(s, &named, reply, text, err);
}

static int log_in(struct session_imap *s, const struct session_login *l,
                  struct err *err)
{
    enum reply reply;
    char *text;
    int rc = log_in_as(s, l, &reply, &text, err);

    if (rc == -1)
        return err_prefix(err, "login");
    if (reply == REPLY_OK)
        return 0;
    if (reply == REPLY_NO && !is_temporary(text) &&
        find_case(text, "[SERVERBUG]") == NULL)
        return err_set(err, ERR_DENIED, "login refused: %s", log_safe(text));
    return err_set(err, ERR_RETRY, "login: %s", log_safe(text));
}

static int say_hello(struct session_imap *s, const struct session_login *l,
                     struct err *err)
{
    if (read_greeting(s, err) == -1)
        return -1;
    if (l->url->tls == TLS_STARTTLS && start_tls(s, err) == -1)
        return -1;
    if (ask_capabilities(s, err) == -1 || log_in(s, l, err) == -1)
        return -1;
    if (s->capabilities[0] == '\0' && ask_capabilities(s, err) == -1)
        return -1;
    return 0;
}

/* QRESYNC includes CONDSTORE (RFC 7162). A refusal only costs speed. */
static int enable_extensions(struct session_imap *s, struct err *err)
{
    enum reply reply;
    char *text;

    if (!session_imap_has(s, "ENABLE"))
        return 0;
    if (session_imap_has(s, "QRESYNC"))
        return command(s, "ENABLE QRESYNC", &reply, &text, err);
    if (session_imap_has(s, "CONDSTORE"))
        return command(s, "ENABLE CONDSTORE", &reply, &text, err);
    return 0;
}

static int hand_over(struct session_imap *s, struct err *err)
{
    mailstream_low *low = mailstream_low_new(s, &driver);

    s->library = mailimap_new(0, NULL);
    if (low == NULL || s->library == NULL)
        return err_set(err, ERR_SETUP, "out of memory");
    s->library->imap_stream = mailstream_new(low, STREAM_BUFFER);
    s->library->imap_state = MAILIMAP_STATE_AUTHENTICATED;
    s->library->imap_connection_info = mailimap_connection_info_new();
    return 0;
}

int session_imap_open(const struct session_login *login,
                      struct session_imap **out, struct err *err)
{
    struct session_imap *s = mem_alloc(sizeof(*s));
    struct tls_target target = {.host = login->url->host,
                                .port = login->url->port,
                                .mode = login->url->tls};
    const char *ca = login->ca_file;
    const char *minimum = login->tls_minimum;

    if (target.mode != TLS_NONE) {
        s->trust = tls_client_new(
            ca != NULL && ca[0] != '\0' ? ca : NULL,
            minimum != NULL && minimum[0] != '\0' ? minimum : NULL, err);
        if (s->trust == NULL)
            goto failed;
    }
    s->stream = tls_stream_open(&target, s->trust, WAIT_MS, err);
    if (s->stream == NULL || say_hello(s, login, err) == -1 ||
        enable_extensions(s, err) == -1 || hand_over(s, err) == -1)
        goto failed;
    *out = s;
    return 0;
failed:
    err_prefix(err, "%s:%u", login->url->host, login->url->port);
    s->is_broken = true;
    session_imap_close(&s);
    return -1;
}

void session_imap_close(struct session_imap **session)
{
    struct session_imap *s = *session;

    *session = NULL;
    if (s == NULL)
        return;
    if (s->library != NULL) {
        if (!s->is_broken)
            mailimap_logout(s->library);
        if (s->library->imap_stream != NULL)
            mailstream_close(s->library->imap_stream);
        s->library->imap_stream = NULL;
        mailimap_free(s->library);
    }
    if (s->stream != NULL)
        tls_stream_close(&s->stream);
    if (s->trust != NULL)
        tls_client_free(&s->trust);
    free(s);
}

struct mailimap *session_imap_library(struct session_imap *session)
{
    return session->library;
}

bool session_imap_has(const struct session_imap *session,
                      const char *capability)
{
    size_t length = strlen(capability);
    const char *at = session->capabilities;

    while ((at = find_case(at, capability)) != NULL) {
        if (at > session->capabilities && at[-1] == ' ' && at[length] == ' ')
            return true;
        at += length;
    }
    return false;
}

bool session_imap_is_broken(const struct session_imap *session)
{
    return session->is_broken;
}

/* ---- commands in our own words ---- */

static int lose(struct session_imap *s, const char *why, struct err *err)
{
    s->is_broken = true;
    if (s->stream_err.kind != ERR_NONE)
        return err_set(err, s->stream_err.kind, "%s", s->stream_err.text);
    return err_set(err, ERR_RETRY, "%s", why);
}

/* Through the library's buffer: it may have read ahead. */
static int read_response(struct session_imap *s, struct imap_resp *response,
                         struct err *err)
{
    enum parse_result result = PARSE_MORE;

    while (result == PARSE_MORE) {
        char byte;
        size_t used;

        if (mailstream_read(s->library->imap_stream, &byte, 1) != 1)
            return lose(s, "connection lost", err);
        result = imap_resp_feed(response, &byte, 1, &used);
    }
    return result == PARSE_DONE ? 0 : lose(s, "answer not understood", err);
}

static int send_command(struct session_imap *s, const char *command,
                        struct err *err)
{
    mailstream *stream = s->library->imap_stream;
    char tag[16];
    int length = snprintf(tag, sizeof(tag), "m%u ", ++s->tag);

    if (mailstream_write(stream, tag, (size_t)length) == -1 ||
        mailstream_write(stream, command, strlen(command)) == -1 ||
        mailstream_write(stream, "\r\n", 2) == -1 ||
        mailstream_flush(stream) == -1)
        return lose(s, "connection lost", err);
    return 0;
}

/* The tagged answer is the end. */
static int judge(struct session_imap *s, const struct imap_resp *response,
                 struct err *err)
{
    char text[300];

    if (response->status == IMAP_OK)
        return 0;
    snprintf(text, sizeof(text), "%.*s", (int)response->rest.length,
             response->rest.bytes);
    if (response->status != IMAP_NO && response->status != IMAP_BAD)
        return lose(s, log_safe(text), err);
    return err_set(err, is_temporary(text) ? ERR_RETRY : ERR_ITEM, "%s",
                   log_safe(text));
}

int session_imap_ask(struct session_imap *session, const char *command,
                     session_untagged_fn *fn, void *ctx, struct err *err)
{
    struct imap_resp response;
    int rc;

    if (send_command(session, command, err) == -1)
        return -1;
    imap_resp_init(&response);
    for (;;) {
        rc = read_response(session, &response, err);
        if (rc == -1)
            break;
        if (response.kind == IMAP_TAGGED) {
            rc = judge(session, &response, err);
            break;
        }
        if (response.status == IMAP_BYE) {
            rc = lose(session, "the server says BYE", err);
            break;
        }
        if (response.kind == IMAP_UNTAGGED)
            fn(ctx, &response);
    }
    imap_resp_release(&response);
    return rc;
}

int session_imap_fail(struct session_imap *session, int result,
                      const char *what, struct err *err)
{
    const struct mailimap_response_info *said =
        session->library->imap_response_info;
    const char *words = session->library->imap_response;
    char text[300];

    /* the library keeps the response code apart from the text */
    snprintf(text, sizeof(text), "%s%s%s%s",
             said != NULL && said->rsp_atom != NULL ? "[" : "",
             said != NULL && said->rsp_atom != NULL ? said->rsp_atom : "",
             said != NULL && said->rsp_atom != NULL ? "] " : "",
             words != NULL ? words : "");

    switch (result) {
    case MAILIMAP_ERROR_STREAM:
        session->is_broken = true;
        if (session->stream_err.kind != ERR_NONE)
            return err_set(err, session->stream_err.kind, "%s: %s", what,
                           session->stream_err.text);
        return err_set(err, ERR_RETRY, "%s: connection lost", what);
    case MAILIMAP_ERROR_PARSE:
    case MAILIMAP_ERROR_FATAL:
    case MAILIMAP_ERROR_MEMORY:
    case MAILIMAP_ERROR_BAD_STATE:
    case MAILIMAP_ERROR_PROTOCOL: /* BAD, or an answer to nothing we asked */
        session->is_broken = true;
        return err_set(err, ERR_RETRY, "%s: answer not understood (%d) %s",
                       what, result, log_safe(text));
    default: break;
    }
    if (is_temporary(text))
        return err_set(err, ERR_RETRY, "%s: %s", what, log_safe(text));
    return err_set(err, ERR_ITEM, "%s refused: %s", what,
                   text[0] != '\0' ? log_safe(text) : "no reason given");
}
