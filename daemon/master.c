#include "daemon/master.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account/provision.h"
#include "base/log.h"
#include "base/mem.h"
#include "login-proxy/verified.h"

/* --- a generation */

static int find_user(const char *name, bool *has_out, uid_t *uid_out,
                     gid_t *gid_out, struct err *err)
{
    const struct passwd *user;

    if (!name || geteuid() != 0)
        return 0; /* only root can become somebody else */
    user = getpwnam(name);
    if (!user)
        return err_set(err, ERR_SETUP, "no such user: %s", name);
    *has_out = true;
    *uid_out = user->pw_uid;
    *gid_out = user->pw_gid;
    return 0;
}

/* The text as it was read now, so that every process of a generation sees the
   same, also where its user may not read the file. */
static int keep_text(const char *path, struct err *err)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = memfd_create("mailhaul.yaml", MFD_CLOEXEC);
    char bytes[4096];
    ssize_t got = -1;

    while (from != -1 && to != -1 && (got = read(from, bytes, 4096)) > 0)
        if (write(to, bytes, (size_t)got) != got)
            got = -2;
    if (got != 0)
        err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    if (from != -1)
        close(from);
    if (got == 0)
        return to;
    if (to != -1)
        close(to);
    return -1;
}

static int read_conf(struct generation *g, const char *path, struct err *err)
{
    if (conf_load(path, &g->conf, err) == -1 ||
        find_user(g->conf->user, &g->has_user, &g->user_uid, &g->user_gid,
                  err) == -1 ||
        find_user(g->conf->store.owner, &g->has_owner, &g->owner_uid,
                  &g->owner_gid, err) == -1)
        return -1;
    g->conf_fd = keep_text(path, err);
    return g->conf_fd == -1 ? -1 : 0;
}

static bool is_same_text(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* What state keeps as it was at the start, while the roles and workers of the
   next generation would go by what is written now: they must not disagree on
   where the mail and the databases are. The key that has changed, or NULL. */
static const char *key_for_restart(const struct conf *a, const struct conf *b)
{
    const struct {
        const char *key, *was, *is;
    } keys[] = {
        {"state_dir", a->state_dir, b->state_dir},
        {"database", a->database, b->database},
        {"user", a->user, b->user},
        {"store.type", a->store.type, b->store.type},
        {"store.path", a->store.path, b->store.path},
        {"store.owner", a->store.owner, b->store.owner},
        {"provision.dovecot", a->provision.dovecot, b->provision.dovecot},
        {"provision.group", a->provision.group, b->provision.group},
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!is_same_text(keys[i].was, keys[i].is))
            return keys[i].key;
    return a->provision.command.count != b->provision.command.count
               ? "provision.command"
               : NULL;
}

static int check_restart(const struct generation *old,
                         const struct generation *next, const char *conf_path,
                         struct err *err)
{
    const char *key = old ? key_for_restart(old->conf, next->conf) : NULL;

    return key ? err_set(err, ERR_SETUP, "%s: a change of %s takes a restart",
                         conf_path, key)
               : 0;
}

int generation_load(const char *conf_path, const struct generation *old,
                    struct generation **out, struct err *err)
{
    struct generation *g = mem_alloc(sizeof(*g));

    g->number = old ? old->number + 1 : 1;
    g->conf_fd = -1;
    if (read_conf(g, conf_path, err) == -1 ||
        check_restart(old, g, conf_path, err) == -1 ||
        master_read_keys(g, err) == -1 || master_listen(g, old, err) == -1) {
        generation_free(&g, old);
        return -1;
    }
    *out = g;
    return 0;
}

static bool has_fd(const struct generation *g, int fd)
{
    for (unsigned i = 0; g && i < g->listener_count; i++)
        if (g->listeners[i].fd == fd)
            return true;
    return false;
}

void generation_free(struct generation **generation,
                     const struct generation *heir)
{
    struct generation *g = *generation;

    *generation = NULL;
    if (!g)
        return;
    for (unsigned i = 0; i < g->listener_count; i++)
        if (!has_fd(heir, g->listeners[i].fd))
            close(g->listeners[i].fd);
    free(g->listeners);
    if (g->conf_fd != -1)
        close(g->conf_fd);
    secret_wipe(&g->certificate_pem);
    secret_wipe(&g->key_pem);
    keyring_release(&g->keys);
    secret_wipe(&g->local_password);
    conf_free(&g->conf);
    free(g);
}

/* --- signals */

static void on_stop(void *ctx)
{
    log_info("stops");
    master_stop(ctx, 0);
}

static void on_child(void *ctx)
{
    struct master *m = ctx;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        master_reap(m, pid, status);
}

static void on_hup(void *ctx)
{
    struct master *m = ctx;
    struct generation *next, *old = m->now;
    struct err err;

    log_reopen();
    if (m->is_stopping)
        return;
    if (generation_load(m->conf_path, old, &next, &err) == -1) {
        log_error("the configuration stays as it was: %s", err.text);
        return;
    }
    log_info("generation=%d", next->number);
    m->now = next;
    master_publish_key(next);
    master_start_roles(m);
    generation_free(&old, next);
}

/* --- the start */

/* One master for one state_dir: the lock on its pid file, for our life. */
static int lock_state_dir(struct master *m, struct err *err)
{
    char *path = conf_state_path(m->now->conf, "mailhauld.pid");
    char text[16];
    int length, rc = 0;

    m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (m->lock_fd == -1)
        rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    else if (flock(m->lock_fd, LOCK_EX | LOCK_NB) == -1)
        rc = err_set(err, ERR_SETUP, "%s: another mailhauld runs here", path);
    free(path);
    if (rc == -1)
        return -1;
    length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(m->lock_fd, 0) == -1 ||
        pwrite(m->lock_fd, text, (size_t)length, 0) != length)
        return err_set(err, ERR_SETUP, "mailhauld.pid: %s", strerror(errno));
    return 0;
}

