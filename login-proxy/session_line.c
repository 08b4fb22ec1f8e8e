#include "login-proxy/session_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define TEXT_MAX 128 /* bytes of a peer's text that are kept */

struct line {
    char text[1800];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *l,
                                                      const char *format, ...)
{
    size_t room = sizeof l->text - l->used;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(l->text + l->used, room, format, args);
    va_end(args);
    if (n > 0)
        l->used += (size_t)n < room ? (size_t)n : room - 1;
}

/* The value of a key as a peer wrote it. */
static void put_text(struct line *l, const char *key, const char *text,
                     size_t max)
{
    put(l, " %s=\"", key);
    for (size_t i = 0; text != NULL && text[i] != '\0' && i < max; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\')
            put(l, "\\x%02x", c);
        else
            put(l, "%c", c);
    }
    put(l, "\"");
}

const char *session_protocol_name(const struct session *s)
{
    return s->protocol == MAIL_POP3 ? "pop3" : "imap";
}

const char *session_side_name(const struct session *s)
{
    switch (s->side) {
    case SESSION_SIDE_NONE: break;
    case SESSION_SIDE_LEGACY: return "legacy";
    case SESSION_SIDE_LOCAL: return "local";
    }
    return "none";
}

static const char *or_dash(const char *word)
{
    return word != NULL && word[0] != '\0' ? word : "-";
}

/* What is bounded comes first: a hostile name must not push it off the line. */
static void put_session(struct line *l, const struct session *s)
{
    put(l, " session=%s protocol=%s", s->id, session_protocol_name(s));
    put(l, " ip=%s port=%u own_ip=%s own_port=%u", or_dash(s->peer),
        s->peer_port, or_dash(s->own), s->own_port);
    put(l, " tls=%s cipher=%s mechanism=%s", or_dash(s->tls_version),
        or_dash(s->cipher), or_dash(s->mechanism));
    put(l, " route=%s server=%s server_ip=%s", session_side_name(s),
        or_dash(s->server), or_dash(s->server_ip));
}

static void put_peer_texts(struct line *l, const struct session *s)
{
    put_text(l, "user", s->user, TEXT_MAX);
    put_text(l, "address", s->address, ADDRESS_MAX);
    put_text(l, "sni", s->server_name, TEXT_MAX);
    put_text(l, "client", s->client_id, TEXT_MAX);
}

static long long ms_since(const struct session *s, int64_t then_ms)
{
    return (long long)(loop_now_ms(s->login->options.loop) - then_ms);
}

void session_line_accepted(const struct session *s)
{
    struct line l = {.used = 0};

    put_session(&l, s);
    put(&l, " by=%s ms=%lld", s->is_by_master ? "master" : "password",
        ms_since(s, s->asked_ms));
    put_peer_texts(&l, s);
    log_info("login accepted%s", l.text);
}

void session_line_failed(const struct session *s, const char *reason,
                         const char *text)
{
    bool is_refused = strcmp(reason, "denied") == 0;
    struct line l = {.used = 0};

    put_session(&l, s);
    put(&l, " reason=%s ms=%lld", reason, ms_since(s, s->asked_ms));
    put_peer_texts(&l, s);
    put_text(&l, "text", text, TEXT_MAX);
    log_info("login %s%s", is_refused ? "refused" : "temporary", l.text);
}

void session_line_end(const struct session *s)
{
    uint64_t in = s->relay ? relay_bytes_to_backend(s->relay) : 0;
    uint64_t out = s->relay ? relay_bytes_to_client(s->relay) : 0;
    struct line l = {.used = 0};

    put_session(&l, s);
    put(&l, " in=%llu out=%llu ms=%lld reason=%s", (unsigned long long)in,
        (unsigned long long)out, ms_since(s, s->began_ms), s->reason);
    if (s->kick_reason != NULL)
        put_text(&l, "why", s->kick_reason, TEXT_MAX);
    put_peer_texts(&l, s);
    log_info("session end%s", l.text);
}
