#include "smtp-proxy/smtp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtp-proxy/recipient.h"
#include "smtp-proxy/session.h"
#include "smtp-proxy/site.h"

#define SIZE_MAX_DEFAULT     ((uint64_t)100 << 20)
#define SESSIONS_MAX_DEFAULT 2000
#define ACCEPTS_A_TURN       32
#define ACCEPT_PAUSE_MS      500

struct listener {
    struct listener *next;
    struct smtp *smtp;
    int fd;
    struct watch *watch;
    struct timer *pause; /* runs while there are no descriptors left */
    enum tls_mode mode;
    bool is_lmtp;
};

/* A hold that waits for a message to end. */
struct hold {
    struct hold *next;
    int64_t account_id;
    int64_t epoch;
    enum hold_side side;
};

struct smtp {
    struct site site;
    struct listener *listeners; /* owned */
    struct session *sessions;   /* owned */
    struct hold *holds;         /* owned */
    unsigned session_count;
    unsigned sessions_max;
    loop_fn *drained;
    void *drained_ctx;
};

/* ---- holds ---- */

static bool runs_for(struct smtp *s, int64_t account_id, enum hold_side side)
{
    struct session *e;

    for (e = s->sessions; e != NULL; e = smtp_session_link(e)->next) {
        struct transaction *t = smtp_session_transaction(e);

        if (t != NULL && transaction_runs_for(t, account_id, side))
            return true;
    }
    return false;
}

/* Mail that was asked for before its recipient became an account may still
   reach legacy; the trail then has to look once more. */
static bool runs_for_nobody(struct smtp *s)
{
    struct session *e;

    for (e = s->sessions; e != NULL; e = smtp_session_link(e)->next) {
        struct transaction *t = smtp_session_transaction(e);

        if (t != NULL && transaction_runs_for_nobody(t))
            return true;
    }
    return false;
}

static void drop_hold(struct smtp *s, int64_t account_id)
{
    struct hold **at = &s->holds;

    while (*at != NULL) {
        struct hold *h = *at;

        if (h->account_id != account_id) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h);
    }
}

/* What is in its text is never cut, whatever quiet_within_ms says; and whoever
   was nobody at RCPT is put off, by whatever name. */
static void on_hold(void *ctx, const struct directory_hold *told)
{
    struct smtp *s = ctx;
    struct session *next;
    bool is_running = false;
    struct hold *h;

    for (struct session *e = s->sessions; e != NULL; e = next) {
        struct transaction *t = smtp_session_transaction(e);

        next = smtp_session_link(e)->next;
        if (t != NULL && transaction_hold(t, told->account_id, told->side))
            is_running = true;
    }
    drop_hold(s, told->account_id);
    if (!is_running) {
        directory_quiet(s->site.directory, told->account_id, told->epoch,
                        runs_for_nobody(s));
        return;
    }
    h = mem_alloc(sizeof(*h));
    h->account_id = told->account_id;
    h->epoch = told->epoch;
    h->side = told->side;
    h->next = s->holds;
    s->holds = h;
    log_debug("smtp hold account=%lld waits for a message",
              (long long)told->account_id);
}

static void on_release(void *ctx, int64_t account_id, int64_t epoch)
{
    (void)epoch;
    drop_hold(ctx, account_id);
}

static void on_counted(void *ctx)
{
    const struct smtp *s = ctx;

    strangers_counted(s->site.strangers);
}

static const struct directory_ops directory_ops = {
    .on_hold = on_hold, .on_release = on_release, .on_counted = on_counted};

void site_message_ended(const struct site *site)
{
    struct smtp *s = site->smtp;
    struct hold **at = &s->holds;

    while (*at != NULL) {
        struct hold *h = *at;

        if (runs_for(s, h->account_id, h->side)) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        directory_quiet(s->site.directory, h->account_id, h->epoch, true);
        free(h);
    }
}

/* ---- what sessions ask of each other ---- */

bool site_admits(const struct site *site, const struct mail_url *hop)
{
    const struct smtp *s = site->smtp;
    unsigned share = s->sessions_max / 2;
    unsigned count = 0;

    if (s->session_count <= share)
        return true;
    for (struct session *e = s->sessions; e != NULL;
         e = smtp_session_link(e)->next) {
        struct transaction *t = smtp_session_transaction(e);
        const struct mail_url *used = t != NULL ? transaction_hop(t) : NULL;

        count += used != NULL && recipient_same_hop(used, hop);
    }
    return count < share;
}

bool site_is_under_way(const struct site *site,
                       const struct transaction *asking)
{
    for (struct session *e = site->smtp->sessions; e != NULL;
         e = smtp_session_link(e)->next) {
        struct transaction *t = smtp_session_transaction(e);

        if (t != NULL && transaction_meets(asking, t))
            return true;
    }
    return false;
}

/* ---- sessions ---- */

static void unlink_session(struct smtp *s, struct session *e)
{
    struct smtp_session_link *link = smtp_session_link(e);

    *link->back = link->next;
    if (link->next != NULL)
        smtp_session_link(link->next)->back = link->back;
    s->session_count--;
}

static void tell_drained(void *ctx)
{
    struct smtp *s = ctx;
    loop_fn *drained = s->drained;

    s->drained = NULL;
    if (drained != NULL)
        drained(s->drained_ctx);
}

