#include "base/loop.h"

#include "tests/unit/base_loopback.h"

#include <signal.h>

struct notes {
    struct loop *loop;
    char text[64];
    struct watch *watch;
    struct timer *timer;
    int count;
};

static void note(struct notes *n, char c)
{
    size_t used = strlen(n->text);

    n->text[used] = c;
    n->text[used + 1] = '\0';
}

static void note_c(void *ctx)
{
    note(ctx, 'c');
}

static void note_a(void *ctx)
{
    struct notes *n = ctx;

    note(n, 'a');
    loop_defer(n->loop, note_c, n);
}

static void note_b(void *ctx)
{
    note(ctx, 'b');
}

static void note_t(void *ctx)
{
    struct notes *n = ctx;

    loop_defer(n->loop, note_a, n);
    loop_defer(n->loop, note_b, n);
    note(n, 't');
}

static void test_deferred_work_comes_in_order_after_the_callbacks(void **state)
{
    struct notes n = {.loop = loop_new()};

    (void)state;
    n.timer = timer_new(n.loop, note_t, &n);
    timer_start(n.timer, 5);
    assert_true(timer_is_running(n.timer));
    spin(n.loop, 30);
    assert_false(timer_is_running(n.timer));
    assert_string_equal(n.text, "tabc");
    timer_free(&n.timer);
    loop_defer(n.loop, note_a, &n);
    loop_free(&n.loop);
    assert_string_equal(n.text, "tabcac");
}

static void test_a_timer_is_set_anew_and_cancelled(void **state)
{
    struct notes n = {.loop = loop_new()};

    (void)state;
    n.timer = timer_new(n.loop, note_b, &n);
    timer_start(n.timer, 5);
    timer_start(n.timer, 60);
    spin(n.loop, 20);
    assert_string_equal(n.text, "");
    spin(n.loop, 80);
    assert_string_equal(n.text, "b");
    timer_start(n.timer, 5);
    timer_cancel(n.timer);
    spin(n.loop, 20);
    assert_string_equal(n.text, "b");
    timer_free(&n.timer);
    timer_free(&n.timer);
    loop_free(&n.loop);
}

static void free_watch(int fd, bool can_read, bool can_write, void *ctx)
{
    struct notes *n = ctx;

    (void)fd;
    n->count += can_read || can_write;
    watch_free(&n->watch);
}

static void test_a_watch_may_be_freed_inside_its_callback(void **state)
{
    struct notes n = {.loop = loop_new()};
    int pair[2];

    (void)state;
    tcp_pair(pair);
    assert_int_equal(send(pair[0], "x", 1, 0), 1);
    n.watch = watch_new(n.loop, pair[1], free_watch, &n);
    watch_want(n.watch, true, true); /* both are ready at once */
    spin(n.loop, 20);
    assert_int_equal(n.count, 1);
    assert_null(n.watch);
    close(pair[0]);
    close(pair[1]);
    loop_free(&n.loop);
}

static void count_watch(int fd, bool can_read, bool can_write, void *ctx)
{
    struct notes *n = ctx;

    (void)fd;
    (void)can_read;
    n->count++;
    if (can_write)
        watch_want(n->watch, false, false);
}

static void test_a_silent_watch_is_silent(void **state)
{
    struct notes n = {.loop = loop_new()};
    int pair[2];

    (void)state;
    tcp_pair(pair);
    n.watch = watch_new(n.loop, pair[1], count_watch, &n);
    assert_int_equal(send(pair[0], "x", 1, 0), 1);
    spin(n.loop, 10);
    assert_int_equal(n.count, 0);
    watch_want(n.watch, false, true);
    spin(n.loop, 10);
    assert_int_equal(n.count, 1);
    watch_free(&n.watch);
    close(pair[0]);
    close(pair[1]);
    loop_free(&n.loop);
}

static void test_signals_are_told_from_the_loop(void **state)
{
    struct notes n = {.loop = loop_new()};

    (void)state;
    loop_on_signal(n.loop, SIGUSR1, note_b, &n);
    raise(SIGUSR1);
    assert_string_equal(n.text, "");
    spin(n.loop, 20);
    assert_string_equal(n.text, "b");
    loop_free(&n.loop);
}

struct found {
    int calls, count;
    struct sockaddr_storage first;
    struct err err;
};

static void on_found(void *ctx, const struct sockaddr_storage *addresses,
                     int count, const struct err *err)
{
    struct found *f = ctx;

    f->calls++;
    f->count = count;
    if (count > 0)
        f->first = addresses[0];
    f->err = *err;
}

static void test_names_are_resolved_later_never_at_once(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    struct loop *loop = loop_new();
    struct dns *dns = dns_new(loop, NULL);
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++) {
        struct found f = {0};

        assert_non_null(dns_resolve(dns, hosts[i], 143, on_found, &f));
        assert_int_equal(f.calls, 0);
        WAIT_FOR(loop, f.calls == 1);
        assert_true(f.count > 0);
        assert_int_equal(((struct sockaddr_in *)&f.first)->sin_port,
                         htons(143));
    }
    dns_free(&dns);
    loop_free(&loop);
}

static void test_a_name_that_is_none_fails(void **state)
{
    struct loop *loop = loop_new();
    struct dns *dns = dns_new(loop, NULL);
    struct found f = {0};
    char host[300];

    (void)state;
    memset(host, 'x', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    dns_resolve(dns, host, 1, on_found, &f);
    assert_int_equal(f.calls, 0);
    WAIT_FOR(loop, f.calls == 1);
    assert_int_equal(f.count, 0);
    assert_int_equal(f.err.kind, ERR_RETRY);
    dns_free(&dns);
    loop_free(&loop);
}

static void test_a_cancelled_query_is_silent(void **state)
{
    struct loop *loop = loop_new();
    struct dns *dns = dns_new(loop, NULL);
    struct found f = {0};
    struct dns_query *query;

    (void)state;
    query = dns_resolve(dns, "127.0.0.1", 1, on_found, &f);
    dns_cancel(&query);
    assert_null(query);
    query = dns_resolve(dns, "no-such-host.invalid", 1, on_found, &f);
    dns_cancel(&query);
    spin(loop, 20);
    query = dns_resolve(dns, "other-host.invalid", 1, on_found, &f);
    dns_cancel(&query);
    dns_free(&dns);
    loop_free(&loop);
    assert_int_equal(f.calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deferred_work_comes_in_order_after_the_callbacks),
        cmocka_unit_test(test_a_timer_is_set_anew_and_cancelled),
        cmocka_unit_test(test_a_watch_may_be_freed_inside_its_callback),
        cmocka_unit_test(test_a_silent_watch_is_silent),
        cmocka_unit_test(test_signals_are_told_from_the_loop),
        cmocka_unit_test(test_names_are_resolved_later_never_at_once),
        cmocka_unit_test(test_a_name_that_is_none_fails),
        cmocka_unit_test(test_a_cancelled_query_is_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
