/*
 * The stage for dialogues with a login process: it runs in a child process,
 * and the test plays everybody else (clients, backends, the state process) with
 * blocking sockets, one line after the other. Included by login_*_test.c.
 */
#ifndef TESTS_LOGIN_STAGE_H
#define TESTS_LOGIN_STAGE_H

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "account/seal.h"
#include "account/wire.h"
#include "base/channel.h"
#include "base/log.h"
#include "login-proxy/login.h"

#define PATIENCE_MS 8000
#define ADDRESS     "anna@example.net"

struct stage {
    char dir[64];
    char socket_path[96];
    struct secret private_key;
    struct login_options options;
    int imap_listen, pop3_listen; /* mailhaul's */
    int legacy_imap, legacy_pop3; /* where the test plays the servers */
    int local_imap, local_pop3;
    int state_listen;
    int state; /* the channel with the login process */
    pid_t child;
    int64_t version; /* of the passwords, in answers */
};

static inline uint16_t port_of(int fd)
{
    struct sockaddr_in in;
    socklen_t size = sizeof in;

    getsockname(fd, (struct sockaddr *)&in, &size);
    return ntohs(in.sin_port);
}

static inline int listen_somewhere(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline struct mail_url url_of(const char *scheme, int fd)
{
    char text[64];
    struct mail_url url;

    snprintf(text, sizeof text, "%s://127.0.0.1:%u", scheme, port_of(fd));
    assert_int_equal(mail_url_parse(text, &url, NULL), 0);
    return url;
}

static struct login *the_login;
static struct loop *the_loop;
static struct timer *the_last_moment;

static void stage_on_stopped(void *ctx)
{
    (void)ctx;
    loop_stop(the_loop);
}

static void stage_on_term(void *ctx)
{
    (void)ctx;
    login_free(&the_login);
    the_last_moment = timer_new(the_loop, stage_on_stopped, NULL);
    timer_start(the_last_moment, 20);
}

static void stage_on_usr1(void *ctx)
{
    (void)ctx;
    login_drain(the_login, stage_on_term, NULL);
}

static inline void stage_child(struct stage *st)
{
    struct dns *dns;

    log_open("stderr", getenv("LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR,
             "login", NULL);
    the_loop = loop_new();
    dns = dns_new(the_loop, NULL);
    st->options.loop = the_loop;
    st->options.dns = dns;
    the_login = login_start(&st->options);
    login_listen(the_login, st->imap_listen, MAIL_IMAP, TLS_NONE, true);
    login_listen(the_login, st->pop3_listen, MAIL_POP3, TLS_NONE, true);
    loop_on_signal(the_loop, SIGTERM, stage_on_term, NULL);
    loop_on_signal(the_loop, SIGUSR1, stage_on_usr1, NULL);
    loop_run(the_loop);
    timer_free(&the_last_moment);
    dns_free(&dns);
    secret_wipe(&st->private_key);
}

static inline json_t *state_hear(struct stage *st, const char *what)
{
    json_t *message = NULL;
    struct err err;

    do { /* what it has counted comes in between */
        json_decref(message);
        if (channel_receive_blocking(st->state, PATIENCE_MS, &message, &err) ==
            -1)
            fail_msg("waiting for %s: %s", what, err.text);
    } while (strcmp(what, "counts") != 0 &&
             strcmp(wire_text(message, "m"), "counts") == 0);
    assert_string_equal(wire_text(message, "m"), what);
    return message;
}

static inline void state_say(struct stage *st, json_t *message)
{
    struct err err;

    assert_non_null(message);
    assert_int_equal(channel_send_blocking(st->state, message, &err), 0);
    json_decref(message);
}

/* Nothing is asked of state for a moment. */
static inline void state_is_silent(struct stage *st)
{
    struct pollfd p = {.fd = st->state, .events = POLLIN};

    while (poll(&p, 1, 250) != 0)
        json_decref(state_hear(st, "counts"));
}

static inline void stage_open(struct stage *st)
{
    struct err err;

    snprintf(st->dir, sizeof st->dir, "/tmp/login-stage-XXXXXX");
    assert_non_null(mkdtemp(st->dir));
    snprintf(st->socket_path, sizeof st->socket_path, "%s/state", st->dir);
    st->state_listen = channel_listen_unix(st->socket_path, 0600, &err);
    assert_int_not_equal(st->state_listen, -1);
    st->imap_listen = listen_somewhere();
    st->pop3_listen = listen_somewhere();
    st->legacy_imap = listen_somewhere();
    st->legacy_pop3 = listen_somewhere();
    st->local_imap = listen_somewhere();
    st->local_pop3 = listen_somewhere();
    st->options.state_socket = st->socket_path;
    st->options.node = "mx.example.net";
    st->options.local_imap = url_of("imap", st->local_imap);
    st->options.local_pop3 = url_of("pop3", st->local_pop3);
    if (st->options.refuse_ms == 0)
        st->options.refuse_ms = -1;
    secret_init(&st->private_key);
    assert_int_equal(
        seal_make_keys(st->options.seal_public_key, &st->private_key, &err), 0);
    st->child = fork();
    if (st->child == 0) {
        stage_child(st);
        exit(0); /* the leak checker looks here */
    }
    st->state = accept(st->state_listen, NULL, NULL);
    json_decref(state_hear(st, "hello"));
    state_say(st, json_pack("{s:s}", "m", "welcome"));
}

static inline void stage_close(struct stage *st)
{
    int status = -1;

    kill(st->child, SIGTERM);
    waitpid(st->child, &status, 0);
    assert_int_equal(status, 0);
    close(st->state);
    close(st->state_listen);
    close(st->imap_listen);
    close(st->pop3_listen);
    close(st->legacy_imap);
    close(st->legacy_pop3);
    close(st->local_imap);
    close(st->local_pop3);
    unlink(st->socket_path);
    rmdir(st->dir);
    secret_wipe(&st->private_key);
}

/* ---- lines ---- */

static inline void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* One line without its line end; -1 at the end of the stream. */
static inline int read_line(int fd, char line[4096])
{
    size_t used = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char c;

        if (poll(&p, 1, PATIENCE_MS) != 1)
            fail_msg("nobody speaks; so far: %.*s", (int)used, line);
        if (read(fd, &c, 1) != 1)
            return -1;
        if (c == '\n')
            break;
        if (c != '\r' && used < 4095)
            line[used++] = c;
    }
    line[used] = '\0';
    return 0;
}

static inline void hear(int fd, const char *expected)
{
    char line[4096];

    if (read_line(fd, line) == -1)
        fail_msg("closed instead of: %s", expected);
    assert_string_equal(line, expected);
}

/* A line that begins so. */
static inline void hear_start(int fd, const char *expected)
{
    char line[4096];

    if (read_line(fd, line) == -1)
        fail_msg("closed instead of: %s", expected);
    if (strncmp(line, expected, strlen(expected)) != 0)
        fail_msg("\"%s\" instead of \"%s...\"", line, expected);
}

static inline void hear_end(int fd)
{
    char line[4096];

    if (read_line(fd, line) != -1)
        fail_msg("\"%s\" instead of the end", line);
    close(fd);
}

static inline bool is_silent(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 250) == 0;
}

