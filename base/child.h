/*
 * Starting other programs: fork and exec with a socket pair, an own uid, limits
 * and a death signal.
 */
#ifndef BASE_CHILD_H
#define BASE_CHILD_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"

#define CHILD_CHANNEL_FD 3 /* our end of the socket pair, in the child */

struct child_limits {
    rlim_t address_space_bytes; /* 0: no limit */
    rlim_t file_count;          /* 0: inherited */
};

struct child_options {
    const char *const *argv; /* argv[0] is the path; NULL-terminated */
    bool change_user;        /* only root can */
    uid_t uid;
    gid_t gid;
    struct child_limits limits;
    const int *inherit_fds; /* become CHILD_CHANNEL_FD + 1, + 2, ... */
    int inherit_count;
    const char *const *environment; /* NULL-terminated; NULL: ours */
    bool speaks_to_us; /* stdout and stderr are the channel; no other fd */
    bool has_group;    /* is the leader of a process group of its own */
};

/* Start it, from the main thread: the child dies with SIGKILL when that thread
   dies. It has stdin from /dev/null, our stdout and stderr unless it
   speaks_to_us, no other file descriptors, and supplementary groups of uid
   only. *channel_fd_out is our end of a Unix stream socket pair. */
int child_spawn(const struct child_options *options, pid_t *pid_out,
                int *channel_fd_out, struct err *err);

#endif
