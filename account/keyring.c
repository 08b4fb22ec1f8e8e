#include "account/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "proto/base64.h"

#define LINE_SIZE BASE64_SIZE(SEAL_KEY_SIZE)
#define TEXT_MAX  (KEYRING_MAX * (LINE_SIZE + 2) + 1)

void keyring_init(struct keyring *ring)
{
    ring->count = 0;
    for (unsigned i = 0; i < KEYRING_MAX; i++)
        secret_init(&ring->keys[i]);
}

void keyring_release(struct keyring *ring)
{
    for (unsigned i = 0; i < KEYRING_MAX; i++)
        secret_wipe(&ring->keys[i]);
    ring->count = 0;
}

void keyring_copy(struct keyring *to, const struct keyring *from)
{
    keyring_release(to);
    for (unsigned i = 0; i < from->count; i++)
        secret_set(&to->keys[i], from->keys[i].bytes, from->keys[i].length);
    to->count = from->count;
}

int keyring_parse(struct keyring *ring, const char *text, size_t length,
                  struct err *err)
{
    const char *end = text + length;
    uint8_t key[SEAL_KEY_SIZE];

    keyring_release(ring);
    while (text < end) {
        const char *line = text;
        size_t size = strcspn(line, "\r\n");

        if (line + size > end)
            size = (size_t)(end - line);
        text = line + size;
        while (text < end && (*text == '\r' || *text == '\n'))
            text++;
        if (size == 0)
            continue;
        if (ring->count == KEYRING_MAX ||
            base64_decode(line, size, key, sizeof(key)) != SEAL_KEY_SIZE)
            return err_set(err, ERR_SETUP, "not a file of sealing keys");
        secret_set(&ring->keys[ring->count++], key, sizeof(key));
        explicit_bzero(key, sizeof(key));
    }
    return ring->count ? 0
                       : err_set(err, ERR_SETUP, "a file without sealing keys");
}

int keyring_read(struct keyring *ring, const char *path, struct err *err)
{
    char text[TEXT_MAX + 1];
    ssize_t got;
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd == -1)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    got = read(fd, text, TEXT_MAX);
    if (got >= 0)
        text[got] = '\0';
    if (got == -1)
        rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    else if ((rc = keyring_parse(ring, text, (size_t)got, err)) == -1)
        err_prefix(err, "%s", path);
    explicit_bzero(text, sizeof(text));
    close(fd);
    return rc;
}

/* --- writing */

static size_t format(const struct keyring *ring, char text[TEXT_MAX])
{
    size_t used = 0;

    for (unsigned i = 0; i < ring->count; i++) {
        base64_encode(ring->keys[i].bytes, ring->keys[i].length, text + used);
        used += LINE_SIZE;
        text[used++] = '\n';
    }
    return used;
}

static int sync_folder(const char *path, struct err *err)
{
    char *copy = mem_dup_text(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd == -1 || fsync(fd) == -1
                 ? err_set(err, ERR_SETUP, "%s: %s", copy, strerror(errno))
                 : 0;

    if (fd != -1)
        close(fd);
    free(copy);
    return rc;
}

static int write_part(const char *part, const char *text, size_t length,
                      struct err *err)
{
    int fd =
        open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd == -1 || fchmod(fd, 0600) == -1 ||
        write(fd, text, length) != (ssize_t)length || fsync(fd) == -1)
        rc = err_set(err, ERR_SETUP, "%s: %s", part, strerror(errno));
    if (fd != -1)
        close(fd);
    return rc;
}

/* What the file held before: best effort, since not every disk writes where it
   wrote before. */
static void overwrite(int fd)
{
    char nothing[TEXT_MAX] = {0};
    struct stat st;

    if (fd == -1)
        return;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= TEXT_MAX &&
        pwrite(fd, nothing, (size_t)st.st_size, 0) == st.st_size)
        fsync(fd);
    close(fd);
}

int keyring_write(const struct keyring *ring, const char *path, struct err *err)
{
    char text[TEXT_MAX];
    size_t length = format(ring, text);
    char part[4096];
    int before = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    int rc = 0;

    if ((size_t)snprintf(part, sizeof(part), "%s.part", path) >= sizeof(part))
        rc = err_set(err, ERR_SETUP, "%s: too long a name", path);
    if (rc == 0)
        rc = write_part(part, text, length, err);
    if (rc == 0 && rename(part, path) == -1)
        rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    if (rc == 0)
        rc = sync_folder(path, err);
    if (rc == 0)
        overwrite(before);
    else if (before != -1)
        close(before);
    explicit_bzero(text, sizeof(text));
    return rc;
}