static char *own_program(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (length <= 0)
        abort();
    path[length] = '\0';
    return mem_dup_text(path);
}

static int open_log(const struct conf *conf, struct err *err)
{
    int level = log_level_named(conf->log.level);

    return log_open(conf->log.to,
                    level < 0 ? LOG_LEVEL_INFO : (enum log_level)level,
                    "master", err);
}

/* Fork; the parent waits until the roles are up, and tells by its status. */
static int go_background(void)
{
    int pipe_fds[2], status = 1;
    char up;
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
        fprintf(stderr, "mailhauld: %s\n", strerror(errno));
        exit(1);
    }
    if (pid == 0) {
        close(pipe_fds[0]);
        setsid();
        return pipe_fds[1];
    }
    close(pipe_fds[1]);
    if (read(pipe_fds[0], &up, 1) == 1)
        _exit(0);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    _exit(1);
}

static void tell_unserved(const struct conf *conf)
{
    const char *keys[CONF_UNSERVED_MAX];
    unsigned count = conf_unserved(conf, keys);

    for (unsigned i = 0; i < count; i++)
        log_warn("%s: %s: not served yet, left out", conf->path, keys[i]);
}

/* A session has two sockets, and the usual limit is meant for programs that do
   not watch their own: children inherit what we may have. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == -1)
        return;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) == -1)
        log_warn("the limit of open files stays as it is: %s", strerror(errno));
}

static int start(struct master *m, struct err *err)
{
    if (open_log(m->now->conf, err) == -1 || lock_state_dir(m, err) == -1 ||
        provision_prepare(m->now->conf, err) == -1 ||
        master_listen_unix(m, err) == -1 ||
        (m->verified_fd = verified_make_fd(err)) == -1)
        return -1;
    seal_random(m->verified_key, sizeof(m->verified_key));
    secret_guard_process();
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN);
    m->loop = loop_new();
    loop_on_signal(m->loop, SIGTERM, on_stop, m);
    loop_on_signal(m->loop, SIGINT, on_stop, m);
    loop_on_signal(m->loop, SIGHUP, on_hup, m);
    loop_on_signal(m->loop, SIGCHLD, on_child, m);
    tell_unserved(m->now->conf);
    log_info("starts node=%s state_dir=%s", m->now->conf->node,
             m->now->conf->state_dir);
    master_publish_key(m->now);
    master_start_roles(m);
    return 0;
}

int master_run(const char *conf_path, bool in_foreground)
{
    struct master m = {.conf_path = conf_path,
                       .up_fd = -1,
                       .lock_fd = -1,
                       .state_fd = -1,
                       .control_fd = -1,
                       .verified_fd = -1};
    struct conf *conf;
    struct err err;

    /* a mistake in the configuration is a mistake of the call */
    if (conf_load(conf_path, &conf, &err) == -1) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    conf_free(&conf);
    m.program = own_program();
    if (!in_foreground)
        m.up_fd = go_background();
    if (generation_load(conf_path, NULL, &m.now, &err) == -1 ||
        start(&m, &err) == -1) {
        fprintf(stderr, "mailhauld: %s\n", err.text);
        return 1;
    }
    loop_run(m.loop);
    generation_free(&m.now, NULL);
    _exit(m.exit_status); /* the kernel takes back the rest */
}

static int check_file(const struct conf *conf, const char *key,
                      const char *path, struct err *err)
{
    if (path == NULL || access(path, R_OK) == 0)
        return 0;
    return err_set(err, ERR_SETUP, "%s: %s: %s: %s", conf->path, key, path,
                   strerror(errno));
}

static int check_program(const struct conf *conf, const char *name,
                         struct err *err)
{
    const char *path = getenv("PATH"), *at = path ? path : "/usr/bin:/bin";
    char file[4096];

    if (strchr(name, '/') != NULL && access(name, X_OK) == 0)
        return 0;
    while (strchr(name, '/') == NULL && *at != '\0') {
        size_t length = strcspn(at, ":");

        snprintf(file, sizeof(file), "%.*s/%s", (int)length, at, name);
        if (access(file, X_OK) == 0)
            return 0;
        at += length + (at[length] == ':');
    }
    return err_set(err, ERR_SETUP, "%s: provision.doveadm: %s: not found",
                   conf->path, name);
}

/* What the configuration names on this host. */
static int check_named(const struct conf *conf, struct err *err)
{
    if (check_file(conf, "tls.certificate", conf->tls.certificate, err) == -1 ||
        check_file(conf, "tls.key", conf->tls.key, err) == -1 ||
        check_file(conf, "tls.ca_file", conf->tls.ca_file, err) == -1 ||
        check_file(conf, "local.master_password_file",
                   conf->local.master_password_file, err) == -1)
        return -1;
    if (conf->user && !getpwnam(conf->user))
        return err_set(err, ERR_SETUP, "%s: user: no such user: %s", conf->path,
                       conf->user);
    if (conf->store.owner && !getpwnam(conf->store.owner))
        return err_set(err, ERR_SETUP, "%s: store.owner: no such user: %s",
                       conf->path, conf->store.owner);
    return conf->provision.doveadm.count > 0
               ? check_program(conf, conf->provision.doveadm.items[0], err)
               : 0;
}

int master_check(const char *conf_path)
{
    struct conf *conf;
    struct err err;

    if (conf_load(conf_path, &conf, &err) == -1) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    if (check_named(conf, &err) == -1) {
        fprintf(stderr, "%s\n", err.text);
        conf_free(&conf);
        return 2;
    }
    conf_free(&conf);
    printf("%s: good\n", conf_path);
    return 0;
}
