#include "smtp-proxy/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#define BUCKETS         16384 /* a power of two */
#define LINE_MAX_BYTES  4096
#define WORD_MAX        1300 /* 400 bytes of an address, percent-coded */
#define READ_CHUNK      65536
#define COMPACT_AT      ((off_t)64 << 20)
#define RECORD_SIZE_MAX (8u << 20)
#define DOTS_MAX        1024
#define DOT_SECONDS     660 /* no hop is waited for any longer */

/* One open "taken", in its bucket and in the order of age. */
struct entry {
    struct entry *next_in_bucket; /* owned, like all entries, by the journal */
    struct entry *older;
    struct entry *newer;
    int64_t taken_s;
    uint64_t hash;
    char digest[DIGEST_HEX_SIZE];
    char pair[]; /* "sender recipient", coded as in the file */
};

/* A message that another process has passed the dot of. */
struct dot {
    pid_t pid; /* 0: none */
    int64_t time_s;
    char digest[DIGEST_HEX_SIZE];
};

struct journal {
    char *path;   /* owned */
    char *folder; /* owned */
    journal_clock_fn *clock;
    int fd;
    off_t read_to; /* the index knows the file up to here */
    off_t compact_at;
    bool is_torn; /* a write fell short: end that line first */
    size_t entry_count;
    struct entry *oldest;
    struct entry *newest;
    struct entry *bucket[BUCKETS];
    struct dot dots[DOTS_MAX]; /* the oldest are overwritten */
    size_t dot_next;
};

static int64_t system_clock(void)
{
    return (int64_t)time(NULL);
}

/* FNV-1a: told torn from whole, no defence against an author. */
static uint64_t hash_of(const char *bytes, size_t length)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

/* ---- the index ---- */

static struct entry **find_slot(struct journal *j, const char *digest,
                                const char *pair)
{
    uint64_t hash = hash_of(pair, strlen(pair));
    struct entry **slot = &j->bucket[hash & (BUCKETS - 1)];

    for (; *slot != NULL; slot = &(*slot)->next_in_bucket)
        if ((*slot)->hash == hash && strcmp((*slot)->pair, pair) == 0 &&
            (digest == NULL || strcmp((*slot)->digest, digest) == 0))
            break;
    return slot;
}

static void remove_slot(struct journal *j, struct entry **slot)
{
    struct entry *e = *slot;

    *slot = e->next_in_bucket;
    if (e->older != NULL)
        e->older->newer = e->newer;
    else
        j->oldest = e->newer;
    if (e->newer != NULL)
        e->newer->older = e->older;
    else
        j->newest = e->older;
    j->entry_count--;
    free(e);
}

static void remove_entry(struct journal *j, struct entry *e)
{
    struct entry **slot = &j->bucket[e->hash & (BUCKETS - 1)];

    while (*slot != e)
        slot = &(*slot)->next_in_bucket;
    remove_slot(j, slot);
}

static void expire(struct journal *j)
{
    int64_t limit_s = j->clock() - JOURNAL_OPEN_SECONDS;

    while (j->oldest != NULL && (j->oldest->taken_s < limit_s ||
                                 j->entry_count > JOURNAL_ENTRIES_MAX))
        remove_entry(j, j->oldest);
}

static void add_entry(struct journal *j, int64_t taken_s, const char *digest,
                      const char *pair)
{
    struct entry **slot = find_slot(j, digest, pair);
    size_t size = strlen(pair) + 1;
    struct entry *e;

    if (*slot != NULL)
        remove_slot(j, slot);
    e = mem_alloc(sizeof(*e) + size);
    memcpy(e->pair, pair, size);
    snprintf(e->digest, sizeof(e->digest), "%s", digest);
    e->taken_s = taken_s;
    e->hash = hash_of(pair, size - 1);
    slot = &j->bucket[e->hash & (BUCKETS - 1)];
    e->next_in_bucket = *slot;
    *slot = e;
    e->older = j->newest;
    if (j->newest != NULL)
        j->newest->newer = e;
    else
        j->oldest = e;
    j->newest = e;
    j->entry_count++;
}

static void clear_index(struct journal *j)
{
    while (j->oldest != NULL)
        remove_entry(j, j->oldest);
    j->read_to = 0;
}

