/*
 * The files beside the messages: dovecot-uidlist (version 3), dovecot-keywords,
 * subscriptions, the witness, and the index files that Dovecot makes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "migrator/store_parts.h"

#define NEW_SUFFIX ".mailhaul"

/* Bring the bytes of a FILE to disk and put it in the place of `name`. */
static int finish_file(struct store *store, int directory, FILE *file,
                       const char *name, struct err *err)
{
    char aside[128];
    int rc = 0;

    snprintf(aside, sizeof(aside), "%s" NEW_SUFFIX, name);
    /* a write that failed on the way is remembered only there */
    if (ferror(file) || fflush(file) != 0 ||
        (store->is_durable && fsync(fileno(file)) == -1))
        rc = store_fail(err, name);
    if (fclose(file) != 0 && rc == 0)
        rc = store_fail(err, name);
    if (rc == 0 && renameat(directory, aside, directory, name) == -1)
        rc = store_fail(err, name);
    /* a folder's own directory is synced once, when it is closed */
    if (rc == 0 && store->is_durable && directory == store->root &&
        fsync(directory) == -1)
        rc = store_fail(err, name);
    store->is_dirty = true;
    return rc;
}

static FILE *begin_file(int directory, const char *name, struct err *err)
{
    char aside[128];
    FILE *file;
    int fd;

    snprintf(aside, sizeof(aside), "%s" NEW_SUFFIX, name);
    fd = openat(directory, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                0600);
    file = fd == -1 ? NULL : fdopen(fd, "w");
    if (file == NULL) {
        store_fail(err, name);
        if (fd != -1)
            close(fd);
    }
    return file;
}

/* Replace `name` in the directory by these bytes: written aside, then renamed.
   On disk before the return if the store is durable. */
static int replace_file(struct store *store, int directory, const char *name,
                        const char *bytes, size_t length, struct err *err)
{
    FILE *file = begin_file(directory, name, err);

    if (file == NULL)
        return -1;
    if (length > 0)
        fwrite(bytes, 1, length, file);
    return finish_file(store, directory, file, name, err);
}

/* ---- dovecot-uidlist ---- */

/* A GUID that a replay gives again. */
static void print_guid(FILE *list, const struct store_folder *f,
                       const char *address, const char *folder_name)
{
    uint8_t value[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];
    struct digest *d = digest_new();

    digest_add(d, address, strlen(address) + 1);
    digest_add(d, folder_name, strlen(folder_name) + 1);
    digest_add(d, &f->uidvalidity, sizeof(f->uidvalidity));
    digest_take(d, value);
    digest_free(&d);
    fprintf(list, " G%.32s\n", digest_hex(value, hex));
}

int store_list_begin(struct store_folder *f, uint32_t uidnext,
                     const char *address, const char *folder_name,
                     struct err *err)
{
    f->list = begin_file(f->directory, "dovecot-uidlist", err);
    if (f->list == NULL)
        return -1;
    fprintf(f->list, "3 V%u N%u", f->uidvalidity, uidnext);
    print_guid(f->list, f, address, folder_name);
    return 0;
}

int store_list_add(struct store_folder *f, const struct store_message *message,
                   const char *uidl, uint32_t order, struct err *err)
{
    char base[STORE_NAME_SIZE];

    store_name(f, message, false, base);
    fprintf(f->list, "%u", message->uid);
    if (uidl != NULL)
        fprintf(f->list, " P%s", uidl);
    if (order > 0)
        fprintf(f->list, " O%u", order);
    if (fprintf(f->list, " :%s\n", base) < 0)
        return store_fail(err, "dovecot-uidlist");
    return 0;
}

int store_list_end(struct store_folder *f, struct err *err)
{
    FILE *list = f->list;

    f->list = NULL;
    return finish_file(f->store, f->directory, list, "dovecot-uidlist", err);
}

int store_write_keywords(struct store_folder *f, char *const *names,
                         unsigned count, struct err *err)
{
    struct buf text;
    int rc;

    if (count == 0 &&
        faccessat(f->directory, "dovecot-keywords", F_OK, 0) == -1)
        return 0;
    buf_init(&text, 1 << 20);
    for (unsigned i = 0; i < count && i < STORE_KEYWORDS_MAX; i++)
        buf_printf(&text, "%u %s\n", i, names[i]);
    rc = replace_file(f->store, f->directory, "dovecot-keywords", text.bytes,
                      text.used, err);
    buf_release(&text);
    return rc;
}

/* ---- the root ---- */

/* Whether the file holds just that. */
static bool is_same(int directory, const char *name, const struct buf *text)
{
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *old;
    bool same = false;

    if (fd == -1)
        return false;
    if (fstat(fd, &st) == 0 && (size_t)st.st_size == text->used) {
        old = mem_alloc(text->used);
        same = read(fd, old, text->used) == (ssize_t)text->used &&
               memcmp(old, text->bytes, text->used) == 0;
        free(old);
    }
    close(fd);
    return same;
}

