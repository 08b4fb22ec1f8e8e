#include "migrator/store_maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "migrator/store_parts.h"

#define PART_NAME "mailhaul.part"

int store_fail(struct err *err, const char *what)
{
    return err_set(err, err_kind_of_errno(errno), "store: %s: %s", what,
                   strerror(errno));
}

/* ---- the whole mailbox ---- */

int store_open(const char *maildir, bool is_durable, struct store **out,
               struct err *err)
{
    struct store *s = mem_alloc(sizeof(*s));

    s->root = -1;
    s->path = mem_dup_text(maildir);
    s->is_durable = is_durable;
    if (path_make(maildir, err) == 0) {
        s->root = open(maildir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->root != -1) {
            *out = s;
            return 0;
        }
        store_fail(err, maildir);
    }
    store_close(&s);
    return -1;
}

void store_close(struct store **store)
{
    struct store *s = *store;

    *store = NULL;
    if (s == NULL)
        return;
    if (s->root != -1)
        close(s->root);
    free(s->path);
    free(s);
}

int store_sync_all(struct store *store, struct err *err)
{
    if (syncfs(store->root) == -1)
        return store_fail(err, "syncfs");
    store->is_dirty = false;
    return 0;
}

int store_sync(struct store *store, struct err *err)
{
    return store->is_dirty ? store_sync_all(store, err) : 0;
}

/* ---- one folder ---- */

static int open_directory(int parent, const char *name, struct err *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd != -1 || errno != ENOENT) {
        if (fd == -1)
            store_fail(err, name);
        return fd;
    }
    if (mkdirat(parent, name, 0700) == -1 && errno != EEXIST)
        return store_fail(err, name);
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        store_fail(err, name);
    return fd;
}

static int open_parts(struct store_folder *f, const char *directory,
                      struct err *err)
{
    bool is_inbox = directory[0] == '\0';
    int unused;

    f->directory =
        open_directory(f->store->root, is_inbox ? "." : directory, err);
    if (f->directory == -1)
        return -1;
    f->cur = open_directory(f->directory, "cur", err);
    f->tmp = open_directory(f->directory, "tmp", err);
    unused = open_directory(f->directory, "new", err);
    if (f->cur == -1 || f->tmp == -1 || unused == -1)
        return -1;
    close(unused);
    if (!is_inbox) {
        unused = openat(f->directory, "maildirfolder",
                        O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (unused == -1)
            return store_fail(err, "maildirfolder");
        close(unused);
    }
    return 0;
}

int store_folder_open(struct store *store, const char *directory, uint32_t hash,
                      uint32_t uidvalidity, struct store_folder **out,
                      struct err *err)
{
    struct store_folder *f = mem_alloc(sizeof(*f));

    *f = (struct store_folder){.store = store,
                               .directory = -1,
                               .cur = -1,
                               .tmp = -1,
                               .hash = hash,
                               .uidvalidity = uidvalidity,
                               .part = -1};
    f->digest = digest_new();
    f->bytes = mem_alloc(STORE_BUFFER_SIZE);
    if (open_parts(f, directory, err) == -1) {
        store_folder_close(&f, NULL);
        return -1;
    }
    *out = f;
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd != -1)
        close(*fd);
    *fd = -1;
}

int store_folder_close(struct store_folder **folder, struct err *err)
{
    struct store_folder *f = *folder;
    int rc = 0;

    *folder = NULL;
    if (f == NULL)
        return 0;
    store_drop(f);
    if (f->list != NULL)
        fclose(f->list);
    if (f->store->is_durable && f->cur != -1 && f->directory != -1 &&
        (fsync(f->cur) == -1 || fsync(f->directory) == -1))
        rc = store_fail(err, "fsync of a folder");
    close_fd(&f->cur);
    close_fd(&f->tmp);
    close_fd(&f->directory);
    digest_free(&f->digest);
    free(f->bytes);
    free(f);
    return rc;
}