/* ---- what others are about ---- */

static void add_dot(struct journal *j, int64_t time_s, const char *digest,
                    pid_t pid)
{
    struct dot *d = &j->dots[j->dot_next];

    if (pid <= 0 || pid == getpid() || time_s < j->clock() - DOT_SECONDS)
        return;
    j->dot_next = (j->dot_next + 1) % DOTS_MAX;
    d->pid = pid;
    d->time_s = time_s;
    snprintf(d->digest, sizeof(d->digest), "%s", digest);
}

static struct dot *find_dot(struct journal *j, const char *digest)
{
    for (size_t i = 0; i < DOTS_MAX; i++)
        if (j->dots[i].pid != 0 && strcmp(j->dots[i].digest, digest) == 0)
            return &j->dots[i];
    return NULL;
}

/* A verdict came. */
static void drop_dot(struct journal *j, const char *digest)
{
    struct dot *d = find_dot(j, digest);

    if (d != NULL)
        d->pid = 0;
}

/* ---- records ---- */

static const char *code_address(const char *address, char word[WORD_MAX])
{
    size_t used = 0;

    if (address[0] == '\0')
        return memcpy(word, "<>", 3);
    for (; *address != '\0' && used + 4 < WORD_MAX; address++) {
        unsigned char byte = (unsigned char)*address;

        if (byte > ' ' && byte < 127 && byte != '%')
            word[used++] = (char)byte;
        else
            used += (size_t)snprintf(word + used, 4, "%%%02X", byte);
    }
    word[used] = '\0';
    return word;
}

static void code_pair(const char *sender, const char *recipient,
                      char pair[2 * WORD_MAX])
{
    char from[WORD_MAX];
    char to[WORD_MAX];

    snprintf(pair, 2 * WORD_MAX, "%s %s", code_address(sender, from),
             code_address(recipient, to));
}

static void add_line(struct buf *out, const char *kind, int64_t time_s,
                     const char *digest, const char *pair)
{
    char line[LINE_MAX_BYTES];
    int length = snprintf(line, sizeof(line), "%s %" PRId64 " %s %s", kind,
                          time_s, digest, pair);

    buf_printf(out, "%s %016" PRIx64 "\n", line, hash_of(line, (size_t)length));
}

/* One line of the file into the index; what is no whole record is nothing. */
static void read_record(struct journal *j, char *line)
{
    char *sum = strrchr(line, ' ');
    char kind[8];
    char digest[DIGEST_HEX_SIZE];
    int64_t time_s;
    int pair_at = 0;

    if (sum == NULL ||
        strtoull(sum + 1, NULL, 16) != hash_of(line, (size_t)(sum - line)))
        return;
    *sum = '\0';
    if (sscanf(line, "%7s %" SCNd64 " %64s %n", kind, &time_s, digest,
               &pair_at) != 3 ||
        pair_at == 0)
        return;
    if (strcmp(kind, "dot") == 0) {
        const char *pid = strrchr(line, ' ');

        add_dot(j, time_s, digest, (pid_t)strtol(pid + 1, NULL, 10));
        return;
    }
    drop_dot(j, digest);
    if (strcmp(kind, "taken") == 0) {
        add_entry(j, time_s, digest, line + pair_at);
    } else if (strcmp(kind, "told") == 0) {
        struct entry **slot = find_slot(j, digest, line + pair_at);

        if (*slot != NULL)
            remove_slot(j, slot);
    }
}

/* Records of a chunk; returns how many bytes are whole lines. */
static size_t read_chunk(struct journal *j, char *bytes, size_t length)
{
    size_t at = 0;

    while (at < length) {
        char *line = bytes + at;
        char *end = memchr(line, '\n', length - at);

        if (end == NULL)
            break;
        *end = '\0';
        read_record(j, line);
        at = (size_t)(end - bytes) + 1;
    }
    return at;
}

/* Read what was appended since, by us or by others. A last line without its end
   is one that another process is writing, or that a power cut tore. */
