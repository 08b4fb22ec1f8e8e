/*
 * Reading a Maildir++ (see the header). Owns the lists it returns.
 */
#include "migrator/maildir_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "migrator/source.h"

#define PATH_SIZE 4096

/* ---- names and lines ---- */

/* The number behind ",S=" or the like, -1 none. */
static int64_t name_number(const char *name, const char *key)
{
    const char *at = strstr(name, key);
    char *end;
    long long value;

    if (at == NULL)
        return -1;
    value = strtoll(at + strlen(key), &end, 10);
    return end == at + strlen(key) || value < 0 ? -1 : value;
}

static size_t base_length(const char *name)
{
    return strcspn(name, ":");
}

void maildir_parse_name(const char *name, struct maildir_message *out)
{
    static const char system_flags[] = "DFRST";
    const char *flags = strstr(name, ":2,");
    unsigned uidvalidity, uid = 0, hash;
    int end = 0;
    const char *dot = strchr(name, '.');

    out->flags = 0;
    out->letters = 0;
    out->size = name_number(name, ",S=");
    out->vsize = name_number(name, ",W=");
    out->is_copied = dot != NULL &&
                     sscanf(dot, ".V%uU%uF%x.mailhaul,%n", &uidvalidity, &uid,
                            &hash, &end) == 3 &&
                     end > 0 && uid == out->uid;
    for (flags = flags != NULL ? flags + 3 : ""; *flags != '\0'; flags++) {
        const char *system_flag = strchr(system_flags, *flags);

        if (*flags >= 'a' && *flags <= 'z')
            out->letters |= 1u << (*flags - 'a');
        else if (system_flag != NULL)
            out->flags |= (uint8_t)(1 << (system_flag - system_flags));
    }
}

bool maildir_parse_record(char *line, struct maildir_message *out,
                          const char **base_out)
{
    char *at;
    unsigned long uid = strtoul(line, &at, 10);

    memset(out, 0, sizeof *out);
    if (line[0] < '1' || line[0] > '9' || uid > UINT32_MAX)
        return false;
    out->uid = (uint32_t)uid;
    while (*at == ' ') {
        char *word = ++at, *end;

        if (*word == ':') {
            *base_out = word + 1;
            return word[1] != '\0';
        }
        end = word + strcspn(word, " ");
        if (*end == '\0')
            break;
        *end = '\0';
        at = end;
        if (*word == 'P') {
            free(out->uidl);
            out->uidl = mem_dup_text(word + 1);
        } else if (*word == 'O') {
            out->order = (uint32_t)strtoul(word + 1, NULL, 10);
        }
        *end = ' ';
    }
    free(out->uidl);
    out->uidl = NULL;
    return false;
}

/* ---- a folder ---- */

struct listed {
    char *base; /* owned */
    struct maildir_message message;
    bool has_file;
};

struct reading {
    struct maildir_folder *folder;
    struct listed *listed; /* owned */
    size_t listed_count, listed_size;
    size_t size; /* of folder->messages */
};

static void add_message(struct reading *r, const struct maildir_message *m)
{
    struct maildir_folder *f = r->folder;

    if (f->count == r->size) {
        r->size = r->size * 2 + 256;
        f->messages = mem_grow(f->messages, r->size * sizeof *f->messages);
    }
    f->messages[f->count++] = *m;
}

static void add_listed(struct reading *r, const struct maildir_message *m,
                       const char *base)
{
    if (r->listed_count == r->listed_size) {
        r->listed_size = r->listed_size * 2 + 256;
        r->listed = mem_grow(r->listed, r->listed_size * sizeof *r->listed);
    }
    r->listed[r->listed_count].base = mem_dup_text(base);
    r->listed[r->listed_count].base[base_length(base)] = '\0';
    r->listed[r->listed_count].has_file = false;
    r->listed[r->listed_count++].message = *m;
}

static void read_header(struct maildir_folder *f, const char *line)
{
    unsigned version, uidvalidity, uidnext;

    if (sscanf(line, "%u V%u N%u", &version, &uidvalidity, &uidnext) != 3 ||
        version != 3)
        return;
    f->has_list = true;
    f->uidvalidity = uidvalidity;
    f->uidnext = uidnext;
}

