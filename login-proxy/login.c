#include "login-proxy/login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "login-proxy/lesson.h"
#include "login-proxy/role.h"
#include "login-proxy/session.h"

static void login_on_hold(void *ctx, const struct directory_hold *hold)
{
    struct login *login = ctx;

    kick_adopt(login->kick, hold->account_id, hold->address);
    kick_hold(login->kick, hold);
}

static void login_on_release(void *ctx, int64_t account_id, int64_t epoch)
{
    struct login *login = ctx;

    kick_release(login->kick, account_id, epoch);
}

static void login_on_kick(void *ctx, int64_t account_id, const char *address,
                          const char *service, const char *reason)
{
    struct login *login = ctx;

    if (strcmp(service, "submission") == 0)
        return; /* none of ours */
    if (login->options.verified != NULL)
        verified_forget(login->options.verified, account_id);
    kick_out(login->kick, account_id, address, reason);
}

static void login_on_forget(void *ctx, int64_t account_id, const char *address)
{
    struct login *login = ctx;

    prints_forget(login->prints, address);
    if (login->options.verified != NULL)
        verified_forget(login->options.verified, account_id);
}

static const struct directory_ops login_directory_ops = {
    .on_hold = login_on_hold,
    .on_release = login_on_release,
    .on_kick = login_on_kick,
    .on_forget = login_on_forget,
};

static void set_default(int64_t *value, int64_t usual)
{
    if (*value == 0)
        *value = usual;
}

struct login *login_start(const struct login_options *options)
{
    struct login *login = mem_alloc(sizeof *login);
    struct login_options *o = &login->options;

    *o = *options;
    set_default(&o->quiet_ms, 300);
    set_default(&o->force_ms, 5000);
    set_default(&o->refuse_ms, 1000);
    set_default(&o->login_ms, 60000);
    set_default(&o->backend_ms, 30000);
    set_default(&o->learn_ms, 2000);
    if (o->max_sessions == 0)
        o->max_sessions = 100000;
    snprintf(login->id, sizeof login->id, "%08llx%x",
             (unsigned long long)clock_unix_ms() / 1000, (unsigned)getpid());
    login->directory = directory_new(o->loop, o->state_socket, "login",
                                     &login_directory_ops, login);
    login->kick = kick_new(o->loop, login->directory, o->quiet_ms, o->force_ms);
    login->prints = prints_new();
    login->inquiries = inquiries_new();
    return login;
}

static bool login_has_room(void *ctx)
{
    const struct login *login = ctx;

    return login->session_count < login->options.max_sessions;
}

static void login_on_accept(void *ctx, const struct listener *l, int fd)
{
    session_start_take(ctx, l, fd);
}

void login_listen(struct login *login, int fd, enum mail_protocol protocol,
                  enum tls_mode mode, bool plain_auth)
{
    struct listener *l = mem_alloc(sizeof *l);

    l->fd = fd;
    l->protocol = protocol;
    l->mode = mode;
    l->plain_auth = plain_auth;
    l->has_room = login_has_room;
    l->on_accept = login_on_accept;
    l->ctx = login;
    l->next = login->listeners;
    login->listeners = l;
    listener_start(l, login->options.loop);
}

static void stop_listening(struct login *login)
{
    while (login->listeners != NULL) {
        struct listener *l = login->listeners;

        login->listeners = l->next;
        listener_stop(l);
        free(l);
    }
}

void login_one_less(struct login *login)
{
    loop_fn *fn = login->drained;

    if (fn == NULL || login->session_count > 0 || login->lesson_count > 0)
        return;
    login->drained = NULL;
    loop_defer(login->options.loop, fn, login->drained_ctx);
}

void login_drain(struct login *login, loop_fn *fn, void *ctx)
{
    stop_listening(login);
    login->drained = fn;
    login->drained_ctx = ctx;
    login_one_less(login);
}

void login_free(struct login **login_ref)
{
    struct login *login = *login_ref;

    if (login == NULL)
        return;
    *login_ref = NULL;
    stop_listening(login);
    login->drained = NULL;
    while (login->sessions != NULL)
        session_finish(login->sessions, "shutdown");
    lesson_free_all(login);
    kick_free(&login->kick);
    directory_free(&login->directory);
    prints_free(&login->prints);
    inquiries_free(&login->inquiries);
    verified_close(&login->options.verified);
    free(login);
}
