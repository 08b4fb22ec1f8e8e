/*
 * mailhaul init: the state directory with its keys, its database and the
 * folders that others write into. What is there already stays as it is.
 */
#include "cli/cli.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/provision.h"
#include "account/keyring.h"
#include "base/mem.h"
#include "base/secret.h"
#include "db/control.h"

struct init {
    const struct conf *conf;
    json_t *created; /* paths */
};

#define KEEP ((uid_t)-1)

static uid_t uid_of(const char *name, gid_t *gid_out)
{
    const struct passwd *user = name && geteuid() == 0 ? getpwnam(name) : NULL;

    if (gid_out)
        *gid_out = user ? user->pw_gid : (gid_t)-1;
    return user ? user->pw_uid : KEEP;
}

/* A folder under state_dir with its missing parents; path is taken. */
static int make_folder(struct init *in, char *path, mode_t mode, uid_t uid,
                       gid_t gid, struct err *err)
{
    int rc = 0;

    for (char *slash = strchr(path + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) == -1 && errno != EEXIST)
            rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
        *slash = '/';
    }
    if (rc == 0 && mkdir(path, 0700) == 0) {
        json_array_append_new(in->created, json_string(path));
        if ((chown(path, uid, gid) == -1 && geteuid() == 0) ||
            chmod(path, mode) == -1)
            rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    } else if (rc == 0 && errno != EEXIST) {
        rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    }
    free(path);
    return rc;
}

static int make_key_file(struct init *in, const char *path,
                         struct keyring *ring, struct err *err)
{
    char *copy = mem_dup_text(path);
    int rc = make_folder(in, mem_dup_text(dirname(copy)), 0700, KEEP, (gid_t)-1,
                         err);

    free(copy);
    if (rc == 0)
        rc = keyring_add(ring, err);
    if (rc == 0)
        rc = keyring_write(ring, path, err);
    if (rc == 0)
        json_array_append_new(in->created, json_string(path));
    return rc;
}

/* The sealing keys stay with who runs master; losing them loses every sealed
   password, so a file that is there is never touched. */
static int make_keys(struct init *in, struct err *err)
{
    char *path = conf_key_path(in->conf);
    char *public_path = conf_state_path(in->conf, "seal.pub");
    bool was_there = access(public_path, F_OK) == 0;
    struct keyring ring;
    int rc;

    keyring_init(&ring);
    rc = access(path, F_OK) == 0 ? keyring_read(&ring, path, err)
                                 : make_key_file(in, path, &ring, err);
    if (rc == 0)
        rc = cli_publish_key(in->conf, &ring, err);
    if (rc == 0 && !was_there)
        json_array_append_new(in->created, json_string(public_path));
    keyring_release(&ring);
    free(public_path);
    free(path);
    return rc;
}

static int make_dovecot_folder(struct init *in, uid_t user, struct err *err)
{
    const struct conf *conf = in->conf;
    const char *name = conf->provision.group;
    const struct group *group = getgrnam(name ? name : "dovecot");
    gid_t gid = group && geteuid() == 0 ? group->gr_gid : (gid_t)-1;
    char *path, *folder;
    int rc;

    if (!conf->provision.dovecot)
        return 0;
    path = conf_state_path(conf, conf->provision.dovecot);
    folder = mem_dup_text(dirname(path));
    free(path);
    /* dovecot itself must write there: WAL readers do */
    rc = make_folder(in, folder, 02770, user, gid, err);
    return rc;
}

static int make_folders(struct init *in, struct err *err)
{
    const struct conf *conf = in->conf;
    gid_t user_gid, owner_gid;
    uid_t user = uid_of(conf->user, &user_gid);
    uid_t owner = uid_of(conf->store.owner, &owner_gid);

    /* others pass through, to what is theirs */
    if (make_folder(in, mem_dup_text(conf->state_dir), 0751, user, user_gid,
                    err) == -1 ||
        make_folder(in, conf_state_path(conf, "ledger"), 0750,
                    owner == KEEP ? user : owner,
                    owner == KEEP ? user_gid : owner_gid, err) == -1 ||
        make_folder(in, conf_state_path(conf, "smtp"), 0700, user, user_gid,
                    err) == -1)
        return -1;
    return make_dovecot_folder(in, user, err);
}

static int make_databases(struct init *in, struct err *err)
{
    const struct conf *conf = in->conf;
    struct provision *provision = NULL;
    struct db *db = NULL;

    /* the files shall belong to who will open them */
    if (provision_prepare(conf, err) == -1 ||
        cli_become_user(conf, err) == -1 ||
        control_open(conf->database, conf->state_dir, true, &db, err) == -1)
        return -1;
    db_close(&db);
    if (provision_open(conf, &provision, err) == -1)
        return -1;
    provision_close(&provision);
    return 0;
}

int cli_init(struct cli *cli, json_t *request)
{
    struct init in = {.conf = cli->conf, .created = json_array()};
    json_t *document = json_pack("{s:s,s:o}", "state_dir", cli->conf->state_dir,
                                 "created", in.created);
    const json_t *path;
    struct err err;
    size_t i;

    (void)request;
    umask(027);
    if (make_folders(&in, &err) == -1 || make_keys(&in, &err) == -1 ||
        make_databases(&in, &err) == -1) {
        json_decref(document);
        return cli_complain(cli, &err);
    }
    if (cli->is_json) {
        cli_print_json(document);
    } else {
        json_array_foreach(in.created, i, path)
            printf("made %s\n", json_string_value(path));
        printf("%s is ready\n", cli->conf->state_dir);
    }
    json_decref(document);
    return CLI_GOOD;
}
