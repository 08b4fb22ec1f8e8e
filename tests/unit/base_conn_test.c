#include "base/conn.h"

#include "tests/unit/base_loopback.h"

#include <fcntl.h>

struct world {
    struct loop *loop;
    struct dns *dns;
    struct tls_server *server_tls;
    struct tls_client *client_tls;
    struct seen client, server;
    int listener;
    uint16_t port;
};

static void world_open(struct world *w, const char *cert, const char *key,
                       const char *ca)
{
    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->dns = dns_new(w->loop, NULL);
    assert_non_null(w->dns);
    w->server_tls = load_server(cert, key);
    w->client_tls = load_client(ca);
    w->listener = listen_loopback(&w->port);
    seen_init(&w->client);
    seen_init(&w->server);
}

static void world_close(struct world *w)
{
    seen_release(&w->client);
    seen_release(&w->server);
    close(w->listener);
    dns_free(&w->dns);
    loop_free(&w->loop);
    tls_server_free(&w->server_tls);
    tls_client_free(&w->client_tls);
}

static void world_connect(struct world *w, const char *host, enum tls_mode mode,
                          size_t input_max)
{
    struct conn_target target = {.host = host,
                                 .port = w->port,
                                 .mode = mode,
                                 .tls = w->client_tls,
                                 .dns = w->dns,
                                 .wait_ms = 5000};
    int fd;

    w->client.conn =
        conn_connect(w->loop, &target, input_max, &seen_ops, &w->client);
    fcntl(w->listener, F_SETFL, O_NONBLOCK);
    WAIT_FOR(w->loop, (fd = accept(w->listener, NULL, NULL)) != -1);
    w->server.conn = conn_accept_take(w->loop, fd, mode, w->server_tls,
                                      input_max, &seen_ops, &w->server);
}

static void world_ready(struct world *w)
{
    WAIT_FOR(w->loop, w->client.ready == 1 && w->server.ready == 1);
}

/* One plain socket, and a conn as its peer. */
static void raw_open(struct world *w, int *raw_out, size_t input_max)
{
    int pair[2];

    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    seen_init(&w->client);
    seen_init(&w->server);
    tcp_pair(pair);
    *raw_out = pair[0];
    w->server.conn = conn_accept_take(w->loop, pair[1], TLS_NONE, NULL,
                                      input_max, &seen_ops, &w->server);
    w->listener = -1;
    WAIT_FOR(w->loop, w->server.ready == 1);
}

static void raw_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void test_bytes_split_over_reads_are_gathered(void **state)
{
    struct world w;
    const char *line = "a1 LOGIN joe pass\r\n", *p;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    w.server.keep_input = true;
    for (p = line; *p != '\0'; p++) {
        char one[2] = {*p, '\0'};

        raw_send(raw, one);
        spin(w.loop, 1);
    }
    WAIT_FOR(w.loop, conn_input(w.server.conn)->used == strlen(line));
    assert_string_equal(buf_text(conn_input(w.server.conn)), line);
    assert_true(w.server.inputs > 1);
    assert_int_equal(conn_bytes_in(w.server.conn), strlen(line));
    close(raw);
    WAIT_FOR(w.loop, w.server.eof == 1);
    world_close(&w);
}

static void test_a_full_input_stops_reading_until_consumed(void **state)
{
    struct world w;
    char big[5000];
    size_t got = 0;
    int raw;

    (void)state;
    memset(big, 'x', sizeof big);
    raw_open(&w, &raw, 1000);
    w.server.keep_input = true;
    assert_int_equal(send(raw, big, sizeof big, 0), sizeof big);
    spin(w.loop, 50);
    while (got < sizeof big) {
        struct buf *input = conn_input(w.server.conn);

        assert_in_range(input->used, 1, 1000);
        got += input->used;
        buf_consume(input, input->used);
        spin(w.loop, 20);
    }
    assert_int_equal(got, sizeof big);
    close(raw);
    world_close(&w);
}

static void test_a_paused_conn_hears_nothing(void **state)
{
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    conn_pause(w.server.conn);
    raw_send(raw, "hello");
    spin(w.loop, 30);
    assert_int_equal(w.server.inputs, 0);
    conn_resume(w.server.conn);
    WAIT_FOR(w.loop, w.server.text.used == 5);
    close(raw);
    world_close(&w);
}

