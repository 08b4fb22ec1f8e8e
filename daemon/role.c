#include "daemon/role.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/wire.h"
#include "base/child.h"
#include "base/log.h"
#include "base/log_keep.h"
#include "base/mem.h"

#define FIRST_MESSAGE_MS 10000

static const struct {
    const char *name;
    int (*start)(struct role *role, struct err *err);
} roles[] = {
    {"state", role_state_start}, {"login", role_login_start},
    {"smtp", role_smtp_start},   {"jobs", role_jobs_start},
    {"admin", role_admin_start},
};

static void on_master(void *ctx, json_t *message, int fd)
{
    struct role *role = ctx;

    if (role->on_message)
        role->on_message(role->ctx, message, fd);
    else if (fd >= 0)
        close(fd);
}

static void on_stop(void *ctx)
{
    role_stop(ctx);
}

void role_stop(struct role *role)
{
    loop_stop(role->loop);
}

void role_ready(struct role *role)
{
    channel_send_take(role->master, json_pack("{s:s}", "m", "ready"), -1);
}

static void take_secret(const json_t *message, const char *field,
                        struct secret *out)
{
    const char *text = wire_text(message, field);

    if (text)
        secret_set(out, text, strlen(text));
}

static void take_listeners(struct role *role, const json_t *list)
{
    size_t i, count = json_array_size(list);
    const json_t *item;

    role->listeners = mem_alloc((count + 1) * sizeof(*role->listeners));
    json_array_foreach(list, i, item)
    {
        struct role_listener *l = &role->listeners[role->listener_count++];

        l->fd = (int)wire_int(item, "fd", -1);
        l->index = (int)wire_int(item, "index", 0);
    }
}

static void take_keys(struct role *role, const json_t *list)
{
    uint8_t key[SEAL_KEY_SIZE];
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (role->keys.count < KEYRING_MAX &&
            wire_bytes(item, "key", key, sizeof(key)) == SEAL_KEY_SIZE)
            secret_set(&role->keys.keys[role->keys.count++], key, sizeof(key));
    }
    explicit_bzero(key, sizeof(key));
}

static int take_first_message(struct role *role, struct err *err)
{
    char password[SEAL_SECRET_MAX];
    json_t *message;
    long length;
    const char *name;

    if (channel_receive_blocking(CHILD_CHANNEL_FD, FIRST_MESSAGE_MS, &message,
                                 err) == -1)
        return err_prefix(err, "no word from master");
    name = wire_text(message, "role");
    if (!name || strcmp(name, role->name) != 0) {
        json_decref(message);
        return err_set(err, ERR_SETUP, "started by hand");
    }
    take_secret(message, "certificate", &role->certificate_pem);
    take_secret(message, "key", &role->key_pem);
    role->has_public_key = wire_bytes(message, "public_key", role->public_key,
                                      SEAL_KEY_SIZE) == SEAL_KEY_SIZE;
    role->has_verified_key =
        wire_bytes(message, "verified_key", role->verified_key,
                   SEAL_KEY_SIZE) == SEAL_KEY_SIZE;
    take_keys(role, json_object_get(message, "private_keys"));
    length = wire_bytes(message, "local_password", password, sizeof(password));
    if (length > 0)
        secret_set(&role->local_password, password, (size_t)length);
    explicit_bzero(password, sizeof(password));
    take_listeners(role, json_object_get(message, "listeners"));
    json_decref(message);
    return 0;
}

static int open_log(struct role *role, struct err *err)
{
    int level = log_level_named(role->conf->log.level);
    char *kept = conf_state_path(role->conf, "trace");

    log_keep(kept);
    free(kept);
    return log_open(role->conf->log.to,
                    level < 0 ? LOG_LEVEL_INFO : (enum log_level)level,
                    role->name, err);
}

static int start(struct role *role, struct err *err)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", ROLE_CONF_FD);
    if (take_first_message(role, err) == -1 ||
        conf_load(path, &role->conf, err) == -1 || open_log(role, err) == -1)
        return -1;
    close(ROLE_CONF_FD);
    secret_guard_process();
    role->state_socket = conf_state_path(role->conf, "state.sock");
    role->loop = loop_new();
    /* Ctrl-C and a terminal's hang-up reach the whole group; master decides */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    loop_on_signal(role->loop, SIGTERM, on_stop, role);
    role->master = channel_new_take(role->loop, CHILD_CHANNEL_FD, on_master,
                                    on_stop, role);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(roles[i].name, role->name) == 0)
            return roles[i].start(role, err);
    return err_set(err, ERR_SETUP, "no such role: %s", role->name);
}

int role_run(const char *name)
{
    struct role role = {.name = name};
    struct err err;

    if (start(&role, &err) == -1) {
        log_error("%s cannot start: %s", name, err.text);
        _exit(err.kind == ERR_SETUP ? ROLE_EXIT_SETUP : 1);
    }
    loop_run(role.loop);
    log_debug("ends");
    keyring_release(&role.keys);
    secret_wipe(&role.local_password);
    secret_wipe(&role.key_pem);
    _exit(0); /* the kernel takes back the rest */
}

int role_tls(struct role *role, struct tls_server **server_out,
             struct tls_client **client_out, struct err *err)
{
    *server_out = NULL;
    if (role->certificate_pem.bytes &&
        !(*server_out =
              tls_server_new(role->certificate_pem.bytes, role->key_pem.bytes,
                             role->conf->tls.minimum, err)))
        return -1;
    secret_wipe(&role->key_pem); /* the context has it now */
    *client_out = tls_client_new(role->conf->tls.ca_file, NULL, err);
    return *client_out ? 0 : -1;
}
