#include "base/relay.h"

#include "tests/unit/base_loopback.h"

#include <pthread.h>

#define BULK (10u << 20)

struct world {
    struct loop *loop;
    struct tls_server *server_tls;
    struct tls_client *client_tls;
    struct relay *relay;
    struct seen client, backend; /* the relay's two conns before it starts */
    int ends;
    enum relay_end end;
};

static void relay_ended(void *ctx, enum relay_end end)
{
    struct world *w = ctx;

    w->ends++;
    w->end = end;
    relay_free(&w->relay);
}

/* Far ends are plain sockets. */
static void world_open(struct world *w, int *client_out, int *backend_out)
{
    int pair[2];

    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    seen_init(&w->client);
    seen_init(&w->backend);
    tcp_pair(pair);
    *client_out = pair[0];
    w->client.conn = conn_accept_take(w->loop, pair[1], TLS_NONE, NULL, 65536,
                                      &seen_ops, &w->client);
    tcp_pair(pair);
    *backend_out = pair[0];
    w->backend.conn = conn_accept_take(w->loop, pair[1], TLS_NONE, NULL, 65536,
                                       &seen_ops, &w->backend);
    WAIT_FOR(w->loop, w->client.ready == 1 && w->backend.ready == 1);
}

static void world_start(struct world *w)
{
    w->relay = relay_start_take(w->loop, &w->client.conn, &w->backend.conn,
                                relay_ended, w);
    assert_null(w->client.conn);
    assert_null(w->backend.conn);
}

static void world_close(struct world *w, int client, int backend)
{
    relay_free(&w->relay);
    seen_release(&w->client);
    seen_release(&w->backend);
    if (client != -1)
        close(client);
    if (backend != -1)
        close(backend);
    loop_free(&w->loop);
    tls_server_free(&w->server_tls);
    tls_client_free(&w->client_tls);
}

