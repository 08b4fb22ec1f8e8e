/*
 * What the sessions of a login process share: only for files of this folder.
 */
#ifndef LOGIN_PROXY_ROLE_H
#define LOGIN_PROXY_ROLE_H

#include "account/directory.h"
#include "login-proxy/inquiry.h"
#include "login-proxy/kick.h"
#include "login-proxy/listener.h"
#include "login-proxy/login.h"
#include "login-proxy/prints.h"
#include "login-proxy/turn.h"

struct session;
struct lesson;

struct login {
    struct login_options options; /* defaults filled in */
    struct directory *directory;  /* owned, as all that follows */
    struct kick *kick;
    struct prints *prints;
    struct inquiries *inquiries;
    int64_t master_rests_until_ms; /* local has refused the master user */
    char id[20];             /* of this process: its sessions' ids begin so */
    unsigned session_number; /* of the last one */
    struct turns turns;      /* who has a pair verified */
    struct listener *listeners;
    struct session *sessions; /* see session.h */
    struct lesson *lessons;   /* see lesson.h */
    unsigned session_count;
    unsigned lesson_count;
    loop_fn *drained; /* NULL: not draining, or told */
    void *drained_ctx;
};

/* A session or lesson has ended: perhaps that was the last one of a drain. */
void login_one_less(struct login *login);

#endif
