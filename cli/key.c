/*
 * mailhaul key ...: the sealing keys of the installation. Their file is read
 * and written here, as whoever runs the command may; a daemon that runs is told
 * by SIGHUP, as for any other change of what master reads.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/wire.h"

#define POLL_MS  300
#define TAKEN_MS 15000 /* until the daemon has a new key */
#define ROOM_MS  60000 /* until an older one has gone */

int cli_publish_key(const struct conf *conf, const struct keyring *ring,
                    struct err *err)
{
    char *path = conf_state_path(conf, "seal.pub");
    int rc = keyring_publish(ring, path, err);

    free(path);
    return rc;
}

/* The daemon's pid, 0 if none runs: who runs holds the lock on its file. */
static pid_t daemon_pid(const struct conf *conf)
{
    char *path = conf_state_path(conf, "mailhauld.pid");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[16] = "";
    long pid = 0;

    if (fd != -1 && flock(fd, LOCK_SH | LOCK_NB) == -1 &&
        read(fd, text, sizeof(text) - 1) > 0)
        pid = strtol(text, NULL, 10);
    if (fd != -1)
        close(fd);
    free(path);
    return pid > 1 ? (pid_t)pid : 0;
}

static int add_key(const char *path, struct err *err)
{
    struct keyring ring;
    int lock = keyring_lock(path, true, err);
    int rc;

    if (lock == -1)
        return -1;
    keyring_init(&ring);
    rc = keyring_read(&ring, path, err);
    if (rc == 0)
        rc = keyring_add(&ring, err);
    if (rc == 0)
        rc = keyring_write(&ring, path, err);
    keyring_release(&ring);
    close(lock);
    return rc;
}

/* --- what is there */

static json_t *key_ids(const char *path, struct err *err)
{
    json_t *ids = json_array();
    struct keyring ring;

    keyring_init(&ring);
    if (keyring_read(&ring, path, err) == -1) {
        json_decref(ids);
        return NULL;
    }
    for (unsigned i = 0; i < ring.count; i++) {
        uint8_t id[SEAL_ID_SIZE];

        keyring_id(&ring, i, id);
        json_array_append_new(
            ids, json_sprintf("%02x%02x%02x%02x", id[0], id[1], id[2], id[3]));
    }
    keyring_release(&ring);
    return ids;
}

static json_t *describe(struct cli *cli, struct err *err)
{
    char *path = conf_key_path(cli->conf);
    json_t *request = json_pack("{s:s}", "cmd", "key show");
    json_t *ids = key_ids(path, err), *result = NULL, *state = NULL;

    if (ids) {
        result = json_pack("{s:s,s:o}", "file", path, "keys", ids);
        if (daemon_pid(cli->conf) &&
            cli_call(cli, request, &state, NULL) == 0) {
            json_object_update(result, state);
            json_decref(state);
        } else {
            json_object_set_new(result, "rotation", json_string("unknown"));
        }
    }
    json_decref(request);
    free(path);
    return result;
}

static void print_keys(const json_t *result)
{
    const json_t *keys = json_object_get(result, "keys"), *id;
    size_t i;

    printf("%s\n", cli_text(result, "file"));
    json_array_foreach(keys, i, id)
        printf("  %s  %s\n", json_string_value(id),
               i == 0 ? "seals" : "opens what was sealed before");
    if (json_array_size(keys) > 1)
        printf("  rotation: %s, %lld seals wrapped anew\n",
               cli_text(result, "rotation"),
               (long long)wire_int(result, "rewrapped", 0));
}

static int show(struct cli *cli)
{
    struct err err;
    json_t *result = describe(cli, &err);

    if (!result)
        return cli_complain(cli, &err);
    if (cli->is_json)
        cli_print_json(result);
    else
        print_keys(result);
    json_decref(result);
    return CLI_GOOD;
}

int cli_key_show(struct cli *cli, json_t *request)
{
    (void)request;
    return show(cli);
}

/* --- a new key */