/* Reads what is there without waiting; -2 for nothing, 0 for EOF. */
static ssize_t peek_text(int fd, char *text, size_t size)
{
    ssize_t n = recv(fd, text, size - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return n == -1 ? -2 : n;
}

static void expect_text(struct world *w, int fd, const char *text)
{
    char got[200] = "";
    size_t used = 0;

    while (used < strlen(text)) {
        ssize_t n = recv(fd, got + used, sizeof got - 1 - used, MSG_DONTWAIT);

        if (n == 0)
            break;
        if (n > 0)
            used += (size_t)n;
        else
            spin(w->loop, 1);
    }
    assert_string_equal(got, text);
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void test_bytes_read_before_are_forwarded_first(void **state)
{
    struct world w;
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    w.client.keep_input = true;
    send_text(client, "a2 SELECT INBOX\r\n");
    WAIT_FOR(w.loop, conn_input(w.client.conn)->used == 17);
    conn_pause(w.client.conn);
    send_text(client, "a3 IDLE\r\n");
    world_start(&w);
    expect_text(&w, backend, "a2 SELECT INBOX\r\na3 IDLE\r\n");
    send_text(backend, "+ idling\r\n");
    expect_text(&w, client, "+ idling\r\n");
    assert_int_equal(relay_bytes_to_backend(w.relay), 26);
    assert_int_equal(relay_bytes_to_client(w.relay), 10);
    world_close(&w, client, backend);
}

static void test_client_eof_reaches_the_backend_and_its_rest_comes(void **state)
{
    struct world w;
    char text[64];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(client, "QUIT\r\n");
    shutdown(client, SHUT_WR);
    expect_text(&w, backend, "QUIT\r\n");
    spin(w.loop, 20);
    assert_int_equal(peek_text(backend, text, sizeof text), 0);
    assert_int_equal(w.ends, 0);
    send_text(backend, "+OK bye\r\n");
    close(backend);
    expect_text(&w, client, "+OK bye\r\n");
    WAIT_FOR(w.loop, w.ends == 1);
    assert_int_equal(w.end, RELAY_CLIENT_CLOSED);
    assert_int_equal(peek_text(client, text, sizeof text), 0);
    world_close(&w, client, -1);
}

static void test_backend_eof_reaches_the_client(void **state)
{
    struct world w;
    char text[64];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(backend, "* BYE\r\n");
    close(backend);
    expect_text(&w, client, "* BYE\r\n");
    spin(w.loop, 20);
    assert_int_equal(peek_text(client, text, sizeof text), 0);
    close(client);
    WAIT_FOR(w.loop, w.ends == 1);
    assert_int_equal(w.end, RELAY_BACKEND_CLOSED);
    world_close(&w, -1, -1);
}

static void test_an_eof_seen_before_the_start_counts(void **state)
{
    struct world w;
    char text[64];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    shutdown(client, SHUT_WR);
    WAIT_FOR(w.loop, w.client.eof == 1);
    world_start(&w);
    spin(w.loop, 20);
    assert_int_equal(peek_text(backend, text, sizeof text), 0);
    world_close(&w, client, backend);
}

static void test_a_vanished_client_ends_when_the_backend_has(void **state)
{
    struct linger at_once = {1, 0};
    struct world w;
    char text[64];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client);
    spin(w.loop, 30);
    assert_int_equal(peek_text(backend, text, sizeof text), 0);
    assert_int_equal(w.ends, 0);
    send_text(backend, "nobody hears this\r\n");
    close(backend);
    WAIT_FOR(w.loop, w.ends == 1);
    assert_int_equal(w.end, RELAY_CLIENT_FAILED);
    world_close(&w, -1, -1);
}

static void test_quiet_means_whole_lines_and_time(void **state)
{
    struct world w;
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(backend, "* 1 EXISTS\r\n* 2 EX");
    expect_text(&w, client, "* 1 EXISTS\r\n* 2 EX");
    spin(w.loop, 60);
    assert_false(relay_is_quiet(w.relay, 30));
    send_text(backend, "ISTS\r\n");
    expect_text(&w, client, "ISTS\r\n");
    assert_false(relay_is_quiet(w.relay, 1000));
    spin(w.loop, 60);
    assert_true(relay_is_quiet(w.relay, 30));
    world_close(&w, client, backend);
}

static void test_drain_waits_for_the_backends_eof(void **state)
{
    struct world w;
    char text[64];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(client, "a1 IDLE\r\n");
    expect_text(&w, backend, "a1 IDLE\r\n");
    relay_drain(w.relay, "* BYE moved\r\n", 5000);
    spin(w.loop, 20);
    assert_int_equal(peek_text(backend, text, sizeof text), 0);
    send_text(client, "a2 NOOP\r\n");
    send_text(backend, "* 5 EXISTS\r\n");
    spin(w.loop, 20);
    assert_int_equal(w.ends, 0);
    close(backend);
    expect_text(&w, client, "* 5 EXISTS\r\n* BYE moved\r\n");
    WAIT_FOR(w.loop, w.ends == 1);
    assert_int_equal(w.end, RELAY_BACKEND_CLOSED);
    assert_int_equal(peek_text(client, text, sizeof text), 0);
    world_close(&w, client, -1);
}

static void test_drain_gives_up_in_time_and_cuts_no_line(void **state)
{
    struct world w;
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(backend, "* 1 FETCH (BODY[] {100}\r\nhalf");
    expect_text(&w, client, "* 1 FETCH (BODY[] {100}\r\nhalf");
    relay_drain(w.relay, "* BYE moved\r\n", 50);
    WAIT_FOR(w.loop, w.ends == 1);
    spin(w.loop, 20);
    {
        char text[64];

        assert_int_equal(peek_text(client, text, sizeof text), 0);
    }
    world_close(&w, client, backend);
}

static void test_a_slow_client_bounds_memory(void **state)
{
    static char big[1u << 20], got[65536];
    struct world w;
    size_t sent = 0, received = 0;
    bool is_held = false;
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    while (!is_held && sent < (200u << 20)) {
        ssize_t n = send(backend, big, sizeof big, MSG_DONTWAIT | MSG_NOSIGNAL);

        spin(w.loop, 2);
        is_held = n == -1;
        sent += n > 0 ? (size_t)n : 0;
    }
    /* kernel buffers apart, the relay has taken one piece at most too much */
    assert_true(is_held);
    shutdown(backend, SHUT_WR);
    for (;;) {
        ssize_t n = recv(client, got, sizeof got, MSG_DONTWAIT);

        if (n == 0)
            break;
        if (n > 0)
            received += (size_t)n;
        else
            spin(w.loop, 1);
    }
    assert_int_equal(received, sent);
    world_close(&w, client, backend);
}

/* A far end that sends bulk, ends its side, and reads until the other's end. */
struct far_end {
    pthread_t thread;
    int fd;
    unsigned seed;
    uint64_t sent_sum, got_sum, got;
};

static uint64_t sum_of(uint64_t sum, const unsigned char *bytes, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        sum = sum * 1099511628211u + bytes[i];
    return sum;
}

static void *far_writer(void *ctx)
{
    struct far_end *f = ctx;
    static _Thread_local unsigned char piece[30011];
    size_t left = BULK, i;

    while (left > 0) {
        size_t n = left < sizeof piece ? left : sizeof piece;

        for (i = 0; i < n; i++)
            piece[i] = (unsigned char)(rand_r(&f->seed) >> 7);
        f->sent_sum = sum_of(f->sent_sum, piece, n);
        for (i = 0; i < n;) {
            ssize_t w = send(f->fd, piece + i, n - i, MSG_NOSIGNAL);

            if (w <= 0)
                return NULL;
            i += (size_t)w;
        }
        left -= n;
    }
    shutdown(f->fd, SHUT_WR);
    return NULL;
}

static void *far_run(void *ctx)
{
    struct far_end *f = ctx;
    unsigned char got[40000];
    pthread_t writer;
    ssize_t n;

    pthread_create(&writer, NULL, far_writer, f);
    while ((n = recv(f->fd, got, sizeof got, 0)) > 0) {
        f->got_sum = sum_of(f->got_sum, got, (size_t)n);
        f->got += (uint64_t)n;
    }
    pthread_join(writer, NULL);
    return NULL;
}

static void test_bulk_both_ways_arrives_byte_for_byte(void **state)
{
    struct far_end a = {.seed = 1}, b = {.seed = 2};
    struct world w;

    (void)state;
    world_open(&w, &a.fd, &b.fd);
    world_start(&w);
    pthread_create(&a.thread, NULL, far_run, &a);
    pthread_create(&b.thread, NULL, far_run, &b);
    while (w.ends == 0)
        spin(w.loop, 5);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    assert_int_equal(a.got, BULK);
    assert_int_equal(b.got, BULK);
    assert_true(a.got_sum == b.sent_sum && b.got_sum == a.sent_sum);
    world_close(&w, a.fd, b.fd);
}

/* client -TLS-> relay -TLS-> backend, where the client and the backend are
   themselves relays to plain far ends, so that all is on one loop. */
static void test_bulk_over_tls_arrives_byte_for_byte(void **state)
{
    struct far_end a = {.seed = 3}, b = {.seed = 4};
    struct world w, outer[2];
    struct conn_target target = {.host = "127.0.0.1", .mode = TLS_IMPLICIT};
    struct seen in[2], out[2];
    int i, fds[2];

    (void)state;
    world_open(&w, &fds[0], &fds[1]);
    conn_free(&w.client.conn);
    conn_free(&w.backend.conn);
    close(fds[0]);
    close(fds[1]);
    w.server_tls = load_server("cert.pem", "cert.key");
    w.client_tls = load_client("ca.pem");
    target.tls = w.client_tls;
    memset(outer, 0, sizeof outer);
    for (i = 0; i < 2; i++) {
        int listener = listen_loopback(&target.port), pair[2];

        seen_init(&in[i]);
        seen_init(&out[i]);
        out[i].conn = conn_connect(w.loop, &target, 65536, &seen_ops, &out[i]);
        in[i].conn =
            conn_accept_take(w.loop, accept(listener, NULL, NULL), TLS_IMPLICIT,
                             w.server_tls, 65536, &seen_ops, &in[i]);
        WAIT_FOR(w.loop, in[i].ready == 1 && out[i].ready == 1);
        close(listener);
        tcp_pair(pair);
        *(i == 0 ? &a.fd : &b.fd) = pair[0];
        seen_init(&outer[i].client);
        outer[i].client.conn =
            conn_accept_take(w.loop, pair[1], TLS_NONE, NULL, 65536, &seen_ops,
                             &outer[i].client);
        WAIT_FOR(w.loop, outer[i].client.ready == 1);
    }
    /* a - plain - out[0] = TLS = in[0] - out[1] = TLS = in[1] - plain - b */
    outer[0].relay = relay_start_take(w.loop, &outer[0].client.conn,
                                      &out[0].conn, relay_ended, &outer[0]);
    w.relay =
        relay_start_take(w.loop, &in[0].conn, &out[1].conn, relay_ended, &w);
    outer[1].relay = relay_start_take(
        w.loop, &in[1].conn, &outer[1].client.conn, relay_ended, &outer[1]);
    pthread_create(&a.thread, NULL, far_run, &a);
    pthread_create(&b.thread, NULL, far_run, &b);
    while (w.ends == 0 || outer[0].ends == 0 || outer[1].ends == 0)
        spin(w.loop, 5);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    assert_int_equal(a.got, BULK);
    assert_int_equal(b.got, BULK);
    assert_true(a.got_sum == b.sent_sum && b.got_sum == a.sent_sum);
    world_close(&w, a.fd, b.fd);
}

static void test_it_may_be_freed_while_it_runs(void **state)
{
    struct world w;
    char text[8];
    int client, backend;

    (void)state;
    world_open(&w, &client, &backend);
    world_start(&w);
    send_text(client, "x");
    relay_free(&w.relay);
    spin(w.loop, 20);
    assert_int_equal(w.ends, 0);
    assert_true(peek_text(backend, text, sizeof text) <= 0);
    world_close(&w, client, backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_read_before_are_forwarded_first),
        cmocka_unit_test(
            test_client_eof_reaches_the_backend_and_its_rest_comes),
        cmocka_unit_test(test_backend_eof_reaches_the_client),
        cmocka_unit_test(test_an_eof_seen_before_the_start_counts),
        cmocka_unit_test(test_a_vanished_client_ends_when_the_backend_has),
        cmocka_unit_test(test_quiet_means_whole_lines_and_time),
        cmocka_unit_test(test_drain_waits_for_the_backends_eof),
        cmocka_unit_test(test_drain_gives_up_in_time_and_cuts_no_line),
        cmocka_unit_test(test_a_slow_client_bounds_memory),
        cmocka_unit_test(test_bulk_both_ways_arrives_byte_for_byte),
        cmocka_unit_test(test_bulk_over_tls_arrives_byte_for_byte),
        cmocka_unit_test(test_it_may_be_freed_while_it_runs),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
