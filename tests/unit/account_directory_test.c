#include "account/directory.h"

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

#include "account/wire.h"
#include "base/channel.h"
#include "base/mem.h"

/* A state process that writes down what it hears and says what a test tells
   it to. Everything runs on one loop; wait_for() turns it. */
static struct loop *loop;
static struct timer *alarm_clock;
static char folder[64], path[96];
static int listen_fd;
static struct watch *listen_watch;
static struct channel *peer; /* the last connection that came */
static int connections;
static json_t *heard;      /* array of messages */
static json_t *last_heard; /* what hear() gave out */

static struct directory *directory;
static char events[512];
static struct directory_answer last_answer;
static struct err last_err;
static bool frees_in_callback, is_quiet_at_once;

static void note(const char *format, long long a, long long b)
{
    size_t used = strlen(events);

    snprintf(events + used, sizeof(events) - used, "%s(%lld,%lld) ", format, a,
             b);
}

static void peer_on_message(void *ctx, json_t *message, int fd)
{
    (void)ctx;
    (void)fd;
    json_array_append(heard, message);
    loop_stop(loop);
}

static void peer_on_closed(void *ctx)
{
    (void)ctx;
    channel_free(&peer);
}

static void on_connection(int fd, bool can_read, bool can_write, void *ctx)
{
    int client = accept(fd, NULL, NULL);

    (void)can_read;
    (void)can_write;
    (void)ctx;
    channel_free(&peer);
    peer =
        channel_new_take(loop, client, peer_on_message, peer_on_closed, NULL);
    connections++;
}

static void open_door(void)
{
    listen_fd = channel_listen_unix(path, 0600, NULL);
    assert_int_not_equal(listen_fd, -1);
    listen_watch = watch_new(loop, listen_fd, on_connection, NULL);
    watch_want(listen_watch, true, false);
}

static void close_door(void)
{
    watch_free(&listen_watch);
    if (listen_fd != -1)
        close(listen_fd);
    listen_fd = -1;
    unlink(path);
}

static void on_hold(void *ctx, const struct directory_hold *hold)
{
    (void)ctx;
    assert_int_equal(hold->quiet_within_ms, 5000);
    assert_int_equal(hold->side, HOLD_LEGACY);
    note("hold", hold->account_id, hold->epoch);
    if (is_quiet_at_once)
        directory_quiet(directory, hold->account_id, hold->epoch, false);
    if (frees_in_callback)
        directory_free(&directory);
    loop_stop(loop);
}

static void on_release(void *ctx, int64_t id, int64_t epoch)
{
    (void)ctx;
    note("release", id, epoch);
    if (frees_in_callback)
        directory_free(&directory);
    loop_stop(loop);
}

static void on_kick(void *ctx, int64_t id, const char *address,
                    const char *service, const char *reason)
{
    (void)ctx;
    assert_string_equal(address, "ann@example.net");
    assert_string_equal(service, "login");
    assert_string_equal(reason, "locked");
    note("kick", id, 0);
    if (frees_in_callback)
        directory_free(&directory);
    loop_stop(loop);
}

static void on_forget(void *ctx, int64_t id, const char *address)
{
    (void)ctx;
    assert_string_equal(address, "ann@example.net");
    note("forget", id, 0);
    if (frees_in_callback)
        directory_free(&directory);
    loop_stop(loop);
}

static const struct directory_ops ops = {.on_hold = on_hold,
                                         .on_release = on_release,
                                         .on_kick = on_kick,
                                         .on_forget = on_forget};

static void on_answer(void *ctx, const struct directory_answer *answer,
                      const struct err *err)
{
    note(ctx, answer->answer, answer->account_id);
    last_answer = *answer;
    last_err = *err;
    if (frees_in_callback)
        directory_free(&directory);
    loop_stop(loop);
}

static void turn(int wait_ms)
{
    timer_start(alarm_clock, wait_ms);
    loop_run(loop);
    timer_cancel(alarm_clock);
}