static void test_a_slow_reader_gets_everything(void **state)
{
    struct world w;
    static char big[8u << 20], back[65536];
    size_t got = 0;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    memset(big, 'y', sizeof big);
    conn_write(w.server.conn, big, sizeof big);
    conn_half_close(w.server.conn);
    spin(w.loop, 20);
    assert_true(conn_output_bytes(w.server.conn) > 0);
    assert_int_equal(w.server.drained, 0);
    for (;;) {
        ssize_t n = recv(raw, back, sizeof back, MSG_DONTWAIT);

        if (n == 0)
            break;
        if (n > 0)
            got += (size_t)n;
        else
            spin(w.loop, 1);
    }
    assert_int_equal(got, sizeof big);
    assert_int_equal(w.server.drained, 1);
    assert_int_equal(conn_output_bytes(w.server.conn), 0);
    close(raw);
    world_close(&w);
}

static void test_half_close_still_hears_the_peer(void **state)
{
    struct world w;
    char text[10];
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    conn_write(w.server.conn, "bye", 3);
    conn_half_close(w.server.conn);
    spin(w.loop, 30);
    assert_int_equal(recv(raw, text, sizeof text, 0), 3);
    assert_int_equal(recv(raw, text, sizeof text, 0), 0);
    raw_send(raw, "late");
    WAIT_FOR(w.loop, w.server.text.used == 4);
    assert_int_equal(w.server.end, 0);
    close(raw);
    world_close(&w);
}

static void test_finish_sends_what_is_queued_first(void **state)
{
    struct world w;
    static char big[2u << 20], back[65536];
    size_t got = 0;
    ssize_t n = 1;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    raw_send(raw, "unread, which must not turn our last words into a reset");
    conn_write(w.server.conn, big, sizeof big);
    conn_finish(&w.server.conn);
    assert_null(w.server.conn);
    while (n != 0) {
        n = recv(raw, back, sizeof back, MSG_DONTWAIT);
        if (n > 0)
            got += (size_t)n;
        else
            spin(w.loop, 1);
    }
    assert_int_equal(got, sizeof big);
    assert_int_equal(w.server.drained + w.server.end, 0);
    close(raw);
    spin(w.loop, 10);
    world_close(&w);
}

static void test_last_words_are_heard_although_writing_fails(void **state)
{
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    raw_send(raw, "* BYE\r\n");
    shutdown(raw, SHUT_RD);
    close(raw);
    conn_write(w.server.conn, "NOOP\r\n", 6);
    WAIT_FOR(w.loop, w.server.eof == 1 || w.server.end == 1);
    assert_string_equal(buf_text(&w.server.text), "* BYE\r\n");
    conn_write(w.server.conn, "NOOP\r\n", 6);
    WAIT_FOR(w.loop, w.server.end == 1);
    assert_int_equal(w.server.err.kind, ERR_RETRY);
    world_close(&w);
}

static void test_last_words_wait_for_a_paused_conn(void **state)
{
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    conn_pause(w.server.conn);
    raw_send(raw, "* BYE\r\n");
    close(raw);
    conn_write(w.server.conn, "one\r\n", 5);
    spin(w.loop, 20);
    conn_write(w.server.conn, "two\r\n", 5);
    spin(w.loop, 20);
    assert_int_equal(w.server.end, 0);
    conn_resume(w.server.conn);
    WAIT_FOR(w.loop, w.server.end == 1);
    assert_string_equal(buf_text(&w.server.text), "* BYE\r\n");
    world_close(&w);
}

static void test_finish_over_tls_sends_everything(void **state)
{
    static char big[1u << 20];
    struct world w;

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    world_connect(&w, "localhost", TLS_IMPLICIT, 100000);
    world_ready(&w);
    conn_write(w.client.conn, big, sizeof big);
    conn_finish(&w.client.conn);
    WAIT_FOR(w.loop, w.server.eof == 1);
    assert_int_equal(w.server.text.used, sizeof big);
    assert_int_equal(w.server.end, 0);
    world_close(&w);
}

static void test_silence_and_deadline_end_it(void **state)
{
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    conn_set_idle_ms(w.server.conn, 60);
    spin(w.loop, 40);
    raw_send(raw, "x");
    spin(w.loop, 40);
    assert_int_equal(w.server.end, 0);
    WAIT_FOR(w.loop, w.server.end == 1);
    assert_non_null(strstr(w.server.err.text, "timed out"));
    close(raw);
    world_close(&w);
    raw_open(&w, &raw, 1000);
    conn_set_deadline_ms(w.server.conn, 30);
    WAIT_FOR(w.loop, w.server.end == 1);
    assert_int_equal(w.server.err.kind, ERR_RETRY);
    close(raw);
    world_close(&w);
}