/* Until the file has the new key only. */
static int wait_for_the_end(struct cli *cli, struct err *err)
{
    for (;;) {
        char *path = conf_key_path(cli->conf);
        json_t *ids = key_ids(path, err);
        size_t count = json_array_size(ids);

        free(path);
        json_decref(ids);
        if (!ids)
            return -1;
        if (count == 1)
            return 0;
        if (!daemon_pid(cli->conf))
            return err_set(err, ERR_RETRY,
                           "mailhauld has ended; the rotation goes on when it "
                           "runs again");
        usleep(POLL_MS * 1000);
    }
}

/* There may be no room for one more before those of earlier rotations go. */
static int add_when_there_is_room(const struct conf *conf, struct err *err)
{
    char *path = conf_key_path(conf);
    int rc = -1;

    for (int waited_ms = 0;; waited_ms += POLL_MS) {
        rc = add_key(path, err);
        if (rc == 0 || err->kind != ERR_RETRY || waited_ms >= ROOM_MS ||
            !daemon_pid(conf))
            break;
        usleep(POLL_MS * 1000);
    }
    free(path);
    return rc;
}

/* What master cannot read it does not take, and goes on with what it had. */
static int wait_until_taken(struct cli *cli, struct err *err)
{
    json_t *request = json_pack("{s:s}", "cmd", "key show");
    char *path = conf_key_path(cli->conf);
    json_t *ids = key_ids(path, err);
    const char *newest = json_string_value(json_array_get(ids, 0));
    int rc = newest ? 1 : -1;

    for (int waited_ms = 0; rc == 1; waited_ms += POLL_MS) {
        json_t *state = NULL;
        struct err ignored;

        if (waited_ms > 0)
            usleep(POLL_MS * 1000);
        if (!daemon_pid(cli->conf) ||
            (cli_call(cli, request, &state, &ignored) == 0 &&
             strcmp(cli_text(state, "newest"), newest) == 0))
            rc = 0;
        else if (waited_ms >= TAKEN_MS)
            rc = err_set(err, ERR_SETUP,
                         "mailhauld has not taken the new key; its log says "
                         "why");
        json_decref(state);
    }
    json_decref(request);
    json_decref(ids);
    free(path);
    return rc;
}

/* The daemon, if one runs, reads the file and has what is in it. */
static int have_it_taken(struct cli *cli, struct err *err)
{
    pid_t pid = daemon_pid(cli->conf);

    if (!pid)
        return 0;
    if (kill(pid, SIGHUP) == -1)
        return err_set(err, ERR_SETUP, "mailhauld[%d]: %s", (int)pid,
                       strerror(errno));
    return wait_until_taken(cli, err);
}

static int begin_rotation(struct cli *cli, struct err *err)
{
    return add_when_there_is_room(cli->conf, err) == -1
               ? -1
               : have_it_taken(cli, err);
}

int cli_retire_key(struct cli *cli, const char *id, bool *is_going_out,
                   struct err *err)
{
    char *path = conf_key_path(cli->conf);
    json_t *ids = key_ids(path, err), *one;
    bool is_newest;
    size_t i;

    free(path);
    *is_going_out = false;
    if (!ids)
        return -1;
    json_array_foreach(ids, i, one)
    {
        if (strcmp(json_string_value(one), id) == 0)
            *is_going_out = true;
    }
    is_newest = *is_going_out &&
                strcmp(json_string_value(json_array_get(ids, 0)), id) == 0;
    json_decref(ids);
    if (is_newest)
        return begin_rotation(cli, err);
    /* whoever began that may have been interrupted, or not been heard */
    return *is_going_out ? have_it_taken(cli, err) : 0;
}

int cli_key_rotate(struct cli *cli, json_t *request)
{
    pid_t pid = daemon_pid(cli->conf);
    struct err err;
    int rc = begin_rotation(cli, &err);

    if (rc == 0 && wire_bool(request, "wait"))
        rc = pid ? wait_for_the_end(cli, &err)
                 : err_set(&err, ERR_RETRY,
                           "mailhauld does not run: the old key goes when it "
                           "has");
    return rc == -1 ? cli_complain(cli, &err) : show(cli);
}
