#include "base/log.h"

#include "base/log_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define SAFE_MAX       128
#define SAFE_TURNS     4

static const char *const level_name[] = {
    "error", "warn", "info", "debug", "trace",
};
_Static_assert(sizeof level_name / sizeof *level_name == LOG_LEVEL_COUNT,
               "one name for each level");

static const int syslog_priority[] = {
    LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_DEBUG,
};

/* One log a process, as there is one stderr. */
static struct {
    enum log_level level;
    const char *role;
    int fd;
    bool to_syslog;
    char path[1024]; /* "" : not a file */
} the_log = {LOG_LEVEL_INFO, "mailhaul", STDERR_FILENO, false, ""};

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

int log_open(const char *to, enum log_level level, const char *role,
             struct err *err)
{
    int fd = STDERR_FILENO;
    bool is_syslog = strcmp(to, "syslog") == 0;
    bool is_file = !is_syslog && strcmp(to, "stderr") != 0;

    if (is_file) {
        if (strlen(to) >= sizeof the_log.path)
            return err_set(err, ERR_SETUP, "log file name too long");
        fd = open_file(to);
        if (fd == -1)
            return err_set(err, ERR_SETUP, "%s: %s", to, strerror(errno));
    }
    if (the_log.fd != STDERR_FILENO)
        close(the_log.fd);
    if (is_syslog)
        openlog("mailhaul", LOG_NDELAY, LOG_MAIL);
    snprintf(the_log.path, sizeof the_log.path, "%s", is_file ? to : "");
    the_log.fd = fd;
    the_log.to_syslog = is_syslog;
    the_log.level = level;
    the_log.role = role;
    return 0;
}

void log_reopen(void)
{
    int fd;

    if (the_log.path[0] == '\0')
        return;
    fd = open_file(the_log.path);
    if (fd == -1) {
        log_error("log reopen failed file=%s error=%s", the_log.path,
                  strerror(errno));
        return;
    }
    close(the_log.fd);
    the_log.fd = fd;
}

int log_level_named(const char *name)
{
    int i;

    for (i = 0; i < LOG_LEVEL_COUNT; i++)
        if (strcmp(name, level_name[i]) == 0)
            return i;
    return -1;
}

bool log_enabled(enum log_level level)
{
    return level <= the_log.level;
}

static size_t put_time(char *out, size_t size)
{
    struct timespec now;
    struct tm parts;
    size_t used;
    int n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    used = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    n = snprintf(out + used, size - used, ".%03ldZ ", now.tv_nsec / 1000000);
    return used + (n > 0 ? (size_t)n : 0);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    int saved_errno = errno;
    va_list args;
    size_t used, body, i;
    int n;

    if (!log_enabled(level) && level > LOG_LEVEL_INFO)
        return;
    body = used = put_time(line, sizeof line);
    n = snprintf(line + used, sizeof line - used, "%s[%d] %s ", the_log.role,
                 (int)getpid(), level_name[level]);
    used = smaller(used + (size_t)(n > 0 ? n : 0), sizeof line - 2);
    va_start(args, format);
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used = smaller(used + (size_t)(n > 0 ? n : 0), sizeof line - 2);
    /* whatever slipped in, a line stays one line */
    for (i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[used] = '\n';
    if (level <= LOG_LEVEL_INFO)
        log_keep_line(line, used + 1);
    if (log_enabled(level) && the_log.to_syslog) {
        syslog(syslog_priority[level], "%.*s", (int)(used - body),
               line + body); /* it has a clock of its own */
    } else if (log_enabled(level)) {
        if (write(the_log.fd, line, used + 1) == -1) {
            /* there is no second place to say so */
        }
    }
    errno = saved_errno;
}

const char *log_safe(const char *text)
{
    static char turns[SAFE_TURNS][SAFE_MAX * 4 + 4];
    static unsigned next;
    static const char hex[] = "0123456789abcdef";
    char *out = turns[next++ % SAFE_TURNS], *p = out;
    size_t i;

    if (text == NULL)
        text = "";
    for (i = 0; text[i] != '\0' && i < SAFE_MAX; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\') {
            *p++ = '\\';
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        } else {
            *p++ = (char)c;
        }
    }
    *p = '\0';
    return out;
}