static void free_on_input(void *ctx)
{
    struct seen *s = ctx;

    s->inputs++;
    conn_write(s->conn, "never sent", 10);
    conn_free(&s->conn);
}

static void test_it_may_be_freed_inside_its_callback(void **state)
{
    static const struct conn_ops ops = {.on_input = free_on_input};
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    conn_set_user(w.server.conn, &ops, &w.server);
    raw_send(raw, "x");
    WAIT_FOR(w.loop, w.server.inputs == 1);
    spin(w.loop, 20);
    assert_int_equal(w.server.inputs, 1);
    close(raw);
    world_close(&w);
}

static void test_an_idle_conn_holds_no_buffers(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    world_connect(&w, "localhost", TLS_IMPLICIT, 1000);
    world_ready(&w);
    conn_write(w.client.conn, "hello", 5);
    WAIT_FOR(w.loop, w.server.text.used == 5);
    spin(w.loop, 10);
    assert_null(conn_input(w.server.conn)->bytes);
    world_close(&w);
}

static void test_tls_is_verified_and_carries_bytes(void **state)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    struct world w;
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        world_open(&w, "cert.pem", "cert.key", "ca.pem");
        world_connect(&w, hosts[i], TLS_IMPLICIT, 1000);
        world_ready(&w);
        assert_true(conn_is_tls(w.client.conn));
        assert_string_equal(conn_tls_version(w.client.conn), "TLSv1.3");
        assert_string_equal(conn_peer_address(w.client.conn), "127.0.0.1");
        assert_int_equal(conn_peer_port(w.client.conn), w.port);
        conn_write(w.client.conn, "ping", 4);
        conn_printf(w.server.conn, "pong %d", 1);
        WAIT_FOR(w.loop, w.server.text.used == 4 && w.client.text.used == 6);
        conn_half_close(w.client.conn);
        WAIT_FOR(w.loop, w.server.eof == 1);
        conn_write(w.server.conn, "rest", 4);
        WAIT_FOR(w.loop, w.client.text.used == 10);
        world_close(&w);
    }
}

static void test_tls_input_larger_than_the_ceiling_arrives(void **state)
{
    struct world w;
    static char big[300000];
    size_t got = 0;

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    world_connect(&w, "localhost", TLS_IMPLICIT, 1000);
    world_ready(&w);
    w.server.keep_input = true;
    conn_write(w.client.conn, big, sizeof big);
    while (got < sizeof big) {
        struct buf *input = conn_input(w.server.conn);

        assert_true(input->used <= 1000);
        got += input->used;
        buf_consume(input, input->used);
        spin(w.loop, 1);
    }
    assert_int_equal(got, sizeof big);
    world_close(&w);
}

static void refused(const char *cert, const char *key, const char *ca,
                    const char *why)
{
    struct world w;

    world_open(&w, cert, key, ca);
    world_connect(&w, "localhost", TLS_IMPLICIT, 1000);
    WAIT_FOR(w.loop, w.client.end == 1);
    assert_int_equal(w.client.ready, 0);
    assert_int_equal(w.client.err.kind, ERR_SETUP);
    if (strstr(w.client.err.text, why) == NULL)
        fail_msg("%s", w.client.err.text);
    world_close(&w);
}

static void test_a_wrong_host_name_is_refused(void **state)
{
    (void)state;
    refused("wrong.pem", "wrong.key", "ca.pem", "hostname mismatch");
}

static void test_an_unknown_ca_is_refused(void **state)
{
    (void)state;
    refused("cert.pem", "cert.key", "other.pem", "local issuer");
}

static void test_bytes_before_starttls_are_dropped_by_the_server(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    world_connect(&w, "localhost", TLS_STARTTLS, 1000);
    world_ready(&w);
    w.server.keep_input = true;
    conn_write(w.client.conn, "STLS\r\nUSER evil\r\n", 17);
    WAIT_FOR(w.loop, conn_input(w.server.conn)->used == 17);
    conn_write(w.server.conn, "+OK\r\n", 5);
    conn_start_tls(w.server.conn);
    assert_int_equal(conn_input(w.server.conn)->used, 0);
    WAIT_FOR(w.loop, w.client.text.used == 5);
    conn_start_tls(w.client.conn);
    WAIT_FOR(w.loop, w.client.ready == 2 && w.server.ready == 2);
    conn_write(w.client.conn, "QUIT", 4);
    WAIT_FOR(w.loop, conn_input(w.server.conn)->used == 4);
    assert_string_equal(buf_text(conn_input(w.server.conn)), "QUIT");
    world_close(&w);
}