static int read_list(struct reading *r, struct err *err)
{
    char path[PATH_SIZE], *line = NULL;
    size_t size = 0;
    ssize_t length;
    FILE *file;

    snprintf(path, sizeof path, "%s/dovecot-uidlist", r->folder->path);
    file = fopen(path, "re");
    if (file == NULL && errno == ENOENT)
        return 0;
    if (file == NULL)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    if ((length = getline(&line, &size, file)) > 0)
        read_header(r->folder, line);
    while (r->folder->has_list && (length = getline(&line, &size, file)) > 0) {
        struct maildir_message m;
        const char *base;

        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (maildir_parse_record(line, &m, &base))
            add_listed(r, &m, base);
    }
    free(line);
    fclose(file);
    return 0;
}

static int compare_listed(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;

    return strcmp(x->base, y->base);
}

static void take_file(struct reading *r, const char *name, bool is_new)
{
    struct listed key = {.base = mem_dup_text(name)}, *found = NULL;
    struct maildir_message m = {0};

    key.base[base_length(name)] = '\0';
    if (r->listed_count > 0)
        found = bsearch(&key, r->listed, r->listed_count, sizeof *r->listed,
                        compare_listed);
    free(key.base);
    if (found != NULL && !found->has_file) {
        found->has_file = true;
        m = found->message; /* with its uidl */
    }
    m.name = mem_dup_text(name);
    m.is_new = is_new;
    maildir_parse_name(name, &m);
    add_message(r, &m);
}

/* 0 also if it is not there. */
static int read_directory(struct reading *r, const char *name, struct err *err)
{
    char path[PATH_SIZE];
    struct dirent *entry;
    DIR *list;

    snprintf(path, sizeof path, "%s/%s", r->folder->path, name);
    list = opendir(path);
    if (list == NULL)
        return errno == ENOENT
                   ? 0
                   : err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    while ((entry = readdir(list)) != NULL)
        if (entry->d_name[0] != '.')
            take_file(r, entry->d_name, strcmp(name, "new") == 0);
    closedir(list);
    return 0;
}