int keyring_lock(const char *path, bool waits, struct err *err)
{
    char *copy = mem_dup_text(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd == -1) {
        err_set(err, ERR_SETUP, "%s: %s", copy, strerror(errno));
    } else if (flock(fd, LOCK_EX | (waits ? 0 : LOCK_NB)) == -1) {
        err_set(err, ERR_RETRY, "%s: %s", copy, strerror(errno));
        close(fd);
        fd = -1;
    }
    free(copy);
    return fd;
}

static bool is_published(const char *path, const uint8_t key[SEAL_KEY_SIZE])
{
    uint8_t known[SEAL_KEY_SIZE + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_it = fd != -1 && read(fd, known, sizeof(known)) == SEAL_KEY_SIZE &&
                 memcmp(known, key, SEAL_KEY_SIZE) == 0;

    if (fd != -1)
        close(fd);
    return is_it;
}

int keyring_publish(const struct keyring *ring, const char *path,
                    struct err *err)
{
    uint8_t key[SEAL_KEY_SIZE];
    char part[4096];
    int fd, rc = 0;

    if (keyring_public(ring, key, err) == -1)
        return -1;
    if (is_published(path, key))
        return 0;
    if ((size_t)snprintf(part, sizeof(part), "%s.part", path) >= sizeof(part))
        return err_set(err, ERR_SETUP, "%s: too long a name", path);
    fd =
        open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd == -1 || fchmod(fd, 0644) == -1 ||
        write(fd, key, sizeof(key)) != (ssize_t)sizeof(key) ||
        fsync(fd) == -1 || rename(part, path) == -1)
        rc = err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    if (fd != -1)
        close(fd);
    return rc;
}

/* --- keys */

int keyring_add(struct keyring *ring, struct err *err)
{
    uint8_t public_key[SEAL_KEY_SIZE];
    struct secret key;

    if (ring->count == KEYRING_MAX)
        return err_set(err, ERR_RETRY,
                       "seals of %d older keys are still being wrapped anew",
                       KEYRING_MAX - 1);
    secret_init(&key);
    if (seal_make_keys(public_key, &key, err) == -1)
        return -1;
    for (unsigned i = ring->count; i > 0; i--)
        ring->keys[i] = ring->keys[i - 1];
    ring->keys[0] = key;
    ring->count++;
    return 0;
}

void keyring_keep_newest(struct keyring *ring)
{
    for (unsigned i = 1; i < ring->count; i++)
        secret_wipe(&ring->keys[i]);
    if (ring->count > 1)
        ring->count = 1;
}

int keyring_public(const struct keyring *ring,
                   uint8_t public_key[SEAL_KEY_SIZE], struct err *err)
{
    if (ring->count == 0)
        return err_set(err, ERR_SETUP, "no sealing key");
    return seal_public_of(&ring->keys[0], public_key, err);
}

void keyring_id(const struct keyring *ring, unsigned n,
                uint8_t id[SEAL_ID_SIZE])
{
    uint8_t public_key[SEAL_KEY_SIZE];

    memset(id, 0, SEAL_ID_SIZE);
    if (n < ring->count &&
        seal_public_of(&ring->keys[n], public_key, NULL) == 0)
        seal_key_id(public_key, id);
}

/* The key that the seal names; its place, -1 if it is not here. */
static int find_key(const struct keyring *ring, const struct seal *seal)
{
    uint8_t wanted[SEAL_ID_SIZE], id[SEAL_ID_SIZE];

    if (!seal_wrapped_to(seal, wanted))
        return -1;
    for (unsigned i = 0; i < ring->count; i++) {
        keyring_id(ring, i, id);
        if (memcmp(id, wanted, sizeof(id)) == 0)
            return (int)i;
    }
    return -1;
}

int keyring_open(const struct keyring *ring, const char *address,
                 const struct seal *seal, struct secret *password_out,
                 struct err *err)
{
    int n = find_key(ring, seal);

    secret_wipe(password_out);
    if (n == -1)
        return err_set(err, ERR_DENIED,
                       "%s: the password was sealed to a key that is gone",
                       address);
    return seal_open(&ring->keys[n], address, seal, password_out, err);
}

int keyring_rewrap(const struct keyring *ring, const char *address,
                   struct seal *seal, struct err *err)
{
    uint8_t public_key[SEAL_KEY_SIZE];
    int n = find_key(ring, seal);

    if (n == 0)
        return 0;
    if (n == -1)
        return err_set(err, ERR_DENIED,
                       "%s: the password was sealed to a key that is gone",
                       address);
    if (keyring_public(ring, public_key, err) == -1 ||
        seal_rewrap(&ring->keys[n], public_key, address, seal, err) == -1)
        return -1;
    return 1;
}
