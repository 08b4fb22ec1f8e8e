#include "account/provision.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/username.h"
#include "base/mem.h"

#define DEFAULT_GROUP "dovecot"
#define SETTLED_LOOKS 3  /* at another auth.db before it is believed */
#define MISSING_LOOKS 10 /* where there is none */

_Static_assert(CREDENTIALS_MAX == AUTH_SLOTS, "local verifies all we know");

struct provision {
    const struct conf *conf; /* borrowed */
    struct db *auth;         /* NULL: none */
    uid_t uid;               /* of the mail */
    gid_t gid;
    dev_t device; /* of auth.db */
    ino_t inode;
    ino_t log_inode;  /* of its -wal, when it was last looked at */
    struct stat seen; /* of another file in its place, so often */
    unsigned seen_times;
    uint64_t applied;
};

static int find_user(const char *name, const char *key, uid_t *uid_out,
                     gid_t *gid_out, struct err *err)
{
    const struct passwd *user;

    errno = 0;
    user = getpwnam(name);
    if (user == NULL)
        return err_set(err, ERR_SETUP, "%s: no user \"%s\"", key, name);
    *uid_out = user->pw_uid;
    *gid_out = user->pw_gid;
    return 0;
}

/* (gid_t)-1 if none is configured and the usual one is not there. */
static int find_group(const struct conf *conf, gid_t *gid_out, struct err *err)
{
    const char *name = conf->provision.group;
    const struct group *group = getgrnam(name != NULL ? name : DEFAULT_GROUP);

    if (group == NULL && name != NULL)
        return err_set(err, ERR_SETUP, "provision.group: no group \"%s\"",
                       name);
    *gid_out = group == NULL ? (gid_t)-1 : group->gr_gid;
    return 0;
}

/* Two users in one mailbox read each other's mail: no account is written then.
 */
static int check_store(const struct conf *conf, struct err *err)
{
    const char *path = conf->store.path;
    const char *fault = path != NULL ? conf_store_fault(path) : NULL;

    return fault == NULL ? 0 : err_set(err, ERR_SETUP, "store.path: %s", fault);
}

int provision_prepare(const struct conf *conf, struct err *err)
{
    uid_t owner = (uid_t)-1;
    gid_t group;
    char *path;
    int result;

    if (check_store(conf, err) == -1)
        return -1;
    if (conf->provision.dovecot == NULL)
        return 0;
    if (conf->user != NULL &&
        find_user(conf->user, "user", &owner, &group, err) == -1)
        return -1;
    if (find_group(conf, &group, err) == -1)
        return -1;
    path = conf_state_path(conf, conf->provision.dovecot);
    result = auth_prepare(path, owner, group, err);
    free(path);
    return result;
}

/* Nobody else writes to it for long: who does, holds up all of us. */
#define BUSY_MS 200

static int open_auth(struct provision *p, struct err *err)
{
    struct stat st;
    struct db *auth;
    char *path;
    gid_t group;
    int result;

    if (find_group(p->conf, &group, err) == -1)
        return -1;
    path = conf_state_path(p->conf, p->conf->provision.dovecot);
    result = auth_open(path, group, &auth, err);
    if (result == 0 && stat(path, &st) == -1) {
        result = err_set(err, ERR_RETRY, "%s: %s", path, strerror(errno));
        db_close(&auth);
    }
    free(path);
    if (result == -1)
        return -1;
    db_set_busy_ms(auth, BUSY_MS);
    db_close(&p->auth);
    p->auth = auth;
    p->device = st.st_dev;
    p->inode = st.st_ino;
    return 0;
}

static bool is_file(const char *path, const char *ending, dev_t device,
                    ino_t inode)
{
    char name[PATH_MAX];
    struct stat st;

    snprintf(name, sizeof(name), "%s%s", path, ending);
    if (stat(name, &st) == -1)
        return errno != ENOENT; /* nobody can tell */
    return st.st_dev == device && st.st_ino == inode;
}

/* A log that belongs to the file that was there would be read into the new
   one. */