static void on_alarm(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

/* The next message that the fake hears with that name. */
static const json_t *hear(const char *m)
{
    for (int tries = 0; tries < 200; tries++) {
        for (size_t i = 0; i < json_array_size(heard); i++) {
            json_t *message = json_array_get(heard, i);

            if (strcmp(wire_text(message, "m"), m) != 0)
                continue;
            json_decref(last_heard);
            last_heard = json_incref(message);
            json_array_remove(heard, i);
            return last_heard;
        }
        turn(20);
    }
    fail_msg("\"%s\" was not heard", m);
    return NULL;
}

static void wait_for(const char *wanted)
{
    for (int tries = 0; tries < 100 && strcmp(events, wanted) != 0; tries++)
        turn(20);
    assert_string_equal(events, wanted);
    events[0] = '\0';
}

static void say(json_t *message)
{
    assert_non_null(peer);
    channel_send_take(peer, message, -1);
}

static void say_hold(const char *m, int64_t id, int64_t epoch)
{
    say(json_pack("{s:s, s:I, s:I, s:i}", "m", m, "account", (json_int_t)id,
                  "epoch", (json_int_t)epoch, "quiet_within_ms", 5000));
}

static void say_answer(int64_t question, const char *answer, int64_t account)
{
    say(json_pack("{s:s, s:I, s:s, s:I}", "m", "answer", "id",
                  (json_int_t)question, "answer", answer, "account",
                  (json_int_t)account));
}

static struct directory_query *ask(const char *typed, const char *tag)
{
    return directory_ask(directory, SERVICE_LOGIN, typed, on_answer,
                         (void *)(uintptr_t)tag);
}

static int start(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/mailhaul-directory-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/state.sock", folder);
    loop = loop_new();
    alarm_clock = timer_new(loop, on_alarm, NULL);
    heard = json_array();
    connections = 0;
    events[0] = '\0';
    frees_in_callback = is_quiet_at_once = false;
    open_door();
    directory = directory_new(loop, path, "login", &ops, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    directory_free(&directory);
    channel_free(&peer);
    close_door();
    turn(10);
    json_decref(heard);
    json_decref(last_heard);
    last_heard = NULL;
    timer_free(&alarm_clock);
    loop_free(&loop);
    rmdir(folder);
    return 0;
}

static void test_hello_comes_first_and_without_being_asked(void **state)
{
    const json_t *hello;

    (void)state;
    ask("ann@example.net", "ann");
    hello = hear("hello");
    assert_string_equal(wire_text(hello, "role"), "login");
    assert_int_equal(wire_int(hello, "pid", 0), getpid());
    hear("ask");
    assert_int_equal(connections, 1);
}

static void test_an_answer_reaches_its_question_whole(void **state)
{
    const json_t *question;

    (void)state;
    ask("Ann@example.net", "ann");
    question = hear("ask");
    assert_string_equal(wire_text(question, "service"), "login");
    assert_string_equal(wire_text(question, "name"), "Ann@example.net");
    say(json_pack("{s:s, s:I, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s}",
                  "m", "answer", "id", (json_int_t)wire_int(question, "id", 0),
                  "answer", "legacy", "account", 5, "epoch", 7,
                  "password_state", "learnt", "address", "ann@example.net",
                  "legacy_user", "u1", "local_user", "ann@example.net", "imap",
                  "imaps://mail.example.net:1993", "smtp",
                  "smtp://mx.example.net"));
    wait_for("ann(0,5) ");
    assert_int_equal(last_err.kind, ERR_NONE);
    assert_int_equal(last_answer.answer, ROUTE_TO_LEGACY);
    assert_int_equal(last_answer.epoch, 7);
    assert_int_equal(last_answer.password_state, PASSWORD_LEARNT);
    assert_string_equal(last_answer.address, "ann@example.net");
    assert_string_equal(last_answer.legacy_user, "u1");
    assert_string_equal(last_answer.local_user, "ann@example.net");
    assert_string_equal(last_answer.legacy_imap.host, "mail.example.net");
    assert_int_equal(last_answer.legacy_imap.port, 1993);
    assert_int_equal(last_answer.legacy_imap.tls, TLS_IMPLICIT);
    assert_string_equal(last_answer.legacy_smtp.host, "mx.example.net");
    assert_string_equal(last_answer.legacy_pop3.host, "");
}

static void test_answers_out_of_order_find_their_questions(void **state)
{
    int64_t first, second;

    (void)state;
    ask("a@example.net", "a");
    ask("b@example.net", "b");
    first = wire_int(hear("ask"), "id", 0);
    second = wire_int(hear("ask"), "id", 0);
    say_answer(second, "refuse", 0);
    say_answer(77, "local", 9); /* nobody asked */
    say_answer(first, "local", 1);
    say_answer(first, "refuse", 1); /* once is enough */
    wait_for("b(5,0) a(1,1) ");
    turn(50);
    assert_string_equal(events, "");
}

static void test_an_answer_nobody_can_act_on_is_unavailable(void **state)
{
    static const char *const bad[] = {"wait", "dance", ""};
    char address[ADDRESS_MAX + 1];
    int64_t id;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        ask("a@example.net", "a");
        id = wire_int(hear("ask"), "id", 0);
        say_answer(id, bad[i], 4);
        wait_for("a(6,0) ");
        assert_int_equal(last_err.kind, ERR_PEER);
    }
    memset(address, 'a', sizeof(address) - 1);
    address[ADDRESS_MAX] = '\0';
    ask("a@example.net", "a");
    id = wire_int(hear("ask"), "id", 0);
    say(json_pack("{s:s, s:I, s:s, s:s}", "m", "answer", "id", (json_int_t)id,
                  "answer", "local", "address", address));
    wait_for("a(6,0) ");
    ask("a@example.net", "a");
    id = wire_int(hear("ask"), "id", 0);
    say(json_pack("{s:s, s:I, s:s, s:s}", "m", "answer", "id", (json_int_t)id,
                  "answer", "legacy", "imap", "no url"));
    wait_for("a(6,0) ");
}

static void test_a_hold_after_an_answer_stays_after_it(void **state)
{
    int64_t id;

    (void)state;
    ask("ann@example.net", "ann");
    id = wire_int(hear("ask"), "id", 0);
    say_answer(id, "legacy", 5);
    say_hold("hold", 5, 8);
    say_hold("release", 5, 8);
    wait_for("ann(0,5) hold(5,8) release(5,8) ");
}

static void test_quiet_from_inside_the_hold_is_heard(void **state)
{
    const json_t *quiet;

    (void)state;
    is_quiet_at_once = true;
    hear("hello");
    say_hold("hold", 5, 8);
    quiet = hear("quiet");
    assert_int_equal(wire_int(quiet, "account", 0), 5);
    assert_int_equal(wire_int(quiet, "epoch", 0), 8);
    assert_false(wire_bool(quiet, "trail"));
}

static void test_confirm_and_busy_say_what_they_are_about(void **state)
{
    const json_t *busy;

    (void)state;
    directory_confirm(directory, 1); /* not connected yet: lost */
    hear("hello");
    directory_confirm(directory, 5);
    directory_busy(directory, 5, 8);
    directory_quiet(directory, 6, 9, true);
    assert_int_equal(wire_int(hear("confirm"), "account", 0), 5);
    busy = hear("busy");
    assert_int_equal(wire_int(busy, "account", 0), 5);
    assert_int_equal(wire_int(busy, "epoch", 0), 8);
    assert_true(wire_bool(hear("quiet"), "trail"));
}

static void test_what_was_learnt_is_told(void **state)
{
    struct seal seal = {.blob_length = 33}, got;
    const struct directory_learn learnt = {.typed = "Ann@example.net",
                                           .legacy_user = "ann",
                                           .via = "imap",
                                           .prefix = "INBOX.",
                                           .separator = "",
                                           .seal = &seal};
    const json_t *m;

    (void)state;
    memset(seal.wrapped_key, 1, sizeof(seal.wrapped_key));
    memset(seal.blob, 2, 33);
    directory_learn(directory, &learnt, on_answer, (char[]){"learn"});
    m = hear("learn");
    assert_string_equal(wire_text(m, "name"), "Ann@example.net");
    assert_string_equal(wire_text(m, "legacy_user"), "ann");
    assert_string_equal(wire_text(m, "via"), "imap");
    assert_string_equal(wire_text(m, "prefix"), "INBOX.");
    assert_string_equal(wire_text(m, "separator"), "");
    assert_int_equal(wire_seal(m, &got, NULL), 0);
    assert_memory_equal(&got, &seal, sizeof(seal));
    say_answer(wire_int(m, "id", 0), "legacy", 5);
    wait_for("learn(0,5) ");
}

static void test_questions_under_way_are_asked_again_after_a_break(void **state)
{
    int64_t a, b;

    (void)state;
    ask("a@example.net", "a");
    ask("b@example.net", "b");
    a = wire_int(hear("ask"), "id", 0);
    b = wire_int(hear("ask"), "id", 0);
    say_answer(a, "local", 1);
    wait_for("a(1,1) ");
    channel_free(&peer);
    hear("hello");
    hear("hello");
    ask("c@example.net", "c");
    assert_int_equal(wire_int(hear("ask"), "id", 0), b);
    say_answer(b, "local", 2);
    say_answer(wire_int(hear("ask"), "id", 0), "local", 3);
    wait_for("b(1,2) c(1,3) ");
    assert_int_equal(connections, 2);
}

static void test_a_question_without_connection_waits_for_one(void **state)
{
    (void)state;
    hear("hello");
    close_door();
    channel_free(&peer);
    turn(50);
    ask("a@example.net", "a");
    turn(400);
    open_door();
    say_answer(wire_int(hear("ask"), "id", 0), "local", 1);
    wait_for("a(1,1) ");
}

static void
test_without_connection_a_question_fails_after_five_seconds(void **state)
{
    int64_t began;

    (void)state;
    hear("hello");
    close_door();
    channel_free(&peer);
    turn(50);
    began = loop_now_ms(loop);
    ask("a@example.net", "a");
    ask("b@example.net", "b");
    while (strlen(events) < strlen("a(6,0) b(6,0) ") &&
           loop_now_ms(loop) - began < 8000)
        turn(500);
    assert_string_equal(events, "a(6,0) b(6,0) ");
    assert_int_equal(last_err.kind, ERR_RETRY);
    assert_in_range(loop_now_ms(loop) - began, 4900, 5600);
}

static void test_a_cancelled_question_calls_nobody(void **state)
{
    struct directory_query *first, *second;
    int64_t a, b;

    (void)state;
    first = ask("a@example.net", "a");
    ask("b@example.net", "b");
    second = ask("c@example.net", "c");
    directory_cancel(&second); /* before it is sent */
    assert_null(second);
    a = wire_int(hear("ask"), "id", 0);
    b = wire_int(hear("ask"), "id", 0);
    directory_cancel(&first);
    directory_cancel(&first);
    say_answer(a, "local", 1);
    say_answer(b, "local", 2);
    wait_for("b(1,2) ");
    ask("d@example.net", "d"); /* the list still has its end */
    say_answer(wire_int(hear("ask"), "id", 0), "local", 4);
    wait_for("d(1,4) ");
}

static void test_holds_of_a_state_that_died_are_released(void **state)
{
    (void)state;
    hear("hello");
    say_hold("hold", 5, 8);
    say_hold("hold", 6, 3);
    wait_for("hold(5,8) hold(6,3) ");
    directory_quiet(directory, 6, 3, true);
    hear("quiet");
    channel_free(&peer);
    hear("hello");
    say_hold("hold", 6, 3);
    wait_for("hold(6,3) ");
    directory_quiet(directory, 6, 3, false);
    /* that it wanted a trail is not forgotten with the connection */
    assert_true(wire_bool(hear("quiet"), "trail"));
    say(json_pack("{s:s}", "m", "welcome"));
    wait_for("release(5,8) ");
    say_hold("release", 6, 3);
    wait_for("release(6,3) ");
}

static void test_kick_and_forget_say_whom(void **state)
{
    (void)state;
    hear("hello");
    say(json_pack("{s:s,s:i,s:s,s:s,s:s}", "m", "kick", "account", 5, "address",
                  "ann@example.net", "service", "login", "reason", "locked"));
    wait_for("kick(5,0) ");
    frees_in_callback = true;
    say(json_pack("{s:s,s:i,s:s}", "m", "forget", "account", 5, "address",
                  "ann@example.net"));
    wait_for("forget(5,0) ");
}

static void test_any_answer_ends_the_telling_of_holds(void **state)
{
    (void)state;
    hear("hello");
    say_hold("hold", 5, 8);
    wait_for("hold(5,8) ");
    channel_free(&peer);
    hear("hello");
    ask("a@example.net", "a");
    say_answer(wire_int(hear("ask"), "id", 0), "local", 1);
    wait_for("release(5,8) a(1,1) ");
}

static void test_it_may_be_freed_in_any_callback(void **state)
{
    (void)state;
    frees_in_callback = true;
    ask("a@example.net", "a");
    ask("b@example.net", "b");
    say_answer(wire_int(hear("ask"), "id", 0), "local", 1);
    wait_for("a(1,1) ");
    assert_null(directory);
    turn(50);
    json_array_clear(heard);
    directory = directory_new(loop, path, "smtp", &ops, NULL);
    hear("hello");
    say_hold("hold", 5, 8);
    say_hold("hold", 6, 8);
    wait_for("hold(5,8) ");
    assert_null(directory);
}

static void test_nonsense_from_the_peer_breaks_nothing(void **state)
{
    (void)state;
    hear("hello");
    say(json_pack("{s:i}", "m", 5));
    say(json_object());
    say(json_pack("{s:s}", "m", "dance"));
    say(json_pack("{s:s, s:s}", "m", "release", "account", "x"));
    wait_for("release(0,0) ");
    ask("a@example.net", "a");
    say_answer(wire_int(hear("ask"), "id", 0), "local", 1);
    wait_for("a(1,1) ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hello_comes_first_and_without_being_asked),
        TEST(test_an_answer_reaches_its_question_whole),
        TEST(test_answers_out_of_order_find_their_questions),
        TEST(test_an_answer_nobody_can_act_on_is_unavailable),
        TEST(test_a_hold_after_an_answer_stays_after_it),
        TEST(test_quiet_from_inside_the_hold_is_heard),
        TEST(test_confirm_and_busy_say_what_they_are_about),
        TEST(test_what_was_learnt_is_told),
        TEST(test_questions_under_way_are_asked_again_after_a_break),
        TEST(test_a_question_without_connection_waits_for_one),
        TEST(test_without_connection_a_question_fails_after_five_seconds),
        TEST(test_a_cancelled_question_calls_nobody),
        TEST(test_holds_of_a_state_that_died_are_released),
        TEST(test_kick_and_forget_say_whom),
        TEST(test_any_answer_ends_the_telling_of_holds),
        TEST(test_it_may_be_freed_in_any_callback),
        TEST(test_nonsense_from_the_peer_breaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
