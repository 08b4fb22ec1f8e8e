/*
 * The jobs role with a state process and workers of straw, all on one loop.
 */
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

#include "account/seal.h"
#include "account/wire.h"
#include "base/channel.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/hash.h"
#include "migrator/queue.h"

#define ADDRESS     "anna@example.net"
#define PATIENCE_MS 8000
#define HEARD_MAX   64

/* One end of a channel and what was heard there. */
struct end {
    struct channel *channel;
    json_t *heard[HEARD_MAX]; /* owned */
    unsigned count, seen;
    bool is_closed;
};

struct stage {
    char dir[64], socket_path[96];
    struct loop *loop;
    struct timer *tick;
    struct conf conf;
    struct keyring keys;
    struct seal seal;
    struct queue *queue;
    int listen_fd;
    struct watch *accept;
    struct end state, worker;
    int64_t spawn_request;
    unsigned spawns;
    bool refuses_workers, is_drained;
};

static void end_on_message(void *ctx, json_t *message, int fd)
{
    struct end *e = ctx;

    assert_int_equal(fd, -1);
    assert_true(e->count < HEARD_MAX);
    e->heard[e->count++] = json_incref(message);
}

static void end_on_closed(void *ctx)
{
    struct end *e = ctx;

    e->is_closed = true;
    channel_free(&e->channel);
}

static void end_release(struct end *e)
{
    channel_free(&e->channel);
    for (unsigned i = 0; i < e->count; i++)
        json_decref(e->heard[i]);
    memset(e, 0, sizeof *e);
}

static void on_accept(int fd, bool can_read, bool can_write, void *ctx)
{
    struct stage *s = ctx;
    int peer = accept(fd, NULL, NULL);

    (void)can_read;
    (void)can_write;
    if (peer == -1)
        return;
    end_release(&s->state);
    s->state.channel = channel_new_take(s->loop, peer, end_on_message,
                                        end_on_closed, &s->state);
}

