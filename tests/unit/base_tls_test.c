#include "base/tls.h"

#include "tests/unit/base_loopback.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

/* A worker's dialogue, in a thread of its own; the server is on the loop. */
struct worker {
    pthread_t thread;
    struct tls_target target;
    struct tls_client *tls;
    bool starts_tls;
    int wait_ms;
    int result;
    struct err err;
    char got[64];
    size_t bulk;
    int is_over;
};

static int dialogue(struct worker *w, struct tls_stream *stream)
{
    static char big[100000];
    ssize_t n;
    size_t left = w->bulk;

    if (tls_stream_write(stream, "hello", 5, &w->err) == -1)
        return -1;
    n = tls_stream_read(stream, w->got, sizeof w->got - 1, &w->err);
    if (n == -1)
        return -1;
    if (w->starts_tls && tls_stream_start(stream, &w->err) == -1)
        return -1;
    while (left > 0) {
        size_t piece = left < sizeof big ? left : sizeof big;

        if (tls_stream_write(stream, big, piece, &w->err) == -1)
            return -1;
        left -= piece;
    }
    return tls_stream_fd(stream) >= 0 ? 0 : -1;
}

static void *worker_run(void *ctx)
{
    struct worker *w = ctx;
    struct tls_stream *stream =
        tls_stream_open(&w->target, w->tls, w->wait_ms, &w->err);

    w->result = -1;
    if (stream != NULL)
        w->result = dialogue(w, stream);
    tls_stream_close(&stream);
    __atomic_store_n(&w->is_over, 1, __ATOMIC_RELEASE);
    return NULL;
}

struct world {
    struct loop *loop;
    struct tls_server *server_tls;
    struct seen server;
    struct worker worker;
    int listener;
};

static void world_open(struct world *w, enum tls_mode mode, const char *host,
                       const char *ca)
{
    memset(w, 0, sizeof *w);
    w->loop = loop_new();
    w->server_tls = load_server("cert.pem", "cert.key");
    w->worker.tls = load_client(ca);
    w->worker.target.host = host;
    w->worker.target.mode = mode;
    w->worker.wait_ms = 3000;
    w->listener = listen_loopback(&w->worker.target.port);
    seen_init(&w->server);
}

static void world_accept(struct world *w)
{
    pthread_create(&w->worker.thread, NULL, worker_run, &w->worker);
    w->server.conn = conn_accept_take(w->loop, accept(w->listener, NULL, NULL),
                                      w->worker.target.mode, w->server_tls,
                                      65536, &seen_ops, &w->server);
}

static void world_join(struct world *w)
{
    WAIT_FOR(w->loop, __atomic_load_n(&w->worker.is_over, __ATOMIC_ACQUIRE));
    pthread_join(w->worker.thread, NULL);
}

static void world_close(struct world *w)
{
    seen_release(&w->server);
    close(w->listener);
    loop_free(&w->loop);
    tls_server_free(&w->server_tls);
    tls_client_free(&w->worker.tls);
}

static void test_the_stream_speaks_clear_and_tls(void **state)
{
    static const enum tls_mode modes[] = {TLS_NONE, TLS_IMPLICIT};
    struct world w;
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        world_open(&w, modes[i], "localhost", "ca.pem");
        w.worker.bulk = 3u << 20;
        world_accept(&w);
        WAIT_FOR(w.loop, w.server.text.used >= 5);
        conn_write(w.server.conn, "welcome", 7);
        world_join(&w);
        if (w.worker.result == -1)
            fail_msg("%s", w.worker.err.text);
        assert_string_equal(w.worker.got, "welcome");
        WAIT_FOR(w.loop, w.server.text.used == 5 + w.worker.bulk);
        WAIT_FOR(w.loop, w.server.eof == 1);
        world_close(&w);
    }
}

static void test_the_stream_starts_tls_when_told(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, TLS_STARTTLS, "127.0.0.1", "ca.pem");
    w.worker.starts_tls = true;
    w.worker.bulk = 1000;
    world_accept(&w);
    WAIT_FOR(w.loop, w.server.text.used == 5);
    conn_write(w.server.conn, "go", 2);
    conn_start_tls(w.server.conn);
    world_join(&w);
    assert_int_equal(w.worker.result, 0);
    WAIT_FOR(w.loop, w.server.text.used == 1005);
    world_close(&w);
}

