#include "base/channel.h"

#include "tests/unit/base_loopback.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/stat.h>

struct side {
    struct channel *channel;
    int messages, closed;
    int last_fd;
    json_int_t last_id;
    bool free_inside;
};

static void side_on_message(void *ctx, json_t *message, int fd)
{
    struct side *s = ctx;

    s->messages++;
    s->last_id = json_integer_value(json_object_get(message, "id"));
    if (fd != -1)
        s->last_fd = fd;
    if (s->free_inside)
        channel_free(&s->channel);
}

static void side_on_closed(void *ctx)
{
    struct side *s = ctx;

    s->closed++;
    channel_free(&s->channel);
}

static struct side side_new(void)
{
    struct side s = {.last_fd = -1};

    return s;
}

static void open_pair(struct loop *loop, struct side *a, struct side *b,
                      int *raw)
{
    int pair[2];

    *a = *b = side_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    a->channel =
        channel_new_take(loop, pair[0], side_on_message, side_on_closed, a);
    if (raw != NULL)
        *raw = pair[1];
    else
        b->channel =
            channel_new_take(loop, pair[1], side_on_message, side_on_closed, b);
}

static void test_messages_arrive_in_order_with_their_fd(void **state)
{
    struct loop *loop = loop_new();
    struct side a, b;
    int pipe_ends[2], i;
    char text[8] = "";

    (void)state;
    open_pair(loop, &a, &b, NULL);
    assert_int_equal(pipe(pipe_ends), 0);
    for (i = 1; i <= 50; i++)
        channel_send_take(a.channel, json_pack("{s:i}", "id", i),
                          i == 25 ? pipe_ends[1] : -1);
    WAIT_FOR(loop, b.messages == 50);
    assert_int_equal(b.last_id, 50);
    assert_int_equal(write(b.last_fd, "hello", 5), 5);
    assert_int_equal(read(pipe_ends[0], text, sizeof text), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(channel_peer_uid(a.channel), getuid());
    close(b.last_fd);
    close(pipe_ends[0]);
    channel_free(&a.channel);
    WAIT_FOR(loop, b.closed == 1);
    loop_free(&loop);
}

static void test_a_large_message_passes_whole(void **state)
{
    struct loop *loop = loop_new();
    struct side a, b;
    char *text = calloc(1, 3000001);

    (void)state;
    open_pair(loop, &a, &b, NULL);
    memset(text, 'x', 3000000);
    channel_send_take(a.channel, json_pack("{s:i,s:s}", "id", 7, "text", text),
                      -1);
    WAIT_FOR(loop, b.messages == 1);
    assert_int_equal(b.last_id, 7);
    free(text);
    channel_free(&a.channel);
    channel_free(&b.channel);
    loop_free(&loop);
}

static void test_a_message_past_the_limit_breaks_the_channel(void **state)
{
    struct loop *loop = loop_new();
    struct side a, b;
    size_t size = CHANNEL_MESSAGE_MAX + 1;
    char *text = calloc(1, size + 1);

    (void)state;
    open_pair(loop, &a, &b, NULL);
    memset(text, 'x', size);
    channel_send_take(a.channel, json_pack("{s:s}", "text", text), -1);
    WAIT_FOR(loop, a.closed == 1 && b.closed == 1);
    assert_int_equal(b.messages, 0);
    free(text);
    loop_free(&loop);
}

static void broken_by(const void *bytes, size_t length)
{
    struct loop *loop = loop_new();
    struct side a, b;
    int raw;

    open_pair(loop, &a, &b, &raw);
    assert_int_equal(send(raw, bytes, length, 0), length);
    WAIT_FOR(loop, a.closed == 1);
    assert_int_equal(a.messages, 0);
    close(raw);
    loop_free(&loop);
}

static void test_nonsense_breaks_the_channel(void **state)
{
    (void)state;
    broken_by("\x7f\xff\xff\xff", 4); /* too long */
    broken_by("\0\0\0\3{x}", 7);      /* no JSON */
    broken_by("\0\0\0\2[]", 6);       /* no object */
    broken_by("\x80\0\0\2{}", 6);     /* promises a descriptor */
    broken_by("\0\0\0\0", 4);         /* empty */
}

static void test_frames_byte_by_byte_are_put_together(void **state)
{
    static const char frame[] = "\0\0\0\x08{\"id\":9}";
    struct loop *loop = loop_new();
    struct side a, b;
    size_t i;
    int raw;

    (void)state;
    open_pair(loop, &a, &b, &raw);
    for (i = 0; i < sizeof frame - 1; i++) {
        assert_int_equal(a.messages, 0);
        assert_int_equal(send(raw, frame + i, 1, 0), 1);
        spin(loop, 1);
    }
    WAIT_FOR(loop, a.messages == 1);
    assert_int_equal(a.last_id, 9);
    close(raw);
    WAIT_FOR(loop, a.closed == 1);
    loop_free(&loop);
}

static void test_it_may_be_freed_inside_its_callback(void **state)
{
    struct loop *loop = loop_new();
    struct side a, b;

    (void)state;
    open_pair(loop, &a, &b, NULL);
    b.free_inside = true;
    channel_send_take(a.channel, json_pack("{s:i}", "id", 1), -1);
    channel_send_take(a.channel, json_pack("{s:i}", "id", 2), -1);
    WAIT_FOR(loop, a.closed == 1);
    assert_int_equal(b.messages, 1);
    loop_free(&loop);
}

static void *echo_blocking(void *ctx)
{
    int fd = *(int *)ctx;
    json_t *message;
    struct err err;

    while (channel_receive_blocking(fd, -1, &message, &err) == 0) {
        channel_send_blocking(fd, message, &err);
        json_decref(message);
    }
    return (void *)(intptr_t)err.kind;
}

static void test_the_blocking_side_speaks_the_same(void **state)
{
    struct loop *loop = loop_new();
    struct side a, b;
    pthread_t thread;
    void *kind;
    int raw;

    (void)state;
    open_pair(loop, &a, &b, &raw);
    pthread_create(&thread, NULL, echo_blocking, &raw);
    channel_send_take(a.channel, json_pack("{s:i}", "id", 11), -1);
    channel_send_take(a.channel, json_pack("{s:i}", "id", 12), -1);
    WAIT_FOR(loop, a.messages == 2);
    assert_int_equal(a.last_id, 12);
    channel_free(&a.channel);
    spin(loop, 1);
    pthread_join(thread, &kind);
    assert_int_equal((intptr_t)kind, ERR_RETRY);
    close(raw);
    loop_free(&loop);
}

static void test_blocking_receive_times_out(void **state)
{
    struct err err = {0};
    json_t *message;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(channel_receive_blocking(pair[0], 30, &message, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    close(pair[0]);
    close(pair[1]);
}

static void test_a_stale_socket_is_replaced_a_live_one_not(void **state)
{
    char dir[] = "/tmp/base-channel-XXXXXX", path[64];
    struct err err = {0};
    struct stat found;
    int first, second, client;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/control.sock", dir);
    assert_int_equal(channel_connect_unix(path, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    first = channel_listen_unix(path, 0660, &err);
    assert_true(first != -1);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0660);
    assert_int_equal(channel_listen_unix(path, 0660, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    client = channel_connect_unix(path, &err);
    assert_true(client != -1);
    close(client);
    close(first);
    second = channel_listen_unix(path, 0600, &err);
    assert_true(second != -1);
    close(second);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_arrive_in_order_with_their_fd),
        cmocka_unit_test(test_a_large_message_passes_whole),
        cmocka_unit_test(test_a_message_past_the_limit_breaks_the_channel),
        cmocka_unit_test(test_nonsense_breaks_the_channel),
        cmocka_unit_test(test_frames_byte_by_byte_are_put_together),
        cmocka_unit_test(test_it_may_be_freed_inside_its_callback),
        cmocka_unit_test(test_the_blocking_side_speaks_the_same),
        cmocka_unit_test(test_blocking_receive_times_out),
        cmocka_unit_test(test_a_stale_socket_is_replaced_a_live_one_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
