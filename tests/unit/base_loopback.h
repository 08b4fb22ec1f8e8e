/*
 * Two conns on one loop over 127.0.0.1, what happened to each written down, and
 * certificates made for the run.
 */
#ifndef TESTS_UNIT_BASE_LOOPBACK_H
#define TESTS_UNIT_BASE_LOOPBACK_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/conn.h"
#include "base/dns.h"
#include "base/loop.h"
#include "tests/unit/run_program.h"

/* What was told to the user of one conn. */
struct seen {
    struct conn *conn;
    struct buf text; /* everything taken from conn_input() */
    int ready, drained, end, eof, inputs;
    bool keep_input; /* leave it where it is */
    struct err err;
};

static inline void seen_on_ready(void *ctx)
{
    ((struct seen *)ctx)->ready++;
}

static inline void seen_on_drained(void *ctx)
{
    ((struct seen *)ctx)->drained++;
}

static inline void seen_on_input(void *ctx)
{
    struct seen *s = ctx;
    struct buf *input = conn_input(s->conn);

    s->inputs++;
    s->eof += conn_is_eof(s->conn);
    if (s->keep_input)
        return;
    buf_append(&s->text, input->bytes, input->used);
    buf_clear(input);
}

static inline void seen_on_end(void *ctx, const struct err *err)
{
    struct seen *s = ctx;

    s->end++;
    s->err = *err;
}

static const struct conn_ops seen_ops = {
    .on_ready = seen_on_ready,
    .on_input = seen_on_input,
    .on_drained = seen_on_drained,
    .on_end = seen_on_end,
};

static inline void seen_init(struct seen *s)
{
    memset(s, 0, sizeof *s);
    buf_init(&s->text, 64u << 20);
}

static inline void seen_release(struct seen *s)
{
    conn_free(&s->conn);
    buf_release(&s->text);
}

/* Let the loop run for some milliseconds. */
static inline void stop_loop(void *loop)
{
    loop_stop(loop);
}

static inline void spin(struct loop *loop, int wait_ms)
{
    struct timer *timer = timer_new(loop, stop_loop, loop);

    timer_start(timer, wait_ms);
    loop_run(loop);
    timer_free(&timer);
}

/* Let it run until the condition holds; fail after ten seconds. */
#define WAIT_FOR(loop, condition)                                              \
    do {                                                                       \
        int64_t until_ms_ = loop_now_ms(loop) + 10000;                         \
        bool holds_;                                                           \
        while (!(holds_ = (condition)) && loop_now_ms(loop) < until_ms_)       \
            spin(loop, 1);                                                     \
        if (!holds_)                                                           \
            fail_msg("never: %s", #condition);                                 \
    } while (0)

static inline int listen_loopback(uint16_t *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

/* A connected TCP pair of plain sockets. */
static inline void tcp_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    uint16_t port;
    int listener = listen_loopback(&port);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(pair[0], (struct sockaddr *)&address, sizeof address), 0);
    pair[1] = accept(listener, NULL, NULL);
    assert_true(pair[1] >= 0);
    close(listener);
}

static char cert_dir[64];

static inline void run_openssl(const char *const *argv)
{
    assert_int_equal(run_program(argv), 0);
}

static inline const char *in_cert_dir(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", cert_dir, name);
    return path;
}

static inline void make_certificate(const char *cert, const char *key,
                                    const char *subject, const char *names,
                                    bool is_signed)
{
    const char *argv[32] = {"openssl",
                            "req",
                            "-x509",
                            "-newkey",
                            "ec",
                            "-pkeyopt",
                            "ec_paramgen_curve:P-256",
                            "-nodes",
                            "-days",
                            "2",
                            "-keyout",
                            key,
                            "-out",
                            cert,
                            "-subj",
                            subject};
    int n = 16;

    if (names != NULL) {
        argv[n++] = "-addext";
        argv[n++] = names;
    }
    if (is_signed) {
        argv[n++] = "-CA";
        argv[n++] = in_cert_dir("ca.pem");
        argv[n++] = "-CAkey";
        argv[n++] = in_cert_dir("ca.key");
        argv[n++] = "-addext";
        argv[n++] = "basicConstraints=CA:FALSE";
    }
    run_openssl(argv);
}

static inline int make_certificates(void **state)
{
    (void)state;
    snprintf(cert_dir, sizeof cert_dir, "/tmp/base-certs-XXXXXX");
    assert_non_null(mkdtemp(cert_dir));
    make_certificate(in_cert_dir("ca.pem"), in_cert_dir("ca.key"),
                     "/CN=Test CA", NULL, false);
    make_certificate(in_cert_dir("other.pem"), in_cert_dir("other.key"),
                     "/CN=Other CA", NULL, false);
    make_certificate(in_cert_dir("cert.pem"), in_cert_dir("cert.key"),
                     "/CN=localhost",
                     "subjectAltName=DNS:localhost,IP:127.0.0.1", true);
    make_certificate(in_cert_dir("wrong.pem"), in_cert_dir("wrong.key"),
                     "/CN=elsewhere", "subjectAltName=DNS:elsewhere.example",
                     true);
    return 0;
}

static inline int remove_certificates(void **state)
{
    static const char *const names[] = {
        "ca.pem",   "ca.key",   "other.pem", "other.key",
        "cert.pem", "cert.key", "wrong.pem", "wrong.key",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_cert_dir(names[i]));
    rmdir(cert_dir);
    return 0;
}

static inline char *read_whole(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

static inline struct tls_server *load_server(const char *cert, const char *key)
{
    char *cert_pem = read_whole(in_cert_dir(cert));
    char *key_pem = read_whole(in_cert_dir(key));
    struct err err = {0};
    struct tls_server *tls = tls_server_new(cert_pem, key_pem, NULL, &err);

    free(cert_pem);
    free(key_pem);
    assert_non_null(tls);
    return tls;
}

static inline struct tls_client *load_client(const char *ca)
{
    struct err err = {0};
    struct tls_client *tls = tls_client_new(in_cert_dir(ca), NULL, &err);

    assert_non_null(tls);
    return tls;
}

#endif