static inline int connect_to(int listening)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons(port_of(listening));
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static inline int accept_from(int listening)
{
    struct pollfd p = {.fd = listening, .events = POLLIN};

    if (poll(&p, 1, PATIENCE_MS) != 1)
        fail_msg("nobody connects");
    return accept(listening, NULL, NULL);
}

/* ---- the state process ---- */

/* Hear a question and answer it: account 0 or 7. */
static inline void state_answer(struct stage *st, const char *question,
                                const char *answer, int account, int epoch,
                                const char *password_state)
{
    json_t *asked = state_hear(st, question);
    char imap[64];
    char pop3[64];

    snprintf(imap, sizeof imap, "imap://127.0.0.1:%u",
             port_of(st->legacy_imap));
    snprintf(pop3, sizeof pop3, "pop3://127.0.0.1:%u",
             port_of(st->legacy_pop3));
    state_say(st,
              json_pack("{s:s, s:I, s:s, s:i, s:i, s:s, s:s, s:s, s:s, "
                        "s:s, s:s, s:I, s:b}",
                        "m", "answer", "id",
                        (json_int_t)wire_int(asked, "id", -1), "answer", answer,
                        "account", account, "epoch", epoch, "password_state",
                        password_state, "address", ADDRESS, "legacy_user",
                        "anna", "local_user", ADDRESS, "imap", imap, "pop3",
                        pop3, "version", (json_int_t)st->version, "ask_legacy",
                        strcmp(password_state, "learnt") == 0));
    json_decref(asked);
}

static inline void state_order(struct stage *st, const char *what, int epoch)
{
    state_say(st, json_pack("{s:s, s:i, s:s, s:i, s:i}", "m", what, "account",
                            7, "address", ADDRESS, "epoch", epoch,
                            "quiet_within_ms", 8000));
}

/* The legacy IMAP server lets anna in with "secret" and shows her INBOX. */
static inline int legacy_lets_in(struct stage *st)
{
    int legacy = accept_from(st->legacy_imap);

    say(legacy, "* OK [CAPABILITY IMAP4rev1] legacy\r\n");
    hear(legacy, "L LOGIN \"anna\" \"secret\"");
    say(legacy, "L OK [CAPABILITY IMAP4rev1 IDLE] in\r\n");
    return legacy;
}

static inline void legacy_is_proven(int legacy)
{
    hear(legacy, "P1 NAMESPACE");
    say(legacy, "* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\nP1 OK\r\n");
    hear(legacy, "P3 EXAMINE INBOX");
    say(legacy, "* 3 EXISTS\r\n* 0 RECENT\r\nP3 OK [READ-ONLY] done\r\n");
    hear(legacy, "P4 CLOSE");
    say(legacy, "P4 OK\r\n");
}

static inline int imap_client(struct stage *st)
{
    int client = connect_to(st->imap_listen);

    hear_start(client, "* OK [CAPABILITY IMAP4rev1");
    return client;
}

static inline int pop3_client(struct stage *st)
{
    int client = connect_to(st->pop3_listen);

    hear_start(client, "+OK mx.example.net");
    return client;
}

#endif