/* ---- one message ---- */

static const char flag_letters[] = "DFRST"; /* in the order of message_flag */

/* "<date>.V<uidvalidity>U<uid>F<folder>.mailhaul,S=...,W=...:2,<flags>" */
void store_name(const struct store_folder *folder,
                const struct store_message *message, bool is_whole,
                char out[STORE_NAME_SIZE])
{
    int used =
        snprintf(out, STORE_NAME_SIZE, "%lld.V%uU%uF%08x.mailhaul,S=%u,W=%u",
                 (long long)message->date, folder->uidvalidity, message->uid,
                 folder->hash, message->size, message->vsize);

    if (!is_whole)
        return;
    out[used++] = ':';
    out[used++] = '2';
    out[used++] = ',';
    for (int i = 0; flag_letters[i] != '\0'; i++)
        if (message->flags & 1u << i)
            out[used++] = flag_letters[i];
    for (int i = 0; i < STORE_KEYWORDS_MAX; i++)
        if (message->keywords >> i & 1)
            out[used++] = (char)('a' + i);
    out[used] = '\0';
}

static int write_all(int fd, const char *bytes, size_t length, struct err *err)
{
    while (length > 0) {
        ssize_t put = write(fd, bytes, length);

        if (put == -1 && errno == EINTR)
            continue;
        if (put == -1)
            return store_fail(err, "write");
        bytes += put;
        length -= (size_t)put;
    }
    return 0;
}

/* Line ends without CR: what they add when sent over IMAP or POP3. */
static void count_line_ends(struct store_folder *f, const char *bytes,
                            size_t length)
{
    const char *end = bytes + length, *at = bytes;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        char before = at == bytes ? f->last : at[-1];

        if (before != '\r')
            f->bare_lf++;
        at++;
    }
    if (length > 0)
        f->last = end[-1];
}

