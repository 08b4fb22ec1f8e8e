/*
 * A line of mailhaul's log, taken apart, and told in plain words. Pure.
 *
 *   2026-03-01T12:00:00.123Z login[17] info session end session=8a-1 ip=...
 */
#ifndef CLI_TRACE_LINE_H
#define CLI_TRACE_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_LINE_MAX  2304
#define TRACE_VALUE_MAX 1024

struct trace_line {
    int64_t at; /* Unix ms */
    char role[32];
    char session[64]; /* "" : none */
    int mail;         /* of the session; 0: about none */
    const char *text; /* behind the level; borrowed from the line */
};

/* False if it is no line of ours. line ends with NUL, without LF. */
bool trace_line_parse(const char *line, struct trace_line *out);

/* The value of key in text, without its quotes or angle brackets; false if it
   is not there. */
bool trace_line_value(const char *text, const char *key,
                      char out[TRACE_VALUE_MAX]);

/* Whether it is about this address: as user, sender, recipient, or account. */
bool trace_line_names(const struct trace_line *line, const char *address);

/* All keys and values as JSON. New reference. */
json_t *trace_line_fields(const struct trace_line *line);

/* What it tells, for people. */
void trace_line_tell(const struct trace_line *line, char *out, size_t size);

#endif
