/*
 * The command that a domain wants run after each flip of one of its accounts,
 * for instance to make legacy send its mail to us at once.
 *
 *   flip -> due -> runs -> done
 *                    \--> failed -> runs (later and later) -> ...
 *
 * What is due stands in the account's row since the flip's own transaction, so
 * a command that was cut off with this process runs again: it must bear that.
 */
#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define COMMANDS_MAX   4   /* at once */
#define SAID_MAX       200 /* of its first line */
#define ENVIRONMENT    9
#define VARIABLE_MAX   (ADDRESS_MAX + 32)
#define COMMAND_ROUNDS 16 /* reads of its output in one turn */

/* A command that runs. */
struct state_command {
    struct state_command *next;
    struct state *state;
    int64_t account_id;
    int64_t epoch; /* of the account at its start: that of the flip */
    pid_t pid;     /* leads a process group */
    int fd;        /* what it says */
    struct watch *watch;
    struct timer *limit;
    bool is_late; /* and was killed */
    char said[SAID_MAX];
    size_t said_length;
    bool has_line; /* the first line is whole */
    int64_t began_ms;
};

static void command_free(struct state_command *command)
{
    struct state_command **at = &command->state->commands;

    while (*at != command)
        at = &(*at)->next;
    *at = command->next;
    watch_free(&command->watch);
    timer_free(&command->limit);
    if (command->fd != -1)
        close(command->fd);
    free(command);
}

/* --- what it says */

static void take_output(struct state_command *c, const char *bytes,
                        size_t length)
{
    for (size_t i = 0; i < length && !c->has_line; i++) {
        if (bytes[i] == '\n')
            c->has_line = c->said_length > 0;
        else if (c->said_length < sizeof(c->said) - 1)
            c->said[c->said_length++] = bytes[i];
    }
    c->said[c->said_length] = '\0';
}

static void drain_output(struct state_command *c)
{
    char bytes[4096];

    /* whoever never stops talking has his turns like everybody else */
    for (int i = 0; i < COMMAND_ROUNDS && c->fd != -1; i++) {
        ssize_t n = read(c->fd, bytes, sizeof(bytes));

        if (n > 0) {
            take_output(c, bytes, (size_t)n);
            continue;
        }
        if (n == -1 && (errno == EAGAIN || errno == EINTR))
            return;
        watch_free(&c->watch);
        close(c->fd);
        c->fd = -1;
    }
}

static void on_output(int fd, bool can_read, bool can_write, void *ctx)
{
    (void)fd;
    (void)can_read;
    (void)can_write;
    drain_output(ctx);
}

/* --- how it ends */

static void describe_end(const struct state_command *c, int status,
                         char out[128])
{
    if (c->is_late)
        snprintf(out, 128, "killed after %u s",
                 c->state->conf->jobs.on_flip_seconds);
    else if (WIFSIGNALED(status))
        snprintf(out, 128, "ended by signal %d", WTERMSIG(status));
    else
        snprintf(out, 128, "exit status %d", WEXITSTATUS(status));
}

static void note_end(struct state *s, struct account *a, bool is_good,
                     const char *how)
{
    int64_t now = clock_unix_ms();

    a->on_flip_attempts++;
    a->on_flip = is_good ? ON_FLIP_DONE : ON_FLIP_FAILED;
    a->on_flip_at = is_good
                        ? now
                        : now + schedule_retry_ms(a->on_flip_attempts - 1,
                                                  s->conf->jobs.retry_seconds);
    state_store(s, a);
    state_audit(s, a->id, is_good ? "on-flip done" : "on-flip failed",
                "attempt %u: %s", a->on_flip_attempts, how);
}

static bool is_pending(const struct account *a)
{
    return a->on_flip == ON_FLIP_DUE || a->on_flip == ON_FLIP_FAILED;
}

static void command_ended(struct state_command *c, int status)
{
    struct state *s = c->state;
    bool is_good = !c->is_late && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    struct account account;
    char how[128], text[512];

    drain_output(c);
    /* what it has left behind goes with it */
    kill(-c->pid, SIGKILL);
    describe_end(c, status, how);
    snprintf(text, sizeof(text), "%s%s%s", how, c->said_length ? ": " : "",
             log_safe(c->said));
    if (state_load(s, c->account_id, &account, NULL)) {
        log_line(is_good ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
                 "account %s on_flip %s ms=%lld said=\"%s\"", account.address,
                 how, (long long)(loop_now_ms(s->loop) - c->began_ms),
                 log_safe(c->said));
        /* without room it stays due; after another flip it is due anew */
        if (!s->is_full && is_pending(&account) && account.epoch == c->epoch)
            note_end(s, &account, is_good, text);
    }
    command_free(c);
}

static void on_limit(void *ctx)
{
    struct state_command *c = ctx;

    c->is_late = true;
    kill(-c->pid, SIGKILL);
}

