/*
 * The trace of a message: the lines that we put in front of it, and how often
 * it has been through here already. Pure but for the date.
 */
#ifndef SMTP_PROXY_TRACE_H
#define SMTP_PROXY_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/buf.h"

#define TRACE_RECEIVED_MAX 100 /* RFC 5321 6.3: at least 100 */
/* A message may come through here twice by right (legacy forwards it to a user
   who has moved); a third time it is circling. */
#define TRACE_HOP_MAX  2
#define TRACE_LINE_MAX 300
#define TRACE_ID_MAX   256

struct trace {
    const char *node; /* borrowed */
    unsigned received_count;
    unsigned hop_count; /* of our own hop lines */
    bool is_in_headers;
    char line[TRACE_LINE_MAX]; /* start of the header line being read */
    size_t used;
    bool awaits_message_id;        /* the field's body is on its next line */
    char message_id[TRACE_ID_MAX]; /* "<...>", cut; "" : none so far */
};

void trace_init(struct trace *trace, const char *node);

/* Read text as smtp_data.h makes it, in any split. */
void trace_read(struct trace *trace, const char *bytes, size_t length);

/* 554 5.4.6 is due. */
bool trace_is_loop(const struct trace *trace);

struct trace_origin {
    const char *hello;   /* as the client said it; made safe here */
    const char *address; /* numeric */
    const char *with;    /* "ESMTPS", ... (RFC 3848) */
    const char *id;
    time_t now;
};

/* The Received line and the hop line. */
void trace_write(const struct trace *trace, const struct trace_origin *origin,
                 struct buf *out);

#define TRACE_GREETING_MAX 300

/* The text of this node's greeting. A hop that greets so is the node itself:
   asking it for a recipient would ask us, and so on without end. */
void trace_greeting(const char *node, bool is_lmtp,
                    char out[TRACE_GREETING_MAX]);

#endif
