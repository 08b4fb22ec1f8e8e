#include "migrator/local_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define EXIT_NO_USER 67 /* sysexits.h, EX_NOUSER */
#define NOT_STARTED  -1
#define KILLED       128 /* and the number of the signal */

extern char **environ;

struct answer {
    int status;       /* exit status; NOT_STARTED; KILLED and more */
    char text[2048];  /* what it printed */
    char error[1024]; /* what it complained */
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- running it ---- */

/* Takes what is there of a pipe; false: it is at its end. */
static bool take(int fd, char *out, size_t size)
{
    size_t used = strlen(out);
    char more[512];
    ssize_t got = read(fd, more, sizeof more);

    if (got <= 0)
        return got == -1 && errno == EINTR;
    if ((size_t)got > size - used - 1) /* read on, and forget the rest */
        got = (ssize_t)(size - used - 1);
    memcpy(out + used, more, (size_t)got);
    out[used + (size_t)got] = '\0';
    return true;
}

/* Both pipes to their end. False: it took too long. */
static bool listen_to(const int fds[2], int64_t until_ms, struct answer *a)
{
    struct pollfd pipes[2] = {{.fd = fds[0], .events = POLLIN},
                              {.fd = fds[1], .events = POLLIN}};

    while (pipes[0].fd != -1 || pipes[1].fd != -1) {
        int64_t left = until_ms - now_ms();

        if (left <= 0)
            return false;
        if (poll(pipes, 2, (int)left) == -1 && errno != EINTR)
            return false;
        if (pipes[0].revents != 0 && !take(fds[0], a->text, sizeof a->text))
            pipes[0].fd = -1;
        if (pipes[1].revents != 0 && !take(fds[1], a->error, sizeof a->error))
            pipes[1].fd = -1;
    }
    return true;
}

static int spawn(const char *const *argv, const int out[2], const int error[2],
                 pid_t *pid_out)
{
    posix_spawn_file_actions_t actions;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, error[1], 2);
    rc = posix_spawnp(pid_out, argv[0], &actions, NULL, (char *const *)argv,
                      environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int exit_status(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR)
            return KILLED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : KILLED + WTERMSIG(status);
}

static void run(const char *const *argv, struct answer *a)
{
    int out[2] = {-1, -1}, error[2] = {-1, -1};
    int64_t until_ms = now_ms() + LOCAL_ASK_MS / 2;
    int rc = 0;
    pid_t pid;

    *a = (struct answer){.status = KILLED};
    if (pipe2(out, O_CLOEXEC) == 0 && pipe2(error, O_CLOEXEC) == 0)
        rc = spawn(argv, out, error, &pid);
    else
        rc = errno;
    if (out[1] != -1)
        close(out[1]);
    if (error[1] != -1)
        close(error[1]);
    if (rc == 0) {
        if (!listen_to((int[2]){out[0], error[0]}, until_ms, a)) {
            kill(pid, SIGKILL);
            snprintf(a->error, sizeof a->error, "no answer within %d s",
                     LOCAL_ASK_MS / 2000);
        }
        a->status = exit_status(pid);
    } else {
        a->status = rc == ENOENT ? NOT_STARTED : KILLED;
        snprintf(a->error, sizeof a->error, "%s", strerror(rc));
    }
    if (out[0] != -1)
        close(out[0]);
    if (error[0] != -1)
        close(error[0]);
}

/* The reason stands last, behind what the program could do without. */
static void keep_last_line(char *text)
{
    size_t length = strlen(text);
    char *last;

    while (length > 0 && strchr("\r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
    last = strrchr(text, '\n');
    if (last != NULL)
        memmove(text, last + 1, strlen(last + 1) + 1);
}

/* One field of the user's userdb entry. */
static void ask_field(const struct migration_job *job, const char *field,
                      struct answer *a)
{
    const char *argv[MIGRATION_DOVEADM_MAX + 8];
    size_t count = 0;

    while (job->doveadm[count] != NULL) {
        argv[count] = job->doveadm[count];
        count++;
    }
    argv[count++] = "user";
    argv[count++] = "-f";
    argv[count++] = field;
    argv[count++] = "--";
    argv[count++] = job->address;
    argv[count] = NULL;
    run(argv, a);
    a->text[strcspn(a->text, "\r\n")] = '\0';
    keep_last_line(a->error);
}

/* ---- what it means ---- */

static bool is_same_place(const char *a, const char *b)
{
    char real_a[PATH_MAX], real_b[PATH_MAX];

    if (realpath(a, real_a) == NULL || realpath(b, real_b) == NULL)
        return strcmp(a, b) == 0;
    return strcmp(real_a, real_b) == 0;
}

bool local_mail_is(const char *mail, const char *home, const char *maildir)
{
    char path[PATH_MAX];
    const char *at = strncmp(mail, "maildir:", 8) == 0 ? mail + 8 : NULL;
    bool is_below_home;
    size_t length;

    if (at == NULL)
        return false;
    is_below_home = at[0] == '~' && (at[1] == '/' || at[1] == '\0');
    at += is_below_home;
    if ((size_t)snprintf(path, sizeof path, "%s%.*s", is_below_home ? home : "",
                         (int)strcspn(at, ":"), at) >= sizeof path)
        return false;
    length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    return is_same_place(path, maildir);
}

/* "maildir:~/Maildir" of its own setting: then only its home is to be had. */
static bool is_below(const char *home, const char *maildir)
{
    char real_home[PATH_MAX], real_maildir[PATH_MAX];
    size_t length;

    if (home[0] != '/')
        return false;
    if (realpath(home, real_home) == NULL ||
        realpath(maildir, real_maildir) == NULL)
        return false;
    length = strlen(real_home);
    return strncmp(real_home, real_maildir, length) == 0 &&
           (real_maildir[length] == '/' || real_maildir[length] == '\0');
}

static void refuse(struct migration_report *report, const struct answer *a,
                   const char *address)
{
    if (a->status == EXIT_NO_USER)
        snprintf(report->local_fault, sizeof report->local_fault,
                 "the local Dovecot does not read auth.db: doveadm user knows "
                 "no %.80s",
                 address);
    else
        snprintf(report->local_fault, sizeof report->local_fault,
                 "the local Dovecot cannot be asked for its users: doveadm "
                 "ended with %d: %.100s",
                 a->status, log_safe(a->error));
}

void local_ask(const struct migration_job *job, struct migration_report *report)
{
    struct answer mail, home;

    report->is_local_ready = job->doveadm[0] == NULL;
    if (report->is_local_ready)
        return;
    ask_field(job, "mail", &mail);
    if (mail.status == NOT_STARTED) {
        log_warn("%s local-not-asked: %s: %s", job->address, job->doveadm[0],
                 mail.error);
        report->is_local_ready = true;
        return;
    }
    if (mail.status == EXIT_NO_USER || mail.status >= KILLED) {
        refuse(report, &mail, job->address);
        return;
    }
    if (local_mail_is(mail.text, "", job->maildir)) {
        report->is_local_ready = true;
        return;
    }
    ask_field(job, "home", &home);
    report->is_local_ready =
        mail.text[0] != '\0'
            ? local_mail_is(mail.text, home.text, job->maildir)
            : home.status == 0 && is_below(home.text, job->maildir);
    if (report->is_local_ready)
        return;
    if (mail.text[0] == '\0' && home.text[0] == '\0')
        refuse(report, mail.status != 0 ? &mail : &home, job->address);
    else
        snprintf(report->local_fault, sizeof report->local_fault,
                 "the local Dovecot reads mail at %.60s, copying fills %.60s",
                 mail.text[0] != '\0' ? mail.text : home.text, job->maildir);
}
