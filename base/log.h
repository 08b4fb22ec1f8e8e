/*
 * The log: one line per outcome, "role[pid] level prefix event key=value ...".
 * Never give it a secret or the content of a message.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level {
    LOG_LEVEL_ERROR, /* an operator must act */
    LOG_LEVEL_WARN,  /* an operator may have to act */
    LOG_LEVEL_INFO,  /* one line per finished session, job or decision */
    LOG_LEVEL_DEBUG, /* state changes */
    LOG_LEVEL_TRACE, /* protocol lines, redacted */
    LOG_LEVEL_COUNT
};

/* Send the log to "stderr", "syslog" or a file (appended, one write a line).
   role is borrowed for ever ("login", "state", ...). Before this call lines go
   to stderr at level info. ERR_SETUP if the file cannot be opened. */
int log_open(const char *to, enum log_level level, const char *role,
             struct err *err);

/* Open the log file anew, after logrotate has moved it. */
void log_reopen(void);

/* -1 if there is no such level. */
int log_level_named(const char *name);

bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                         \
    do {                                                                       \
        if (log_enabled(LOG_LEVEL_DEBUG))                                      \
            log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                            \
    } while (0)
#define log_trace(...)                                                         \
    do {                                                                       \
        if (log_enabled(LOG_LEVEL_TRACE))                                      \
            log_line(LOG_LEVEL_TRACE, __VA_ARGS__);                            \
    } while (0)

/* Text from a peer made safe for a log line: control characters, quotes and
   8-bit bytes as \xNN, cut at 128 bytes. The result lives until the fourth
   next call. */
const char *log_safe(const char *text);

#endif