static void on_session_ended(void *ctx, struct session *session)
{
    struct smtp *s = ctx;

    unlink_session(s, session);
    smtp_session_free(&session);
    if (s->session_count == 0 && s->site.is_draining)
        tell_drained(s);
}

static void add_session(struct listener *l, int fd)
{
    struct smtp *s = l->smtp;
    struct session_options options = {.site = &s->site,
                                      .mode = l->mode,
                                      .is_lmtp = l->is_lmtp,
                                      .ended = on_session_ended,
                                      .ctx = s};
    struct session *e = smtp_session_start_take(&options, fd);
    struct smtp_session_link *link = smtp_session_link(e);

    link->next = s->sessions;
    link->back = &s->sessions;
    if (s->sessions != NULL)
        smtp_session_link(s->sessions)->back = &link->next;
    s->sessions = e;
    s->session_count++;
}

static void refuse(const struct listener *l, int fd)
{
    static const char text[] = "421 4.3.2 Too many connections\r\n";

    if (l->mode != TLS_IMPLICIT)
        (void)!send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/* ---- listeners ---- */

static void on_pause_over(void *ctx)
{
    struct listener *l = ctx;

    watch_want(l->watch, true, false);
}

static void on_client(int fd, bool can_read, bool can_write, void *ctx)
{
    struct listener *l = ctx;

    (void)can_read;
    (void)can_write;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client == -1 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (client == -1) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return;
            log_error("smtp accept: %s", strerror(errno));
            watch_want(l->watch, false, false);
            timer_start(l->pause, ACCEPT_PAUSE_MS);
            return;
        }
        if (l->smtp->session_count >= l->smtp->sessions_max)
            refuse(l, client);
        else
            add_session(l, client);
    }
}

static void drop_listeners(struct smtp *s)
{
    while (s->listeners != NULL) {
        struct listener *l = s->listeners;

        s->listeners = l->next;
        watch_free(&l->watch);
        timer_free(&l->pause);
        close(l->fd);
        free(l);
    }
}

int smtp_listen_take(struct smtp *s, int fd, enum tls_mode mode, bool is_lmtp,
                     struct err *err)
{
    int flags = fcntl(fd, F_GETFL);
    struct listener *l;

    if (mode != TLS_NONE && s->site.tls_server == NULL) {
        close(fd);
        return err_set(err, ERR_SETUP, "smtp: TLS without a certificate");
    }
    if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1) {
        err_set(err, ERR_SETUP, "smtp: listener: %s", strerror(errno));
        close(fd);
        return -1;
    }
    l = mem_alloc(sizeof(*l));
    l->smtp = s;
    l->fd = fd;
    l->mode = mode;
    l->is_lmtp = is_lmtp;
    l->pause = timer_new(s->site.loop, on_pause_over, l);
    l->watch = watch_new(s->site.loop, fd, on_client, l);
    watch_want(l->watch, true, false);
    l->next = s->listeners;
    s->listeners = l;
    return 0;
}

/* ---- life ---- */

struct smtp *smtp_start(const struct smtp_options *options, struct err *err)
{
    struct smtp *s = mem_alloc(sizeof(*s));

    s->site.loop = options->loop;
    s->site.dns = options->dns;
    s->site.tls_server = options->tls_server;
    s->site.tls_client = options->tls_client;
    s->site.local_lmtp = options->local_lmtp;
    s->site.node = mem_dup_text(options->node);
    s->site.smtp = s;
    s->site.size_max_bytes = options->size_max_bytes > 0
                                 ? options->size_max_bytes
                                 : SIZE_MAX_DEFAULT;
    s->sessions_max = options->sessions_max > 0 ? options->sessions_max
                                                : SESSIONS_MAX_DEFAULT;
    s->site.journal = journal_open(options->journal_path, NULL, err);
    if (s->site.journal == NULL) {
        smtp_free(&s);
        return NULL;
    }
    s->site.directory = directory_new(options->loop, options->state_socket,
                                      "smtp", &directory_ops, s);
    s->site.strangers = strangers_new(options->loop, s->site.directory);
    return s;
}

void smtp_drain(struct smtp *s, loop_fn *done, void *ctx)
{
    struct session *next;

    drop_listeners(s);
    s->site.is_draining = true;
    s->drained = done;
    s->drained_ctx = ctx;
    for (struct session *e = s->sessions; e != NULL; e = next) {
        next = smtp_session_link(e)->next;
        smtp_session_drain(e);
    }
    if (s->session_count == 0)
        loop_defer(s->site.loop, tell_drained, s);
}

void smtp_free(struct smtp **smtp)
{
    struct smtp *s = *smtp;

    if (s == NULL)
        return;
    *smtp = NULL;
    drop_listeners(s);
    while (s->holds != NULL)
        drop_hold(s, s->holds->account_id);
    while (s->sessions != NULL) {
        struct session *e = s->sessions;

        unlink_session(s, e);
        smtp_session_free(&e);
    }
    strangers_free(&s->site.strangers);
    if (s->site.directory != NULL)
        directory_free(&s->site.directory);
    journal_close(&s->site.journal);
    free(s->site.node);
    free(s);
}