static int spill(struct store_folder *f, struct err *err)
{
    if (f->part == -1) {
        f->part = openat(f->tmp, PART_NAME,
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (f->part == -1)
            return store_fail(err, PART_NAME);
    }
    if (write_all(f->part, f->bytes, f->used, err) == -1)
        return -1;
    f->used = 0;
    return 0;
}

int store_write(struct store_folder *f, const void *bytes, size_t length,
                struct err *err)
{
    const char *from = bytes;

    if (store_use(f->store, length, 0, err) == -1)
        return -1;
    digest_add(f->digest, bytes, length);
    count_line_ends(f, bytes, length);
    f->size += length;
    while (length > 0) {
        size_t room = STORE_BUFFER_SIZE - f->used;

        if (room == 0) {
            if (spill(f, err) == -1)
                return -1;
            continue;
        }
        if (room > length)
            room = length;
        memcpy(f->bytes + f->used, from, room);
        f->used += room;
        from += room;
        length -= room;
    }
    return 0;
}

void store_measure(struct store_folder *f, uint32_t *size_out,
                   uint32_t *vsize_out, uint8_t digest[STORE_DIGEST_SIZE])
{
    uint8_t whole[DIGEST_SIZE];

    digest_take(f->digest, whole);
    memcpy(digest, whole, STORE_DIGEST_SIZE);
    *size_out = (uint32_t)f->size;
    *vsize_out = (uint32_t)(f->size + f->bare_lf);
}

static void start_anew(struct store_folder *f)
{
    f->used = 0;
    f->size = f->bare_lf = 0;
    f->last = '\0';
    f->part = -1;
}

void store_drop(struct store_folder *f)
{
    uint8_t unused[DIGEST_SIZE];

    if (f->part != -1) {
        close(f->part);
        unlinkat(f->tmp, PART_NAME, 0);
    }
    digest_take(f->digest, unused);
    start_anew(f);
}

int store_put(struct store_folder *f, const struct store_message *message,
              struct err *err)
{
    struct timespec times[2] = {{.tv_sec = message->date},
                                {.tv_sec = message->date}};
    bool is_part = f->part != -1;
    int fd = f->part, rc = 0;
    char name[STORE_NAME_SIZE];

    if (store_use(f->store, 0, 1, err) == -1)
        return -1;
    f->part = -1;
    f->store->is_dirty = true;
    store_name(f, message, true, name);
    if (!is_part) /* nobody reads the Maildir yet: no detour by tmp/ */
        fd = openat(f->cur, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                    0600);
    if (fd == -1)
        return store_fail(err, name);
    if (write_all(fd, f->bytes, f->used, err) == -1)
        rc = -1;
    else if (futimens(fd, times) == -1)
        rc = store_fail(err, "futimens");
    else if (f->store->is_durable && fsync(fd) == -1)
        rc = store_fail(err, "fsync");
    if (close(fd) == -1 && rc == 0)
        rc = store_fail(err, "close");
    if (rc == 0 && is_part && renameat(f->tmp, PART_NAME, f->cur, name) == -1)
        rc = store_fail(err, name);
    start_anew(f);
    return rc;
}

int store_rename(struct store_folder *f, const struct store_message *from,
                 const struct store_message *to, struct err *err)
{
    char old_name[STORE_NAME_SIZE], new_name[STORE_NAME_SIZE];

    store_name(f, from, true, old_name);
    store_name(f, to, true, new_name);
    f->store->is_dirty = true;
    if (strcmp(old_name, new_name) == 0 ||
        renameat(f->cur, old_name, f->cur, new_name) == 0)
        return 0;
    if (errno == ENOENT)
        return err_set(err, ERR_ITEM, "store: %s is not there", old_name);
    return store_fail(err, old_name);
}

int store_remove(struct store_folder *f, const struct store_message *message,
                 struct err *err)
{
    char name[STORE_NAME_SIZE];

    store_name(f, message, true, name);
    f->store->is_dirty = true;
    if (unlinkat(f->cur, name, 0) == -1 && errno != ENOENT)
        return store_fail(err, name);
    return 0;
}

/* ---- repair ---- */

/* One that the copy has put into this folder, perhaps under another
   UIDVALIDITY. A name of another folder is that of a message which its user has
   moved. */
static bool is_ours(const struct store_folder *f, const char *name)
{
    char part[32];

    snprintf(part, sizeof(part), "F%08x.mailhaul,", f->hash);
    return strstr(name, part) != NULL;
}

/* Bring one file to what the ledger says; true: it is right now. */
static bool repair_file(struct store_folder *f, const char *name,
                        const struct store_repair *repair)
{
    uint32_t uid = store_uid_of(f, name);
    struct store_message message;
    char whole[STORE_NAME_SIZE], base[STORE_NAME_SIZE];
    struct stat st;
    size_t length;

    if (uid == 0 || !repair->known(repair->ctx, uid, &message))
        return false;
    store_name(f, &message, true, whole);
    store_name(f, &message, false, base);
    length = strlen(base);
    if (strncmp(name, base, length) != 0 || name[length] != ':' ||
        fstatat(f->cur, name, &st, 0) == -1 || st.st_size != message.size)
        return false;
    if (strcmp(name, whole) != 0 && renameat(f->cur, name, f->cur, whole) == -1)
        return false;
    repair->found(repair->ctx, uid);
    return true;
}

int store_repair(struct store_folder *f, const struct store_repair *repair,
                 struct err *err)
{
    int fd = openat(f->cur, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd == -1 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (list == NULL) {
        close_fd(&fd);
        return store_fail(err, "cur");
    }
    f->store->is_dirty = true;
    while ((entry = readdir(list)) != NULL)
        if (is_ours(f, entry->d_name) && !repair_file(f, entry->d_name, repair))
            unlinkat(f->cur, entry->d_name, 0);
    closedir(list);
    unlinkat(f->tmp, PART_NAME, 0);
    return 0;
}