int store_write_subscriptions(struct store *store, char *const *lines,
                              size_t count, struct err *err)
{
    struct buf text;
    int rc = 0;

    buf_init(&text, 16 << 20);
    buf_append_text(&text, "V\t2\n\n");
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = buf_printf(&text, "%s\n", lines[i]);
    if (rc == -1)
        err_set(err, ERR_SETUP, "store: too many subscriptions");
    else if (!is_same(store->root, "subscriptions", &text))
        rc = replace_file(store, store->root, "subscriptions", text.bytes,
                          text.used, err);
    buf_release(&text);
    return rc;
}

int store_write_witness(struct store *store, int64_t epoch, const char *record,
                        struct err *err)
{
    struct buf text;
    int rc;

    buf_init(&text, 1 << 16);
    buf_printf(&text, "%lld\n", (long long)epoch);
    buf_append_text(&text, record);
    rc = replace_file(store, store->root, STORE_WITNESS, text.bytes, text.used,
                      err);
    buf_release(&text);
    return rc;
}

static bool read_witness(int directory, int64_t *epoch_out)
{
    int fd = openat(directory, STORE_WITNESS, O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t got = fd == -1 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd != -1)
        close(fd);
    if (got < 0)
        return false;
    text[got] = '\0';
    *epoch_out = strtoll(text, NULL, 10);
    return true;
}

bool store_read_witness(const struct store *store, int64_t *epoch_out)
{
    return read_witness(store->root, epoch_out);
}

bool store_peek_witness(const char *maildir, int64_t *epoch_out)
{
    int fd = open(maildir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_there = fd != -1 && read_witness(fd, epoch_out);

    if (fd != -1)
        close(fd);
    return is_there;
}

int store_remove_witness(struct store *store, struct err *err)
{
    if (unlinkat(store->root, STORE_WITNESS, 0) == -1 && errno != ENOENT)
        return store_fail(err, STORE_WITNESS);
    store->is_dirty = true;
    return 0;
}

/* ---- index files ---- */

static DIR *open_list(int parent, const char *name)
{
    int fd =
        openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *list = fd == -1 ? NULL : fdopendir(fd);

    if (fd != -1 && list == NULL)
        close(fd);
    return list;
}

int store_forget_index(struct store_folder *f, struct err *err)
{
    DIR *list = open_list(f->directory, ".");
    struct dirent *entry;

    if (list == NULL)
        return store_fail(err, "folder");
    while ((entry = readdir(list)) != NULL)
        if (strncmp(entry->d_name, "dovecot.index", 13) == 0)
            unlinkat(f->directory, entry->d_name, 0);
    closedir(list);
    f->store->is_dirty = true;
    return 0;
}

/* The header of dovecot.index.log, in the byte order of this machine. */
struct log_header {
    uint8_t major_version, minor_version;
    uint16_t header_size;
    uint32_t index_id;
    uint32_t file_number, previous_file_number, previous_file_offset;
    uint32_t created_at;
    uint64_t initial_modseq;
    uint8_t compatibility; /* 1: little endian */
    uint8_t unused[7];
};
_Static_assert(sizeof(struct log_header) == 40, "as Dovecot 2.2 to 2.4");

bool store_was_opened(const struct store *store, const char *directory)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof(path), "%s/dovecot.index.log",
             directory[0] == '\0' ? "." : directory);
    return fstatat(store->root, path, &st, 0) == 0 &&
           (size_t)st.st_size != sizeof(struct log_header);
}

/* Without the device: its number may be another after each mount. */
bool store_mark(const struct store *store, const char *directory,
                struct store_mark *out)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof(path), "%s/cur",
             directory[0] == '\0' ? "." : directory);
    if (fstatat(store->root, path, &st, 0) == -1)
        return false;
    *out = (struct store_mark){
        .inode = st.st_ino,
        .mtime_ns =
            (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
    };
    return true;
}

int store_lift_modseq(struct store_folder *f, uint64_t modseq, struct err *err)
{
    /* the id and time only have to be something; a replay gives them again */
    struct log_header header = {
        .major_version = 1,
        .minor_version = 3,
        .header_size = sizeof(header),
        .index_id = f->uidvalidity,
        .file_number = 1,
        .created_at = f->uidvalidity,
        .initial_modseq = modseq,
        .compatibility = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
    };

    if (store_forget_index(f, err) == -1)
        return -1;
    return replace_file(f->store, f->directory, "dovecot.index.log",
                        (const char *)&header, sizeof(header), err);
}