static void test_bytes_before_starttls_are_dropped_by_the_client(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    world_connect(&w, "localhost", TLS_STARTTLS, 1000);
    world_ready(&w);
    w.client.keep_input = true;
    conn_write(w.server.conn, "a OK\r\n* PREAUTH evil\r\n", 23);
    WAIT_FOR(w.loop, conn_input(w.client.conn)->used == 23);
    conn_start_tls(w.client.conn);
    conn_start_tls(w.server.conn);
    WAIT_FOR(w.loop, w.client.ready == 2 && w.server.ready == 2);
    assert_int_equal(conn_input(w.client.conn)->used, 0);
    world_close(&w);
}

static void test_clear_bytes_instead_of_a_handshake_end_it(void **state)
{
    struct world w;
    int raw;

    (void)state;
    raw_open(&w, &raw, 1000);
    w.server_tls = load_server("cert.pem", "cert.key");
    conn_free(&w.server.conn);
    close(raw);
    {
        int pair[2];

        tcp_pair(pair);
        raw = pair[0];
        w.server.conn =
            conn_accept_take(w.loop, pair[1], TLS_IMPLICIT, w.server_tls, 1000,
                             &seen_ops, &w.server);
    }
    raw_send(raw, "GET / HTTP/1.0\r\n\r\n");
    WAIT_FOR(w.loop, w.server.end == 1);
    assert_int_equal(w.server.err.kind, ERR_PEER);
    assert_int_equal(w.server.text.used, 0);
    close(raw);
    world_close(&w);
}

static void test_a_refused_connection_is_told_later(void **state)
{
    struct world w;
    struct conn_target target = {.host = "127.0.0.1", .wait_ms = 1000};

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    close(w.listener);
    w.listener = -1;
    target.port = w.port;
    w.client.conn = conn_connect(w.loop, &target, 100, &seen_ops, &w.client);
    assert_int_equal(w.client.end, 0);
    WAIT_FOR(w.loop, w.client.end == 1);
    assert_int_equal(w.client.err.kind, ERR_RETRY);
    assert_non_null(strstr(w.client.err.text, "refused"));
    world_close(&w);
}

static void test_a_conn_can_be_freed_while_connecting(void **state)
{
    struct world w;
    struct conn_target target = {
        .host = "no-such-host.invalid", .port = 1, .wait_ms = 1000};

    (void)state;
    world_open(&w, "cert.pem", "cert.key", "ca.pem");
    target.dns = w.dns;
    w.client.conn = conn_connect(w.loop, &target, 100, &seen_ops, &w.client);
    conn_free(&w.client.conn);
    target.host = "localhost";
    w.client.conn = conn_connect(w.loop, &target, 100, &seen_ops, &w.client);
    conn_finish(&w.client.conn);
    spin(w.loop, 20);
    assert_int_equal(w.client.end + w.client.ready, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_split_over_reads_are_gathered),
        cmocka_unit_test(test_a_full_input_stops_reading_until_consumed),
        cmocka_unit_test(test_a_paused_conn_hears_nothing),
        cmocka_unit_test(test_a_slow_reader_gets_everything),
        cmocka_unit_test(test_half_close_still_hears_the_peer),
        cmocka_unit_test(test_finish_sends_what_is_queued_first),
        cmocka_unit_test(test_last_words_are_heard_although_writing_fails),
        cmocka_unit_test(test_last_words_wait_for_a_paused_conn),
        cmocka_unit_test(test_finish_over_tls_sends_everything),
        cmocka_unit_test(test_silence_and_deadline_end_it),
        cmocka_unit_test(test_it_may_be_freed_inside_its_callback),
        cmocka_unit_test(test_an_idle_conn_holds_no_buffers),
        cmocka_unit_test(test_tls_is_verified_and_carries_bytes),
        cmocka_unit_test(test_tls_input_larger_than_the_ceiling_arrives),
        cmocka_unit_test(test_a_wrong_host_name_is_refused),
        cmocka_unit_test(test_an_unknown_ca_is_refused),
        cmocka_unit_test(test_bytes_before_starttls_are_dropped_by_the_server),
        cmocka_unit_test(test_bytes_before_starttls_are_dropped_by_the_client),
        cmocka_unit_test(test_clear_bytes_instead_of_a_handshake_end_it),
        cmocka_unit_test(test_a_refused_connection_is_told_later),
        cmocka_unit_test(test_a_conn_can_be_freed_while_connecting),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
