#include "base/log_keep.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define HOUR_SECONDS 3600
#define LOOK_EVERY   256 /* lines between two looks whether our file is there */

static struct {
    char *folder; /* owned for ever; NULL: nothing is kept */
    int fd;
    time_t hour; /* of fd */
    unsigned lines;
} keep = {NULL, -1, 0, 0};

void log_keep_name(time_t at, char out[LOG_KEEP_NAME_MAX])
{
    struct tm parts;

    gmtime_r(&at, &parts);
    strftime(out, LOG_KEEP_NAME_MAX, "%Y-%m-%dT%H.log", &parts);
}

time_t log_keep_hour(const char *name)
{
    struct tm parts = {0};
    const char *end = strptime(name, "%Y-%m-%dT%H", &parts);

    if (end == NULL || strcmp(end, ".log") != 0)
        return -1;
    return timegm(&parts);
}

void log_keep(const char *folder)
{
    if (keep.folder == NULL)
        keep.folder = mem_dup_text(folder);
    mkdir(folder, 0750);
}

/* A new hour; or the file has been removed, since there was too much. */
static void open_file(time_t hour)
{
    char name[LOG_KEEP_NAME_MAX];
    char path[1200];

    if (keep.fd != -1)
        close(keep.fd);
    log_keep_name(hour, name);
    snprintf(path, sizeof(path), "%s/%s", keep.folder, name);
    keep.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    keep.hour = hour;
    keep.lines = 0;
}

void log_keep_line(const char *line, size_t length)
{
    time_t now, hour;
    struct stat st;

    if (keep.folder == NULL)
        return;
    now = time(NULL);
    hour = now - now % HOUR_SECONDS;
    if (keep.fd == -1 || hour != keep.hour ||
        (++keep.lines % LOOK_EVERY == 0 &&
         (fstat(keep.fd, &st) == -1 || st.st_nlink == 0)))
        open_file(hour);
    if (keep.fd != -1 && write(keep.fd, line, length) == -1) {
        /* no room: this line is not kept, and it is in the log */
    }
}

/* The oldest of our files; all_bytes_out: of all of them. False: none. */
static bool find_oldest(const char *folder, char out[LOG_KEEP_NAME_MAX],
                        uint64_t *all_bytes_out)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    time_t oldest = -1;
    struct stat st;

    *all_bytes_out = 0;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        time_t hour = log_keep_hour(entry->d_name);

        if (hour == -1 || fstatat(dirfd(dir), entry->d_name, &st, 0) == -1)
            continue;
        *all_bytes_out += (uint64_t)st.st_size;
        if (oldest != -1 && hour >= oldest)
            continue;
        oldest = hour;
        snprintf(out, LOG_KEEP_NAME_MAX, "%.31s", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return oldest != -1;
}

void log_keep_prune(const char *folder, unsigned days, uint64_t max_bytes)
{
    time_t since = time(NULL) - (time_t)days * 24 * HOUR_SECONDS;
    char name[LOG_KEEP_NAME_MAX];
    char path[1200];
    uint64_t bytes;

    while (find_oldest(folder, name, &bytes)) {
        if (log_keep_hour(name) + HOUR_SECONDS > since && bytes <= max_bytes)
            return;
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        if (unlink(path) == -1)
            return;
    }
}
