/*
 * The process of the login role: wires login-proxy to master's listeners.
 */
#include "daemon/role.h"

#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/dns.h"
#include "base/mem.h"
#include "login-proxy/login.h"

struct login_role {
    struct role *role;
    struct login *login;
};

static void on_drained(void *ctx)
{
    struct login_role *l = ctx;

    login_free(&l->login);
    role_stop(l->role);
}

static void on_message(void *ctx, json_t *message, int fd)
{
    struct login_role *l = ctx;
    const char *m = wire_text(message, "m");

    if (m && strcmp(m, "drain") == 0 && l->login)
        login_drain(l->login, on_drained, l);
    if (fd >= 0)
        close(fd);
}

static int take_url(const char *text, struct mail_url *out, struct err *err)
{
    return text ? mail_url_parse(text, out, err) : 0;
}

static int listen_all(struct login_role *l, struct err *err)
{
    for (unsigned i = 0; i < l->role->listener_count; i++) {
        const struct role_listener *given = &l->role->listeners[i];
        const struct conf_listen *c;

        if (given->index < 0)
            continue;
        c = &l->role->conf->listen[given->index];
        if (c->protocol != CONF_IMAP && c->protocol != CONF_POP3)
            return err_set(err, ERR_SETUP, "port %u: not served by login",
                           c->port);
        login_listen(l->login, given->fd,
                     c->protocol == CONF_IMAP ? MAIL_IMAP : MAIL_POP3, c->tls,
                     c->plain_auth);
    }
    return 0;
}

/* Without a master user there is no use for what is remembered. */
static int open_verified(const struct role *role, struct login_options *o,
                         struct err *err)
{
    const struct conf *conf = role->conf;

    if (!role->local_password.bytes)
        return 0;
    o->local_master = conf->local.master_user;
    o->local_master_password = &role->local_password;
    if (!role->has_verified_key || conf->login.remember_minutes == 0)
        return 0;
    for (unsigned i = 0; i < role->listener_count; i++)
        if (role->listeners[i].index == ROLE_VERIFIED) {
            o->verified =
                verified_open(role->listeners[i].fd, role->verified_key,
                              conf->login.remember_minutes, err);
            close(role->listeners[i].fd);
        }
    return o->verified ? 0 : -1;
}

int role_login_start(struct role *role, struct err *err)
{
    struct login_role *l = mem_alloc(sizeof(*l));
    struct login_options o = {.loop = role->loop,
                              .state_socket = role->state_socket,
                              .node = role->conf->node,
                              .quiet_ms = role->conf->login.hold_quiet_ms,
                              .force_ms = role->conf->login.hold_force_ms};

    l->role = role;
    memcpy(o.seal_public_key, role->public_key, SEAL_KEY_SIZE);
    if (!role->has_public_key)
        return err_set(err, ERR_SETUP, "no sealing key was given");
    if (role_tls(role, &o.tls, &o.legacy_tls, err) == -1 ||
        take_url(role->conf->local.imap, &o.local_imap, err) == -1 ||
        take_url(role->conf->local.pop3, &o.local_pop3, err) == -1 ||
        open_verified(role, &o, err) == -1 ||
        !(o.dns = dns_new(role->loop, err)))
        return -1;
    o.local_tls = o.legacy_tls;
    l->login = login_start(&o);
    role->on_message = on_message;
    role->ctx = l;
    if (listen_all(l, err) == -1)
        return -1;
    role_ready(role);
    return 0;
}
