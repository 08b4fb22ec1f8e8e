/*
 * The process of the smtp role: wires smtp-proxy to master's listeners.
 */
#include "daemon/role.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/dns.h"
#include "base/mem.h"
#include "smtp-proxy/smtp.h"

struct smtp_role {
    struct role *role;
    struct smtp *smtp;
};

static void on_drained(void *ctx)
{
    struct smtp_role *s = ctx;

    smtp_free(&s->smtp);
    role_stop(s->role);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct smtp_role *s = ctx;
    const char *m = wire_text(message, "m");

    if (m && strcmp(m, "drain") == 0 && s->smtp)
        smtp_drain(s->smtp, on_drained, s);
    if (fd >= 0)
        close(fd);
}

static int listen_all(struct smtp_role *s, struct err *err)
{
    for (unsigned i = 0; i < s->role->listener_count; i++) {
        const struct role_listener *given = &s->role->listeners[i];
        const struct conf_listen *c = &s->role->conf->listen[given->index];

        if (smtp_listen_take(s->smtp, given->fd, c->tls,
                             c->protocol == CONF_LMTP, err) == -1)
            return err_prefix(err, "port %u", c->port);
    }
    return 0;
}

int role_smtp_start(struct role *role, struct err *err)
{
    struct smtp_role *s = mem_alloc(sizeof(*s));
    char *folder = conf_state_path(role->conf, "smtp");
    struct smtp_options o = {.loop = role->loop,
                             .state_socket = role->state_socket,
                             .node = role->conf->node,
                             .journal_path =
                                 conf_state_path(role->conf, "smtp/journal")};
    const char *lmtp = role->conf->local.lmtp;

    s->role = role;
    if (mkdir(folder, 0700) == -1 && errno != EEXIST)
        return err_set(err, ERR_SETUP, "%s: %s", folder, strerror(errno));
    if (role_tls(role, &o.tls_server, &o.tls_client, err) == -1 ||
        (lmtp && mail_url_parse(lmtp, &o.local_lmtp, err) == -1) ||
        !(o.dns = dns_new(role->loop, err)) || !(s->smtp = smtp_start(&o, err)))
        return -1;
    role->on_message = on_message;
    role->ctx = s;
    if (listen_all(s, err) == -1)
        return -1;
    role_ready(role);
    return 0;
}
