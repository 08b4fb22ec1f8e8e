#include "base/child.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUPS_MAX 64
#define FDS_MAX    64
#define STDERR_MAX 4096

/* What the child needs, found out before fork(): behind it only calls that are
   safe in a signal handler are allowed. */
struct launch {
    const struct child_options *options;
    pid_t parent;
    gid_t groups[GROUPS_MAX];
    int group_count;
    int channel_fd;
    int report_fd; /* gets errno if exec fails */
    int null_fd;
};

static int find_groups(struct launch *l, struct err *err)
{
    const struct passwd *user = getpwuid(l->options->uid);

    l->group_count = 1;
    l->groups[0] = l->options->gid;
    if (user == NULL)
        return 0;
    l->group_count = GROUPS_MAX;
    if (getgrouplist(user->pw_name, l->options->gid, l->groups,
                     &l->group_count) == -1)
        return err_set(err, ERR_SETUP, "uid %u: too many groups",
                       (unsigned)l->options->uid);
    return 0;
}

static void default_signals(void)
{
    sigset_t none;
    int i;

    for (i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The parent may have died before PR_SET_PDEATHSIG: then nobody kills us. */
static int die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return -1;
    if (getppid() != parent)
        _exit(127);
    return 0;
}

/* 3: channel, 4...: inherited, then the report; nothing above. All are moved
   out of each other's way first. */
static int arrange_fds(struct launch *l)
{
    int count = l->options->inherit_count;
    int above = CHILD_CHANNEL_FD + count + 2, i;
    int moved[FDS_MAX + 2];

    moved[0] = fcntl(l->channel_fd, F_DUPFD, above);
    for (i = 0; i < count; i++)
        moved[i + 1] = fcntl(l->options->inherit_fds[i], F_DUPFD, above);
    moved[count + 1] = fcntl(l->report_fd, F_DUPFD, above);
    for (i = 0; i < count + 2; i++)
        if (moved[i] == -1 || dup2(moved[i], CHILD_CHANNEL_FD + i) == -1)
            return -1;
    l->report_fd = CHILD_CHANNEL_FD + count + 1;
    if (dup2(l->null_fd, STDIN_FILENO) == -1 ||
        fcntl(l->report_fd, F_SETFD, FD_CLOEXEC) == -1)
        return -1;
    return close_range((unsigned)above, ~0u, 0);
}

static int set_limit(__rlimit_resource_t what, rlim_t value)
{
    struct rlimit limit = {value, value};

    return value == 0 ? 0 : setrlimit(what, &limit);
}

static int become(const struct launch *l)
{
    const struct child_options *o = l->options;

    if (set_limit(RLIMIT_NOFILE, o->limits.file_count) == -1 ||
        set_limit(RLIMIT_AS, o->limits.address_space_bytes) == -1)
        return -1;
    if (!o->change_user)
        return 0;
    if (setgroups((size_t)l->group_count, l->groups) == -1 ||
        setresgid(o->gid, o->gid, o->gid) == -1 ||
        setresuid(o->uid, o->uid, o->uid) == -1)
        return -1;
    return 0;
}

static void report(int fd)
{
    int why = errno;

    if (write(fd, &why, sizeof why) == -1) {
        /* the parent is gone, and so are we */
    }
    _exit(127);
}

__attribute__((noreturn)) static void run_child(struct launch *l)
{
    default_signals();
    if (arrange_fds(l) == -1 || become(l) == -1 ||
        /* a change of uid clears the death signal, so it comes after */
        die_with(l->parent) == -1)
        report(l->report_fd);
    execv(l->options->argv[0], (char *const *)(uintptr_t)l->options->argv);
    report(l->report_fd);
    _exit(127);
}

/* The pipe closes by itself when exec has worked. */
static int read_report(int fd)
{
    int why = 0;
    ssize_t n;

    do
        n = read(fd, &why, sizeof why);
    while (n == -1 && errno == EINTR);
    close(fd);
    return n == (ssize_t)sizeof why ? why : 0;
}

static int open_ends(struct launch *l, int *our_end, int report_pipe[2],
                     struct err *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
        return err_set(err, ERR_RETRY, "socketpair: %s", strerror(errno));
    l->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (l->null_fd == -1 || pipe2(report_pipe, O_CLOEXEC) == -1) {
        err_set(err, ERR_RETRY, "pipe: %s", strerror(errno));
        close(pair[0]);
        close(pair[1]);
        if (l->null_fd != -1)
            close(l->null_fd);
        return -1;
    }
    *our_end = pair[0];
    l->channel_fd = pair[1];
    l->report_fd = report_pipe[1];
    return 0;
}

int child_spawn(const struct child_options *options, pid_t *pid_out,
                int *channel_fd_out, struct err *err)
{
    struct launch l = {.options = options, .parent = getpid()};
    int report_pipe[2], our_end = -1, why;
    pid_t pid;

    if (options->inherit_count > FDS_MAX)
        return err_set(err, ERR_SETUP, "%s: too many descriptors",
                       options->argv[0]);
    if (options->change_user && find_groups(&l, err) == -1)
        return -1;
    if (open_ends(&l, &our_end, report_pipe, err) == -1)
        return -1;
    pid = fork();
    if (pid == 0)
        run_child(&l);
    why = errno;
    close(report_pipe[1]);
    close(l.channel_fd);
    close(l.null_fd);
    if (pid == -1) {
        close(report_pipe[0]);
    } else {
        why = read_report(report_pipe[0]);
        if (why == 0) {
            *pid_out = pid;
            *channel_fd_out = our_end;
            return 0;
        }
        waitpid(pid, NULL, 0);
    }
    close(our_end);
    return err_set(err, pid == -1 ? ERR_RETRY : ERR_SETUP, "%s: %s",
                   options->argv[0], strerror(why));
}

struct run {
    pid_t pid;
    int pid_fd;
    int out_fd; /* -1 at its end */
    int err_fd;
    int64_t until_ms;
    struct buf *output; /* borrowed; may be NULL */
    struct buf complaint;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What does not fit is read and dropped, so that the program can end. */
static void take_output(int *fd, struct buf *into)
{
    char bytes[4096];
    ssize_t n = read(*fd, bytes, sizeof bytes);

    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        close(*fd);
        *fd = -1;
        return;
    }
    if (into != NULL) {
        size_t room = into->max - into->used;

        buf_append(into, bytes, (size_t)n < room ? (size_t)n : room);
    }
}

/* false when the time is over. */
static bool watch_run(struct run *run)
{
    for (;;) {
        struct pollfd waiting[] = {{run->pid_fd, POLLIN, 0},
                                   {run->out_fd, POLLIN, 0},
                                   {run->err_fd, POLLIN, 0}};
        int64_t left_ms = run->until_ms - now_ms();
        int n;

        if (left_ms <= 0)
            return false;
        if (run->pid_fd == -1 && run->out_fd == -1 && run->err_fd == -1)
            return true; /* a kernel without pidfd_open() */
        n = poll(waiting, 3, (int)left_ms);
        if (n == -1 && errno != EINTR)
            return false;
        if (n <= 0)
            continue;
        if (waiting[1].revents != 0)
            take_output(&run->out_fd, run->output);
        if (waiting[2].revents != 0)
            take_output(&run->err_fd, &run->complaint);
        /* a grandchild may keep the pipes open: its output is not awaited */
        if (waiting[0].revents != 0 && waiting[1].revents == 0 &&
            waiting[2].revents == 0)
            return true;
    }
}

__attribute__((noreturn)) static void
run_program(const char *const *argv, pid_t parent, int out_fd, int err_fd)
{
    int null_fd = open("/dev/null", O_RDONLY);

    default_signals();
    setpgid(0, 0);
    if (null_fd == -1 || dup2(null_fd, STDIN_FILENO) == -1 ||
        dup2(out_fd, STDOUT_FILENO) == -1 ||
        dup2(err_fd, STDERR_FILENO) == -1 || die_with(parent) == -1)
        _exit(127);
    close_range(3, ~0u, 0);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int start_run(struct run *run, const char *const *argv, struct err *err)
{
    pid_t parent = getpid();
    int out[2], complaint[2];

    if (pipe2(out, O_CLOEXEC) == -1)
        return err_set(err, ERR_RETRY, "pipe: %s", strerror(errno));
    if (pipe2(complaint, O_CLOEXEC) == -1) {
        err_set(err, ERR_RETRY, "pipe: %s", strerror(errno));
        close(out[0]);
        close(out[1]);
        return -1;
    }
    run->out_fd = out[0];
    run->err_fd = complaint[0];
    run->pid = fork();
    if (run->pid == 0)
        run_program(argv, parent, out[1], complaint[1]);
    close(out[1]);
    close(complaint[1]);
    if (run->pid == -1)
        return err_set(err, ERR_RETRY, "fork: %s", strerror(errno));
    /* by both, so that it is done whoever runs first */
    setpgid(run->pid, run->pid);
    fcntl(run->out_fd, F_SETFL, O_NONBLOCK);
    fcntl(run->err_fd, F_SETFL, O_NONBLOCK);
    run->pid_fd = pidfd_open(run->pid, 0);
    return 0;
}

static int judge_run(struct run *run, const char *name, bool has_ended,
                     struct err *err)
{
    int status = 0;

    if (!has_ended)
        kill(-run->pid, SIGKILL);
    while (waitpid(run->pid, &status, 0) == -1 && errno == EINTR)
        continue;
    if (!has_ended)
        return err_set(err, ERR_RETRY, "%s: timed out", name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    buf_text(&run->complaint);
    if (run->complaint.used > 0) {
        const char *text = buf_text(&run->complaint);

        return err_set(err, ERR_RETRY, "%s: %.*s", name,
                       (int)strcspn(text, "\r\n"), text);
    }
    if (WIFSIGNALED(status))
        return err_set(err, ERR_RETRY, "%s: killed by signal %d", name,
                       WTERMSIG(status));
    return err_set(err, ERR_RETRY, "%s: exit status %d", name,
                   WEXITSTATUS(status));
}

int child_run_blocking(const char *const *argv, int wait_ms, struct buf *output,
                       struct err *err)
{
    struct run run = {.pid_fd = -1,
                      .out_fd = -1,
                      .err_fd = -1,
                      .until_ms = now_ms() + wait_ms,
                      .output = output};
    int result;

    buf_init(&run.complaint, STDERR_MAX);
    result = start_run(&run, argv, err);
    if (result == 0)
        result = judge_run(&run, argv[0], watch_run(&run), err);
    if (run.pid_fd != -1)
        close(run.pid_fd);
    if (run.out_fd != -1)
        close(run.out_fd);
    if (run.err_fd != -1)
        close(run.err_fd);
    buf_release(&run.complaint);
    return result;
}