static void drop_log(const struct provision *p, const char *path)
{
    static const char *const endings[] = {"-wal", "-shm"};
    char name[PATH_MAX];

    if (!is_file(path, "-wal", p->device, p->log_inode))
        return;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", path, endings[i]);
        unlink(name);
    }
}

/* Whoever puts another file there may still be at it: it has to look the same
   for a while, and one that is missing may be on its way. */
static bool has_settled(struct provision *p, const char *path)
{
    struct stat st = {.st_ino = 0};
    bool is_there = stat(path, &st) == 0;

    if (st.st_ino != p->seen.st_ino || st.st_size != p->seen.st_size ||
        st.st_mtim.tv_sec != p->seen.st_mtim.tv_sec ||
        st.st_mtim.tv_nsec != p->seen.st_mtim.tv_nsec)
        p->seen_times = 0;
    p->seen = st;
    return ++p->seen_times > (is_there ? SETTLED_LOOKS : MISSING_LOOKS);
}

bool provision_is_replaced(struct provision *p)
{
    struct stat st;
    char *path, name[PATH_MAX];
    bool is_same;

    if (p->auth == NULL)
        return false;
    path = conf_state_path(p->conf, p->conf->provision.dovecot);
    is_same = is_file(path, "", p->device, p->inode);
    snprintf(name, sizeof(name), "%s-wal", path);
    if (is_same && stat(name, &st) == 0)
        p->log_inode = st.st_ino;
    is_same = is_same || !has_settled(p, path);
    if (!is_same)
        drop_log(p, path);
    free(path);
    return !is_same;
}

int provision_open(const struct conf *conf, struct provision **out,
                   struct err *err)
{
    struct provision *p;

    *out = NULL;
    if (conf->provision.command.count > 0)
        return err_set(err, ERR_SETUP,
                       "provision.command: not available in this version");
    if (check_store(conf, err) == -1)
        return -1;
    p = mem_alloc(sizeof(*p));
    p->conf = conf;
    p->uid = getuid();
    p->gid = getgid();
    if (conf->store.owner != NULL && find_user(conf->store.owner, "store.owner",
                                               &p->uid, &p->gid, err) == -1)
        goto failed;
    if (conf->provision.dovecot != NULL && open_auth(p, err) == -1)
        goto failed;
    *out = p;
    return 0;
failed:
    provision_close(&p);
    return -1;
}

void provision_close(struct provision **p)
{
    if (*p == NULL)
        return;
    db_close(&(*p)->auth);
    free(*p);
    *p = NULL;
}

/* The path with its last part cut, unless that part is the user's own. */
static void home_of(const char *template, char *path)
{
    const char *last = strrchr(template, '/');
    char *slash = strrchr(path, '/');

    if (last != NULL && strchr(last, '{') == NULL && slash != NULL &&
        slash != path)
        *slash = '\0';
}

/* Dovecot takes one character, and refuses to serve a user with more. */
static const char *separator_of(const struct account *account)
{
    const char *separator = account->legacy_separator;
    bool is_usable = account->has_prefix && strlen(separator) == 1 &&
                     strchr("/.\\^|~!", separator[0]) != NULL;

    return is_usable ? separator : NULL;
}

/* Legacy's personal prefix where Dovecot can have it too: a prefix that does
   not end with the separator is an error for it at every login. It wants UTF-8,
   and ours is as on the wire (RFC 3501 5.1.3), which is the same without '&'.
   NULL: leave it out. */
static const char *prefix_of(const struct account *account)
{
    const char *prefix = account->legacy_prefix;
    const char *separator = separator_of(account);
    size_t length = strlen(prefix);

    if (separator == NULL || length == 0 || prefix[length - 1] != separator[0])
        return NULL;
    for (const char *c = prefix; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~' || *c == '&')
            return NULL;
    }
    return prefix;
}