void state_on_flip_reap(struct state *s)
{
    struct state_command *next;
    bool has_ended = false;

    for (struct state_command *c = s->commands; c; c = next) {
        int status;

        next = c->next;
        if (waitpid(c->pid, &status, WNOHANG) != c->pid)
            continue;
        command_ended(c, status);
        has_ended = true;
    }
    if (has_ended)
        state_on_flip_run(s);
}

/* --- how it begins */

static bool runs_for(const struct state *s, int64_t account_id)
{
    for (const struct state_command *c = s->commands; c; c = c->next)
        if (c->account_id == account_id)
            return true;
    return false;
}

static unsigned count_commands(const struct state *s)
{
    unsigned count = 0;

    for (const struct state_command *c = s->commands; c; c = c->next)
        count++;
    return count;
}

/* Nothing of our own environment: who knows what stands there. */
static void fill_environment(const struct account *a, const struct domain *d,
                             char variables[ENVIRONMENT][VARIABLE_MAX])
{
    const char *at = strrchr(a->address, '@');
    int local = at ? (int)(at - a->address) : (int)strlen(a->address);
    int i = 0;

    snprintf(variables[i++], VARIABLE_MAX,
             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
             "/bin");
    snprintf(variables[i++], VARIABLE_MAX, "LANG=C.UTF-8");
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_ADDRESS=%s", a->address);
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_LOCAL=%.*s", local,
             a->address);
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_DOMAIN=%s", d->name);
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_LEGACY_USER=%s",
             a->legacy_user);
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_EPOCH=%lld",
             (long long)a->epoch);
    snprintf(variables[i++], VARIABLE_MAX, "MAILHAUL_ATTEMPT=%u",
             a->on_flip_attempts + 1);
    variables[i][0] = '\0';
}

static int spawn(const struct account *a, const struct domain *d,
                 struct state_command *c, struct err *err)
{
    const char *argv[] = {"/bin/sh",  "-c",           d->on_flip, "on-flip",
                          a->address, a->legacy_user, NULL};
    char variables[ENVIRONMENT][VARIABLE_MAX];
    const char *environment[ENVIRONMENT];
    struct child_options options = {.argv = argv,
                                    .environment = environment,
                                    .speaks_to_us = true,
                                    .has_group = true};

    fill_environment(a, d, variables);
    for (int i = 0; i < ENVIRONMENT; i++)
        environment[i] = variables[i][0] ? variables[i] : NULL;
    return child_spawn(&options, &c->pid, &c->fd, err);
}

static void start(struct state *s, struct account *a, const struct domain *d)
{
    struct state_command *c = mem_alloc(sizeof(*c));
    struct err err;

    c->state = s;
    c->account_id = a->id;
    c->epoch = a->epoch;
    c->began_ms = loop_now_ms(s->loop);
    if (spawn(a, d, c, &err) == -1) {
        log_error("account %s on_flip: %s", a->address, err.text);
        note_end(s, a, false, err.text);
        free(c);
        return;
    }
    c->next = s->commands;
    s->commands = c;
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    c->watch = watch_new(s->loop, c->fd, on_output, c);
    watch_want(c->watch, true, false);
    c->limit = timer_new(s->loop, on_limit, c);
    timer_start(c->limit, s->conf->jobs.on_flip_seconds * 1000LL);
    log_debug("account %s on_flip started pid=%d", a->address, (int)c->pid);
}

struct due {
    int64_t ids[2 * COMMANDS_MAX];
    int count;
};

static int note_due(void *ctx, const struct account *a)
{
    struct due *due = ctx;

    due->ids[due->count++] = a->id;
    return 0;
}

void state_on_flip_run(struct state *s)
{
    struct due due = {.count = 0};
    struct err err;

    if (s->is_full || count_commands(s) >= COMMANDS_MAX)
        return;
    state_must(account_each_on_flip(s->db, clock_unix_ms(), 2 * COMMANDS_MAX,
                                    note_due, &due, &err),
               &err);
    for (int i = 0; i < due.count && count_commands(s) < COMMANDS_MAX; i++) {
        struct account account;
        struct domain domain;

        if (runs_for(s, due.ids[i]) ||
            !state_load(s, due.ids[i], &account, &domain))
            continue;
        if (account.route == ROUTE_LOCAL && domain.on_flip[0]) {
            start(s, &account, &domain);
            continue;
        }
        if (account.route == ROUTE_HELD)
            continue; /* on its way back, which may fail */
        /* taken back meanwhile, or the domain wants none any more */
        account.on_flip = ON_FLIP_NONE;
        state_store(s, &account);
    }
}

void state_on_flip_due(struct account *account, const struct domain *domain,
                       int64_t now)
{
    account->on_flip = domain->on_flip[0] ? ON_FLIP_DUE : ON_FLIP_NONE;
    account->on_flip_attempts = 0;
    account->on_flip_at = domain->on_flip[0] ? now : 0;
}