static void start_worker(void *ctx)
{
    struct stage *s = ctx;
    int fds[2];

    if (s->refuses_workers) {
        queue_worker_started(s->queue, s->spawn_request, 0, -1, "no memory");
        return;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    end_release(&s->worker);
    s->worker.channel = channel_new_take(s->loop, fds[0], end_on_message,
                                         end_on_closed, &s->worker);
    queue_worker_started(s->queue, s->spawn_request, 4711, fds[1], NULL);
}

static void on_spawn(void *ctx, int64_t request)
{
    struct stage *s = ctx;

    s->spawn_request = request;
    s->spawns++;
    loop_defer(s->loop, start_worker, s);
}

static void on_tick(void *ctx)
{
    struct stage *s = ctx;

    loop_stop(s->loop);
    timer_start(s->tick, 5);
}

static void turn(struct stage *s)
{
    loop_run(s->loop);
}

/* The next message with this word; others are passed over. */
static json_t *expect(struct stage *s, struct end *e, const char *word)
{
    int64_t until = loop_now_ms(s->loop) + PATIENCE_MS;

    for (;;) {
        while (e->seen < e->count) {
            json_t *message = e->heard[e->seen++];
            const char *m = wire_text(message, "m");

            if (m == NULL ? word[0] == '\0' : strcmp(m, word) == 0)
                return message;
        }
        if (loop_now_ms(s->loop) > until)
            fail_msg("no %s was heard", word);
        turn(s);
    }
}

static void expect_closed(struct stage *s, const struct end *e)
{
    int64_t until = loop_now_ms(s->loop) + PATIENCE_MS;

    while (!e->is_closed) {
        assert_true(loop_now_ms(s->loop) < until);
        turn(s);
    }
}

static void give_job(struct stage *s, int64_t id, const char *kind)
{
    json_t *m = json_pack("{s:s, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:{s:b}}",
                          "m", "job", "job", (json_int_t)id, "kind", kind,
                          "account", (json_int_t)9, "epoch", (json_int_t)3,
                          "address", ADDRESS, "legacy_user", "anna", "imap",
                          "imap://127.0.0.1:143", "options", "inbox_only", 1);

    wire_put_seal(m, &s->seal);
    channel_send_take(s->state.channel, m, -1);
}

static void worker_says(struct stage *s, const char *text)
{
    channel_send_take(s->worker.channel, json_loads(text, 0, NULL), -1);
}

static void expect_done(struct stage *s, int64_t id, const char *kind)
{
    json_t *done = expect(s, &s->state, "done");

    assert_int_equal(wire_int(done, "job", 0), id);
    assert_string_equal(wire_text(done, "kind"), kind);
}

static void start_queue(struct stage *s)
{
    const struct queue_options options = {.loop = s->loop,
                                          .conf = &s->conf,
                                          .state_socket = s->socket_path,
                                          .keys = &s->keys,
                                          .spawn = on_spawn,
                                          .spawn_ctx = s};

    assert_int_equal(queue_start(&options, &s->queue, NULL), 0);
}

static int set_up(void **state)
{
    struct stage *s = mem_alloc(sizeof *s);
    uint8_t public_key[SEAL_KEY_SIZE];
    struct secret password;

    log_open("/dev/null", LOG_LEVEL_DEBUG, "test", NULL);
    snprintf(s->dir, sizeof s->dir, "/tmp/mailhaul-queue-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->socket_path, sizeof s->socket_path, "%s/state", s->dir);
    s->loop = loop_new();
    s->tick = timer_new(s->loop, on_tick, s);
    timer_start(s->tick, 5);
    s->conf.state_dir = s->dir;
    s->conf.local.imap = (char *)"imap://127.0.0.1:10143";
    s->conf.store.path = (char *)"/var/mail/{domain}/{local}/Maildir";
    s->conf.jobs.workers = 1;
    s->conf.hash.scheme = (char *)"SHA512-CRYPT";
    s->conf.hash.cost = 1000;
    keyring_init(&s->keys);
    assert_int_equal(keyring_add(&s->keys, NULL), 0);
    assert_int_equal(keyring_public(&s->keys, public_key, NULL), 0);
    secret_init(&password);
    secret_set(&password, "pw-anna", 7);
    assert_int_equal(seal_close(public_key, ADDRESS, &password, &s->seal, NULL),
                     0);
    secret_wipe(&password);
    s->listen_fd = channel_listen_unix(s->socket_path, 0600, NULL);
    assert_true(s->listen_fd >= 0);
    s->accept = watch_new(s->loop, s->listen_fd, on_accept, s);
    watch_want(s->accept, true, false);
    start_queue(s);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *s = *state;

    queue_free(&s->queue);
    end_release(&s->state);
    end_release(&s->worker);
    watch_free(&s->accept);
    close(s->listen_fd);
    timer_free(&s->tick);
    loop_free(&s->loop);
    keyring_release(&s->keys);
    unlink(s->socket_path);
    rmdir(s->dir);
    free(s);
    return 0;
}

static void test_it_says_hello_and_leases_by_its_slots(void **state)
{
    struct stage *s = *state;
    json_t *m = expect(s, &s->state, "hello");

    assert_string_equal(wire_text(m, "role"), "jobs");
    m = expect(s, &s->state, "lease");
    assert_int_equal(wire_int(m, "free", -1), 1);
    assert_int_equal(wire_int(m, "urgent", -1), 4);
}

static void test_a_worker_gets_the_opened_job_and_its_word_is_passed(void **st)
{
    struct stage *s = *st;
    json_t *m;

    expect(s, &s->state, "lease");
    give_job(s, 5, "trail");
    m = expect(s, &s->worker, "");
    assert_string_equal(wire_text(m, "password"), "pw-anna");
    assert_string_equal(wire_text(m, "kind"), "trail");
    assert_string_equal(wire_text(m, "maildir"),
                        "/var/mail/example.net/anna/Maildir");
    assert_non_null(strstr(wire_text(m, "ledger_dir"), "/" ADDRESS));
    assert_true(wire_bool(m, "inbox_only"));
    worker_says(s, "{\"m\":\"progress\",\"messages\":17}");
    m = expect(s, &s->state, "progress");
    while (wire_int(m, "messages", -1) == -1)
        m = expect(s, &s->state, "progress");
    assert_int_equal(wire_int(m, "messages", -1), 17);
    worker_says(s, "{\"m\":\"done\",\"kind\":\"none\",\"text\":\"\","
                   "\"appended\":2}");
    queue_worker_exited(s->queue, 4711, 0); /* before its last word is read */
    for (int i = 0; i < 5; i++)
        turn(s);
    channel_free(&s->worker.channel);
    m = expect(s, &s->state, "done");
    assert_int_equal(wire_int(m, "job", 0), 5);
    assert_int_equal(wire_int(m, "appended", 0), 2);
    assert_int_equal(wire_int(expect(s, &s->state, "lease"), "free", -1), 1);
}

static void test_done_waits_until_the_worker_is_dead(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    give_job(s, 5, "delta");
    expect(s, &s->worker, "");
    worker_says(s, "{\"m\":\"done\",\"kind\":\"none\",\"text\":\"\"}");
    for (int i = 0; i < 10; i++)
        turn(s);
    channel_free(&s->worker.channel);
    for (int i = 0; i < 10; i++)
        turn(s);
    for (unsigned i = 0; i < s->state.count; i++)
        assert_string_not_equal(wire_text(s->state.heard[i], "m"), "done");
    queue_worker_exited(s->queue, 4711, 0);
    expect_done(s, 5, "none");
}

static void test_a_worker_killed_is_a_job_to_be_done_again(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    give_job(s, 6, "initial");
    expect(s, &s->worker, "");
    channel_free(&s->worker.channel);
    queue_worker_exited(s->queue, 4711, 9);
    expect_done(s, 6, "retry");
}

static void test_a_worker_that_cannot_start_is_told(void **state)
{
    struct stage *s = *state;

    s->refuses_workers = true;
    expect(s, &s->state, "lease");
    give_job(s, 6, "initial");
    expect_done(s, 6, "retry");
}

static void test_a_cancelled_job_is_done_when_its_worker_is_gone(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    give_job(s, 7, "final");
    expect(s, &s->worker, "");
    channel_send_take(s->state.channel,
                      json_pack("{s:s, s:i}", "m", "cancel", "job", 7), -1);
    expect_closed(s, &s->worker);
    queue_worker_exited(s->queue, 4711, 0);
    expect_done(s, 7, "retry");
}

static void test_state_gone_ends_the_workers_and_it_comes_back(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    give_job(s, 8, "initial");
    expect(s, &s->worker, "");
    channel_free(&s->state.channel);
    expect_closed(s, &s->worker);
    expect(s, &s->state, "hello");
    give_job(s, 9, "delta"); /* the orphan still lives */
    expect_done(s, 9, "retry");
    queue_worker_exited(s->queue, 4711, 0);
    for (int i = 0; i < 10; i++)
        turn(s);
    give_job(s, 10, "delta");
    while (s->spawns < 2)
        turn(s);
}

static void test_a_hash_is_made_beside_the_loop(void **state)
{
    struct stage *s = *state;
    json_t *m;

    expect(s, &s->state, "lease");
    give_job(s, 11, "hash");
    m = expect(s, &s->state, "done");
    assert_string_equal(wire_text(m, "kind"), "none");
    assert_memory_equal(wire_text(m, "hash"), "{SHA512-CRYPT}$6$", 17);
    assert_int_equal(s->spawns, 0);
}

static void test_a_seal_of_somebody_else_is_a_setup_error(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    s->seal.blob[20] ^= 1;
    give_job(s, 12, "initial");
    expect_done(s, 12, "setup");
    assert_int_equal(s->spawns, 0);
}

/* Legacy's next good login brings the password again. */
static void test_a_seal_of_a_key_that_is_gone_counts_as_refused(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    s->seal.wrapped_key[1] ^= 1;
    give_job(s, 12, "initial");
    expect_done(s, 12, "denied");
    assert_int_equal(s->spawns, 0);
}

static json_t *rewrap_message(const struct stage *s, const struct keyring *ring)
{
    json_t *item =
        json_pack("{s:i,s:i,s:s}", "place", 0, "id", 7, "address", ADDRESS);
    json_t *m = json_pack("{s:s,s:i,s:[o]}", "m", "rewrap", "question", 5,
                          "seals", item);
    uint8_t id[SEAL_ID_SIZE];

    wire_put_seal(item, &s->seal);
    keyring_id(ring, 0, id);
    wire_put_bytes(m, "newest", id, sizeof id);
    return m;
}

static void test_a_seal_is_wrapped_anew_by_who_has_the_newest_key(void **state)
{
    struct stage *s = *state;
    struct keyring newer;
    const json_t *m, *item;
    struct seal seal = s->seal;
    struct secret password;

    expect(s, &s->state, "lease");
    keyring_init(&newer);
    assert_int_equal(keyring_add(&newer, NULL), 0);
    /* a newer key that we do not have: another process is meant */
    channel_send_take(s->state.channel, rewrap_message(s, &newer), -1);
    secret_set(&newer.keys[1], s->keys.keys[0].bytes, SEAL_KEY_SIZE);
    newer.count = 2;
    keyring_copy(&s->keys, &newer);
    queue_free(&s->queue);
    start_queue(s);
    expect(s, &s->state, "lease");
    channel_send_take(s->state.channel, rewrap_message(s, &newer), -1);
    m = expect(s, &s->state, "rewrapped");
    item = json_array_get(json_object_get(m, "seals"), 0);
    assert_int_equal(wire_int(item, "id", 0), 7);
    assert_int_equal(wire_int(m, "question", 0), 5);
    assert_int_equal(
        wire_bytes(item, "key", seal.wrapped_key, sizeof seal.wrapped_key),
        SEAL_WRAPPED_SIZE);
    keyring_keep_newest(&newer);
    secret_init(&password);
    assert_int_equal(keyring_open(&newer, ADDRESS, &seal, &password, NULL), 0);
    assert_string_equal(password.bytes, "pw-anna");
    secret_wipe(&password);
    keyring_release(&newer);
}

static void test_a_job_for_a_newer_key_is_given_back(void **state)
{
    struct stage *s = *state;
    const uint8_t newer[SEAL_ID_SIZE] = {1, 2, 3, 4};
    json_t *m = json_pack("{s:s,s:i,s:s,s:i,s:i,s:s,s:s,s:s}", "m", "job",
                          "job", 12, "kind", "initial", "account", 9, "epoch",
                          3, "address", ADDRESS, "legacy_user", "anna", "imap",
                          "imap://127.0.0.1:143");

    expect(s, &s->state, "lease");
    /* of an earlier generation: the password was sealed by the next one */
    s->seal.wrapped_key[1] ^= 1;
    wire_put_seal(m, &s->seal);
    wire_put_bytes(m, "newest", newer, sizeof newer);
    channel_send_take(s->state.channel, m, -1);
    expect_done(s, 12, "retry");
    assert_int_equal(s->spawns, 0);
}

static void on_drained(void *ctx)
{
    ((struct stage *)ctx)->is_drained = true;
}

static void test_a_drain_ends_with_the_last_worker(void **state)
{
    struct stage *s = *state;

    expect(s, &s->state, "lease");
    give_job(s, 13, "initial");
    expect(s, &s->worker, "");
    queue_drain(s->queue, on_drained, s);
    for (int i = 0; i < 10; i++)
        turn(s);
    assert_false(s->is_drained);
    channel_free(&s->worker.channel);
    queue_worker_exited(s->queue, 4711, 0);
    expect_done(s, 13, "retry");
    while (!s->is_drained)
        turn(s);
}

static void test_a_ledger_has_its_own_directory_for_any_address(void **state)
{
    struct conf conf = {.state_dir = (char *)"/s"};
    char a[600], b[600], name[320];

    (void)state;
    assert_int_equal(queue_ledger_dir(&conf, ADDRESS, a, sizeof a, NULL), 0);
    assert_memory_equal(a, "/s/ledger/", 10);
    assert_string_equal(a + 12, "/" ADDRESS);
    memset(name, 'x', sizeof name);
    name[300] = '\0';
    assert_int_equal(queue_ledger_dir(&conf, name, a, sizeof a, NULL), 0);
    name[299] = 'y';
    assert_int_equal(queue_ledger_dir(&conf, name, b, sizeof b, NULL), 0);
    assert_string_not_equal(a, b);
    assert_true(strlen(strrchr(a, '/') + 1) <= 255);
    assert_int_equal(queue_ledger_dir(&conf, "../x", a, sizeof a, NULL), -1);
    assert_int_equal(queue_ledger_dir(&conf, "", a, sizeof a, NULL), -1);
    assert_int_equal(queue_ledger_dir(&conf, ADDRESS, a, 20, NULL), -1);
}

static void test_hashes_have_a_salt_and_refuse_unknown_schemes(void **state)
{
    char a[HASH_SIZE], b[HASH_SIZE];
    struct secret password;
    struct err err;

    (void)state;
    secret_init(&password);
    secret_set(&password, "secret", 6);
    assert_int_equal(hash_make("SHA512-CRYPT", 1000, &password, a, &err), 0);
    assert_int_equal(hash_make("SHA512-CRYPT", 1000, &password, b, &err), 0);
    assert_string_not_equal(a, b);
    assert_int_equal(hash_make("YESCRYPT", 0, &password, a, &err), 0);
    assert_memory_equal(a, "{CRYPT}$y$", 10);
    assert_int_equal(hash_make("BCRYPT", 4, &password, a, &err), 0);
    assert_memory_equal(a, "{CRYPT}$2b$", 11);
    assert_int_equal(hash_make("MD4", 0, &password, a, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_int_equal(hash_make("BCRYPT", 99, &password, a, &err), -1);
    secret_set(&password, "a\0b", 3);
    assert_int_equal(hash_make("BCRYPT", 4, &password, a, &err), -1);
    assert_int_equal(err.kind, ERR_DENIED);
    secret_wipe(&password);
}

#define PLAYED(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(test_it_says_hello_and_leases_by_its_slots),
        PLAYED(test_a_worker_gets_the_opened_job_and_its_word_is_passed),
        PLAYED(test_done_waits_until_the_worker_is_dead),
        PLAYED(test_a_worker_killed_is_a_job_to_be_done_again),
        PLAYED(test_a_worker_that_cannot_start_is_told),
        PLAYED(test_a_cancelled_job_is_done_when_its_worker_is_gone),
        PLAYED(test_state_gone_ends_the_workers_and_it_comes_back),
        PLAYED(test_a_hash_is_made_beside_the_loop),
        PLAYED(test_a_seal_of_somebody_else_is_a_setup_error),
        PLAYED(test_a_seal_of_a_key_that_is_gone_counts_as_refused),
        PLAYED(test_a_job_for_a_newer_key_is_given_back),
        PLAYED(test_a_seal_is_wrapped_anew_by_who_has_the_newest_key),
        PLAYED(test_a_drain_ends_with_the_last_worker),
        cmocka_unit_test(test_a_ledger_has_its_own_directory_for_any_address),
        cmocka_unit_test(test_hashes_have_a_salt_and_refuse_unknown_schemes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
