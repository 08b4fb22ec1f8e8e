/*
 * What master alone may read: certificate, key, sealing keys.
 */
#include "daemon/master.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define KEY_FILE_MAX (1u << 20)

static int read_secret(const char *path, struct secret *out, struct err *err)
{
    char *bytes;
    size_t used = 0;
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    bytes = malloc(KEY_FILE_MAX);
    if (!bytes)
        abort();
    while (used < KEY_FILE_MAX &&
           (got = read(fd, bytes + used, KEY_FILE_MAX - used)) > 0)
        used += (size_t)got;
    close(fd);
    if (got >= 0)
        secret_set(out, bytes, used);
    explicit_bzero(bytes, used);
    free(bytes);
    if (got == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    return 0;
}

void master_publish_key(const struct generation *g)
{
    char *path = conf_state_path(g->conf, "seal.pub");
    struct err err;

    if (keyring_publish(&g->keys, path, &err) == -1)
        log_warn("command lines seal to an older key: %s", err.text);
    free(path);
}

static int read_seal_keys(struct generation *g, struct err *err)
{
    char *path = conf_key_path(g->conf);
    int rc = keyring_read(&g->keys, path, err);

    if (rc == -1)
        err_prefix(err, "run \"mailhaul init\" first");
    else
        rc = keyring_public(&g->keys, g->public_key, err);
    free(path);
    return rc;
}

/* Somebody may have given it a newer key since we read it. */
static int drop_older(const struct generation *g, const char *path,
                      struct err *err)
{
    uint8_t newest[SEAL_ID_SIZE], own[SEAL_ID_SIZE];
    struct keyring ring;
    int rc;

    keyring_init(&ring);
    rc = keyring_read(&ring, path, err);
    keyring_id(&g->keys, 0, own);
    keyring_id(&ring, 0, newest);
    if (rc == 0 && memcmp(newest, own, sizeof(own)) != 0)
        rc = err_set(err, ERR_RETRY, "%s: a newer key has come", path);
    keyring_keep_newest(&ring);
    if (rc == 0)
        rc = keyring_write(&ring, path, err);
    keyring_release(&ring);
    return rc;
}

int master_drop_older_keys(const struct generation *g, const char *path,
                           struct err *err)
{
    int lock = keyring_lock(path, false, err);
    int rc = lock == -1 ? -1 : drop_older(g, path, err);

    if (lock != -1)
        close(lock);
    return rc;
}

/* One line; what stands behind it is not ours to guess. */
static int read_local_password(struct generation *g, struct err *err)
{
    const char *path = g->conf->local.master_password_file;
    struct secret file;
    struct stat st;
    size_t length;

    if (!path)
        return 0;
    secret_init(&file);
    if (read_secret(path, &file, err) == -1)
        return err_prefix(err, "local.master_password_file");
    length = file.length > 0 ? strcspn(file.bytes, "\r\n") : 0;
    if (length > 0 &&
        strspn(file.bytes + length, "\r\n") == file.length - length)
        secret_set(&g->local_password, file.bytes, length);
    secret_wipe(&file);
    if (g->local_password.length == 0)
        return err_set(err, ERR_SETUP,
                       "local.master_password_file: %s: not one line", path);
    if (stat(path, &st) == 0 && (st.st_mode & S_IROTH))
        log_warn("%s: everybody may read the master user's password", path);
    return 0;
}

int master_read_keys(struct generation *g, struct err *err)
{
    const struct conf *conf = g->conf;

    if (conf->tls.certificate &&
        (!conf->tls.key ||
         read_secret(conf->tls.certificate, &g->certificate_pem, err) == -1 ||
         read_secret(conf->tls.key, &g->key_pem, err) == -1))
        return conf->tls.key
                   ? -1
                   : err_set(err, ERR_SETUP,
                             "%s: tls.certificate without tls.key", conf->path);
    if (read_local_password(g, err) == -1)
        return -1;
    return read_seal_keys(g, err);
}