int provision_apply(struct provision *p, const struct account *account,
                    const struct credential_hashes *hashes, struct err *err)
{
    char maildir[PATH_MAX], home[PATH_MAX], mail[PATH_MAX + 16];
    struct auth_user user = {
        .username = account->address,
        .password = hashes == NULL ? NULL : hashes->items[0],
        .home = home,
        .mail = mail,
        .uid = p->uid,
        .gid = p->gid,
        .is_active = account->route == ROUTE_LOCAL,
        .is_login_locked = account->is_login_locked,
        .is_submission_locked = account->is_submission_locked,
        .set_at = account->local_password_at,
        .epoch = account->epoch};

    if (p->auth == NULL)
        return 0;
    p->applied++;
    if (provision_maildir(p->conf, account->address, maildir, sizeof(maildir),
                          err) == -1)
        return -1;
    snprintf(home, sizeof(home), "%s", maildir);
    home_of(p->conf->store.path, home);
    snprintf(mail, sizeof(mail), "maildir:%s", maildir);
    user.prefix = prefix_of(account);
    user.separator = separator_of(account);
    for (size_t i = 1; hashes != NULL && i < hashes->count; i++)
        user.further[user.further_count++] = hashes->items[i];
    return auth_put(p->auth, &user, err);
}

int provision_begin(struct provision *p, struct err *err)
{
    return p->auth == NULL ? 0 : db_begin(p->auth, err);
}

int provision_commit(struct provision *p, struct err *err)
{
    return p->auth == NULL ? 0 : db_commit(p->auth, err);
}

void provision_abort(struct provision *p)
{
    if (p->auth != NULL && db_in_transaction(p->auth))
        db_rollback(p->auth);
}

int provision_settle(struct provision *p, struct db *control,
                     const struct account *account, struct err *err)
{
    struct credential_hashes hashes;

    if (credential_hashes(control, account->id, &hashes, err) == -1)
        return -1;
    return provision_apply(p, account, &hashes, err);
}

int provision_remove(struct provision *p, const char *address, struct err *err)
{
    return p->auth == NULL ? 0 : auth_remove(p->auth, address, err);
}

int provision_served_epoch(struct provision *p, const char *address,
                           int64_t *epoch_out, struct err *err)
{
    *epoch_out = 0;
    return p->auth == NULL
               ? 0
               : auth_active_epoch(p->auth, address, epoch_out, err);
}

int provision_password_version(struct provision *p, const char *address,
                               int64_t *version_out, struct err *err)
{
    *version_out = 0;
    return p->auth == NULL ? 0
                           : auth_version(p->auth, address, version_out, err);
}

int provision_changes(struct provision *p, struct auth_changes *out,
                      struct err *err)
{
    *out = (struct auth_changes){0, 0};
    return p->auth == NULL ? 0 : auth_changes(p->auth, out, err);
}

uint64_t provision_applied(const struct provision *p)
{
    return p->applied;
}

int provision_count(struct provision *p, int64_t *count_out, struct err *err)
{
    *count_out = INT64_MAX;
    return p->auth == NULL ? 0 : auth_count_active(p->auth, count_out, err);
}

/* No part of the path is "", "." or "..", so it stays below what the template
   begins with. */
static bool is_plain_path(const char *path)
{
    if (path[0] != '/')
        return false;
    while (*path == '/') {
        size_t length = strcspn(path + 1, "/");

        if (length == 0 || (length == 1 && path[1] == '.') ||
            (length == 2 && path[1] == '.' && path[2] == '.'))
            return false;
        path += 1 + length;
    }
    return true;
}

int provision_maildir(const struct conf *conf, const char *address, char *out,
                      size_t size, struct err *err)
{
    struct username name;

    if (conf->store.path == NULL || conf->store.path[0] != '/')
        return err_set(err, ERR_SETUP, "store.path: must be absolute");
    if (username_parse(address, strlen(address), &name, err) == -1 ||
        strcmp(name.address, address) != 0)
        return err_set(err, ERR_SETUP, "not a canonical address");
    if (username_fill(conf->store.path, &name, out, size, err) == -1)
        return err_prefix(err, "store.path");
    if (!is_plain_path(out))
        return err_set(err, ERR_SETUP, "%s: store.path gives no plain path",
                       address);
    return 0;
}