static void catch_up(struct journal *j)
{
    static char chunk[READ_CHUNK];

    for (;;) {
        ssize_t count = pread(j->fd, chunk, sizeof(chunk), j->read_to);
        size_t whole;

        if (count <= 0)
            break;
        whole = read_chunk(j, chunk, (size_t)count);
        if (whole == 0 && (size_t)count < sizeof(chunk))
            break;
        /* no line is so long: garbage, step over it */
        j->read_to += (off_t)(whole > 0 ? whole : (size_t)count);
    }
    expire(j);
}

/* ---- the file ---- */

static bool is_current(const struct journal *j, int fd)
{
    struct stat opened;
    struct stat named;

    return fstat(fd, &opened) == 0 && stat(j->path, &named) == 0 &&
           opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

/* Everybody who appends holds the shared lock; who has the exclusive one may
   replace the file. */
static int open_file(struct journal *j, bool *is_alone_out, struct err *err)
{
    for (;;) {
        int fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        if (fd == -1)
            return err_set(err, ERR_SETUP, "%s: %s", j->path, strerror(errno));
        *is_alone_out = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!*is_alone_out && flock(fd, LOCK_SH) == -1) {
            close(fd);
            return err_set(err, ERR_SETUP, "%s: lock: %s", j->path,
                           strerror(errno));
        }
        if (is_current(j, fd)) {
            j->fd = fd;
            return 0;
        }
        close(fd);
    }
}

static int write_all(int fd, const struct buf *records)
{
    size_t at = 0;

    while (at < records->used) {
        ssize_t count = write(fd, records->bytes + at, records->used - at);

        if (count == -1 && errno == EINTR)
            continue;
        if (count <= 0)
            return -1;
        at += (size_t)count;
    }
    return 0;
}

static int write_open_entries(struct journal *j, int fd)
{
    struct buf records;
    int result = 0;

    buf_init(&records, RECORD_SIZE_MAX);
    for (struct entry *e = j->oldest; e != NULL && result == 0; e = e->newer) {
        add_line(&records, "taken", e->taken_s, e->digest, e->pair);
        if (records.used > READ_CHUNK || e->newer == NULL) {
            result = write_all(fd, &records);
            buf_clear(&records);
        }
    }
    buf_release(&records);
    return result == 0 ? fsync(fd) : -1;
}

static void sync_folder(const struct journal *j)
{
    int fd = open(j->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd == -1)
        return;
    fsync(fd);
    close(fd);
}

/* Replace the file by one with the open records. We hold it alone. */
static int compact(struct journal *j, struct err *err)
{
    char name[4096];
    struct stat now;
    int fd;

    snprintf(name, sizeof(name), "%s.new", j->path);
    unlink(name);
    fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd == -1)
        return err_set(err, ERR_SETUP, "%s: %s", name, strerror(errno));
    if (flock(fd, LOCK_SH) == -1 || write_open_entries(j, fd) == -1 ||
        rename(name, j->path) == -1 || fstat(fd, &now) == -1) {
        err_set(err, ERR_SETUP, "%s: %s", name, strerror(errno));
        close(fd);
        return -1;
    }
    sync_folder(j);
    close(j->fd);
    j->fd = fd;
    j->read_to = now.st_size;
    j->compact_at = now.st_size + COMPACT_AT;
    j->is_torn = false;
    return 0;
}

/* A lock cannot be raised without letting it go for a moment, so the file may
   be another one afterwards. */
static void compact_if_large(struct journal *j)
{
    struct err err;
    bool is_alone;

    if (j->read_to < j->compact_at)
        return;
    j->compact_at = j->read_to + COMPACT_AT;
    if (flock(j->fd, LOCK_EX | LOCK_NB) == 0) {
        catch_up(j);
        if (compact(j, &err) == -1)
            log_warn("smtp journal compact failed=\"%s\"", err.text);
    }
    flock(j->fd, LOCK_SH);
    if (!is_current(j, j->fd)) {
        close(j->fd);
        clear_index(j);
        if (open_file(j, &is_alone, &err) == -1) {
            log_error("smtp journal lost=\"%s\"", err.text);
            return;
        }
        flock(j->fd, LOCK_SH);
        catch_up(j);
    }
}

static int append(struct journal *j, const struct buf *records, struct err *err)
{
    ssize_t count;

    if (j->is_torn && write(j->fd, "\n", 1) == 1)
        j->is_torn = false;
    do {
        count = write(j->fd, records->bytes, records->used);
    } while (count == -1 && errno == EINTR);
    if (count == (ssize_t)records->used)
        return 0;
    if (count == -1)
        return err_set(err, ERR_SETUP, "%s: %s", j->path, strerror(errno));
    j->is_torn = true;
    return err_set(err, ERR_SETUP, "%s: disk full", j->path);
}

