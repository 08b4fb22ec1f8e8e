#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUPS_MAX 64
#define FDS_MAX    64

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
    if (l->options->speaks_to_us &&
        (dup2(CHILD_CHANNEL_FD, STDOUT_FILENO) == -1 ||
         dup2(CHILD_CHANNEL_FD, STDERR_FILENO) == -1 ||
         fcntl(CHILD_CHANNEL_FD, F_SETFD, FD_CLOEXEC) == -1))
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
    if ((l->options->has_group && setpgid(0, 0) == -1) ||
        arrange_fds(l) == -1 || become(l) == -1 ||
        /* a change of uid clears the death signal, so it comes after */
        die_with(l->parent) == -1)
        report(l->report_fd);
    if (l->options->environment != NULL)
        execve(l->options->argv[0], (char *const *)(uintptr_t)l->options->argv,
               (char *const *)(uintptr_t)l->options->environment);
    else
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