static void test_an_unknown_ca_is_refused_with_its_reason(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, TLS_IMPLICIT, "localhost", "other.pem");
    world_accept(&w);
    world_join(&w);
    assert_int_equal(w.worker.result, -1);
    assert_int_equal(w.worker.err.kind, ERR_SETUP);
    assert_non_null(strstr(w.worker.err.text, "certificate refused"));
    world_close(&w);
}

static void remove_hashed(const char *directory)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(directory), 0);
}

static bool is_trusted_by_the_system(const char *file, const char *directory)
{
    struct world w;
    bool is_trusted;

    setenv("SSL_CERT_FILE", file, 1);
    setenv("SSL_CERT_DIR", directory, 1);
    world_open(&w, TLS_IMPLICIT, "localhost", "other.pem");
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
    world_accept(&w);
    if (w.server.conn != NULL)
        conn_write(w.server.conn, "welcome", 7);
    world_join(&w);
    is_trusted = w.worker.result == 0;
    world_close(&w);
    return is_trusted;
}

/* Beside the CA file of the configuration: a bundle, a directory of hashed
   names, or both in one place, as Debian has them. */
static void test_authorities_of_the_system_are_trusted(void **state)
{
    char hashed[160], bundle[160], nowhere[160];

    (void)state;
    snprintf(hashed, sizeof hashed, "%s/hashed", cert_dir);
    snprintf(bundle, sizeof bundle, "%s/hashed/bundle.crt", cert_dir);
    snprintf(nowhere, sizeof nowhere, "%s/nowhere", cert_dir);
    assert_true(is_trusted_by_the_system(in_cert_dir("ca.pem"), nowhere));
    assert_false(is_trusted_by_the_system(nowhere, nowhere));
    assert_int_equal(mkdir(hashed, 0700), 0);
    assert_int_equal(symlink("../ca.pem", bundle), 0);
    assert_true(is_trusted_by_the_system(bundle, hashed));
    assert_int_equal(unlink(bundle), 0);
    assert_int_equal(link(in_cert_dir("ca.pem"), bundle), 0);
    run_openssl((const char *[]){"openssl", "rehash", hashed, NULL});
    assert_true(is_trusted_by_the_system(bundle, hashed));
    assert_true(is_trusted_by_the_system(nowhere, hashed));
    remove_hashed(hashed);
}

static void test_a_silent_server_is_given_up(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, TLS_NONE, "127.0.0.1", "ca.pem");
    w.worker.wait_ms = 50;
    world_accept(&w);
    world_join(&w);
    assert_int_equal(w.worker.result, -1);
    assert_int_equal(w.worker.err.kind, ERR_RETRY);
    assert_string_equal(w.worker.err.text, "timed out");
    world_close(&w);
}

static void test_nobody_there_is_for_later(void **state)
{
    struct tls_target target = {.host = "127.0.0.1"};
    struct err err = {0};

    (void)state;
    close(listen_loopback(&target.port));
    assert_null(tls_stream_open(&target, NULL, 1000, &err));
    assert_int_equal(err.kind, ERR_RETRY);
    target.host = "no-such-host.invalid";
    assert_null(tls_stream_open(&target, NULL, 1000, &err));
    assert_int_equal(err.kind, ERR_RETRY);
}

static void test_bad_settings_are_told(void **state)
{
    char *cert = read_whole(in_cert_dir("cert.pem"));
    char *key = read_whole(in_cert_dir("cert.key"));
    char *other = read_whole(in_cert_dir("wrong.key"));
    struct err err = {0};

    (void)state;
    assert_null(tls_server_new("junk", key, NULL, &err));
    assert_int_equal(err.kind, ERR_SETUP);
    assert_null(tls_server_new(cert, "junk", NULL, &err));
    assert_null(tls_server_new(cert, other, NULL, &err));
    assert_non_null(strstr(err.text, "TLS key"));
    assert_null(tls_server_new(cert, key, "1.4", &err));
    assert_null(tls_client_new("/no/such.pem", NULL, &err));
    assert_int_equal(err.kind, ERR_SETUP);
    free(cert);
    free(key);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_stream_speaks_clear_and_tls),
        cmocka_unit_test(test_the_stream_starts_tls_when_told),
        cmocka_unit_test(test_an_unknown_ca_is_refused_with_its_reason),
        cmocka_unit_test(test_authorities_of_the_system_are_trusted),
        cmocka_unit_test(test_a_silent_server_is_given_up),
        cmocka_unit_test(test_nobody_there_is_for_later),
        cmocka_unit_test(test_bad_settings_are_told),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