static int append_each(struct journal *j, const char *kind,
                       const struct journal_message *message,
                       const char *const *recipients, size_t count,
                       struct err *err)
{
    char digest[DIGEST_HEX_SIZE];
    char pair[2 * WORD_MAX];
    int64_t now_s = j->clock();
    struct buf records;
    int result;

    digest_hex(message->digest, digest);
    buf_init(&records, RECORD_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        code_pair(message->sender, recipients[i], pair);
        add_line(&records, kind, now_s, digest, pair);
    }
    result = append(j, &records, err);
    buf_release(&records);
    return result;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return mem_dup_text(".");
    if (slash == path)
        return mem_dup_text("/");
    return strndup(path, (size_t)(slash - path));
}

struct journal *journal_open(const char *path, journal_clock_fn *clock,
                             struct err *err)
{
    struct journal *j = mem_alloc(sizeof(*j));
    bool is_alone;
    struct stat now;

    j->path = mem_dup_text(path);
    j->folder = folder_of(path);
    j->clock = clock != NULL ? clock : system_clock;
    j->fd = -1;
    if (open_file(j, &is_alone, err) == -1) {
        journal_close(&j);
        return NULL;
    }
    catch_up(j);
    if (is_alone && compact(j, err) == -1) {
        journal_close(&j);
        return NULL;
    }
    if (!is_alone) {
        j->is_torn = fstat(j->fd, &now) == 0 && now.st_size > j->read_to;
        j->compact_at = j->read_to + COMPACT_AT;
    }
    return j;
}

void journal_close(struct journal **journal)
{
    struct journal *j = *journal;

    if (j == NULL)
        return;
    clear_index(j);
    if (j->fd != -1)
        close(j->fd);
    free(j->path);
    free(j->folder);
    free(j);
    *journal = NULL;
}

int journal_dot(struct journal *journal, const struct journal_message *message,
                struct err *err)
{
    char pid[24];
    const char *const writer[] = {pid};

    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    catch_up(journal);
    compact_if_large(journal);
    return append_each(journal, "dot", message, writer, 1, err);
}

int journal_taken(struct journal *journal,
                  const struct journal_message *message,
                  const char *const *recipients, size_t count, struct err *err)
{
    return append_each(journal, "taken", message, recipients, count, err);
}

int journal_told(struct journal *journal, const struct journal_message *message,
                 const char *const *recipients, size_t count, struct err *err)
{
    return append_each(journal, "told", message, recipients, count, err);
}

int journal_sync(struct journal *journal, struct err *err)
{
    if (fdatasync(journal->fd) == -1)
        return err_set(err, ERR_SETUP, "%s: %s", journal->path,
                       strerror(errno));
    return 0;
}

bool journal_suspects(struct journal *journal, const char *sender,
                      const char *recipient)
{
    char pair[2 * WORD_MAX];

    catch_up(journal);
    code_pair(sender, recipient, pair);
    return *find_slot(journal, NULL, pair) != NULL;
}

bool journal_was_taken(struct journal *journal,
                       const struct journal_message *message,
                       const char *recipient)
{
    char digest[DIGEST_HEX_SIZE];
    char pair[2 * WORD_MAX];

    catch_up(journal);
    digest_hex(message->digest, digest);
    code_pair(message->sender, recipient, pair);
    return *find_slot(journal, digest, pair) != NULL;
}

bool journal_is_under_way(struct journal *journal,
                          const struct journal_message *message)
{
    char digest[DIGEST_HEX_SIZE];
    const struct dot *d;

    catch_up(journal);
    digest_hex(message->digest, digest);
    d = find_dot(journal, digest);
    return d != NULL && d->time_s >= journal->clock() - DOT_SECONDS &&
           (kill(d->pid, 0) == 0 || errno != ESRCH);
}

size_t journal_open_count(const struct journal *journal)
{
    return journal->entry_count;
}

const char *journal_folder(const struct journal *journal)
{
    return journal->folder;
}