static int compare_uid(const void *a, const void *b)
{
    const struct maildir_message *x = a, *y = b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* Records whose file is gone are no messages. */
static void release_listed(struct reading *r)
{
    for (size_t i = 0; i < r->listed_count; i++) {
        free(r->listed[i].base);
        if (!r->listed[i].has_file)
            free(r->listed[i].message.uidl);
    }
    free(r->listed);
}

static void read_keywords(struct maildir_folder *f)
{
    char path[PATH_SIZE], *line = NULL, *end;
    size_t size = 0;
    ssize_t length;
    FILE *file;

    snprintf(path, sizeof path, "%s/dovecot-keywords", f->path);
    file = fopen(path, "re");
    while (file != NULL && (length = getline(&line, &size, file)) > 0) {
        unsigned long index = strtoul(line, &end, 10);

        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (end == line || *end != ' ' || index >= MAILDIR_KEYWORDS)
            continue;
        free(f->keywords[index]);
        f->keywords[index] = mem_dup_text(end + 1);
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

int maildir_read(const char *root, const char *directory,
                 struct maildir_folder *out, struct err *err)
{
    struct reading r = {.folder = out};
    char path[PATH_SIZE];
    struct stat st;
    int result;

    memset(out, 0, sizeof *out);
    if ((size_t)snprintf(path, sizeof path, "%s%s%s", root,
                         directory[0] != '\0' ? "/" : "",
                         directory) >= sizeof path - 300)
        return err_set(err, ERR_SETUP, "path of the Maildir too long");
    if (stat(path, &st) == -1 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_ITEM, "%s is not there", path);
    out->path = mem_dup_text(path);
    result = read_list(&r, err);
    if (r.listed_count > 0)
        qsort(r.listed, r.listed_count, sizeof *r.listed, compare_listed);
    if (result == 0)
        result = read_directory(&r, "cur", err);
    if (result == 0)
        result = read_directory(&r, "new", err);
    release_listed(&r);
    if (out->count > 0)
        qsort(out->messages, out->count, sizeof *out->messages, compare_uid);
    read_keywords(out);
    if (result == -1)
        maildir_folder_release(out);
    return result;
}

void maildir_folder_release(struct maildir_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++) {
        free(folder->messages[i].name);
        free(folder->messages[i].uidl);
    }
    for (size_t i = 0; i < MAILDIR_KEYWORDS; i++)
        free(folder->keywords[i]);
    free(folder->messages);
    free(folder->path);
    memset(folder, 0, sizeof *folder);
}

const struct maildir_message *maildir_find(const struct maildir_folder *folder,
                                           uint32_t uid)
{
    struct maildir_message key = {.uid = uid};

    if (folder->count == 0 || uid == 0)
        return NULL;
    return bsearch(&key, folder->messages, folder->count,
                   sizeof *folder->messages, compare_uid);
}

static int open_in(const struct maildir_folder *folder, const char *directory,
                   const char *name)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof path, "%s/%s/%s", folder->path, directory, name);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* The file that now has this base name. */
static int open_renamed(const struct maildir_folder *folder, const char *name)
{
    size_t length = base_length(name);
    char path[PATH_SIZE];
    struct dirent *entry;
    int fd = -1;
    DIR *list;

    snprintf(path, sizeof path, "%s/cur", folder->path);
    list = opendir(path);
    while (list != NULL && fd == -1 && (entry = readdir(list)) != NULL)
        if (base_length(entry->d_name) == length &&
            strncmp(entry->d_name, name, length) == 0)
            fd = open_in(folder, "cur", entry->d_name);
    if (list != NULL)
        closedir(list);
    return fd;
}

int maildir_open_message(const struct maildir_folder *folder,
                         const struct maildir_message *message)
{
    int fd = open_in(folder, message->is_new ? "new" : "cur", message->name);

    return fd != -1 ? fd : open_renamed(folder, message->name);
}

/* ---- lists of names ---- */

static void add_name(char ***names, size_t *count, const char *name)
{
    *names = mem_grow(*names, (*count + 1) * sizeof **names);
    (*names)[(*count)++] = mem_dup_text(name);
}

void maildir_names_free(char ***names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

int maildir_list(const char *root, char ***names_out, size_t *count_out,
                 struct err *err)
{
    struct dirent *entry;
    DIR *list = opendir(root);

    *names_out = NULL;
    *count_out = 0;
    if (list == NULL)
        return err_set(err, errno == ENOENT ? ERR_ITEM : ERR_SETUP, "%s: %s",
                       root, strerror(errno));
    while ((entry = readdir(list)) != NULL) {
        char path[PATH_SIZE];
        struct stat st;

        snprintf(path, sizeof path, "%s/%s/cur", root, entry->d_name);
        if (entry->d_name[0] == '.' && entry->d_name[1] != '\0' &&
            strcmp(entry->d_name, "..") != 0 && stat(path, &st) == 0)
            add_name(names_out, count_out, entry->d_name);
    }
    closedir(list);
    return 0;
}

int maildir_subscriptions(const char *root, char ***names_out,
                          size_t *count_out, struct err *err)
{
    char path[PATH_SIZE], *line = NULL;
    bool is_version_2 = false, is_first = true;
    size_t size = 0;
    ssize_t length;
    FILE *file;

    *names_out = NULL;
    *count_out = 0;
    snprintf(path, sizeof path, "%s/subscriptions", root);
    file = fopen(path, "re");
    if (file == NULL && errno == ENOENT)
        return 0;
    if (file == NULL)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    while ((length = getline(&line, &size, file)) > 0) {
        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (is_first && strncmp(line, "V\t2", 3) == 0)
            is_version_2 = true;
        else if (line[0] != '\0')
            add_name(names_out, count_out, line);
        /* version 1 sets the parts apart as Maildir++ does */
        for (char *c = line; !is_version_2 && *count_out > 0 && *c; c++)
            if (*c == '.')
                (*names_out)[*count_out - 1][c - line] = '\t';
        is_first = false;
    }
    free(line);
    fclose(file);
    return 0;
}
