#include "proto/smtp_data.h"

#include <string.h>

void smtp_data_init(struct smtp_data *data)
{
    data->state = DATA_LINE_START;
    data->size_bytes = 0;
}

bool smtp_data_is_done(const struct smtp_data *data)
{
    return data->state == DATA_END;
}

/* The writing end: reserved once for a whole chunk, so a byte costs no call. */
struct sink {
    char *at;
    uint64_t *size_bytes;
};

static void put(struct sink *s, char byte)
{
    *s->at++ = byte;
    (*s->size_bytes)++;
}

static enum smtp_data_state end_line(struct sink *s, enum smtp_data_state next)
{
    put(s, '\r');
    put(s, '\n');
    return next;
}

/* The first byte of a line. A dot that is text after a bare LF is stuffed: for
   the next server it stands at the start of a line. */
static enum smtp_data_state start_line(struct sink *s, char byte, bool is_bare)
{
    switch (byte) {
    case '\r': return DATA_START_CR;
    case '\n': return end_line(s, DATA_BARE_START);
    case '.':
        if (!is_bare)
            return DATA_DOT;
        *s->at++ = '.';
        put(s, '.');
        return DATA_LINE;
    default: put(s, byte); return DATA_LINE;
    }
}

static enum smtp_data_state go_on(struct sink *s, char byte)
{
    if (byte == '\r')
        return DATA_CR;
    if (byte == '\n')
        return end_line(s, DATA_BARE_START);
    put(s, byte);
    return DATA_LINE;
}

/* A CR was held back and byte is not its LF: it was bare. */
static enum smtp_data_state after_bare_cr(struct sink *s, char byte)
{
    put(s, ' ');
    return go_on(s, byte);
}

/* A dot began the line and the message did not end: RFC 5321 4.5.2 takes it
   away. Before a bare line end it is the text of a sender that does not stuff,
   and stays. */
static enum smtp_data_state after_dot(struct sink *s, char byte)
{
    if (byte == '.' || byte == '\n') {
        *s->at++ = '.';
        put(s, '.');
    }
    return byte == '.' ? DATA_LINE : go_on(s, byte);
}

static enum smtp_data_state after_dot_cr(struct sink *s, char byte)
{
    if (byte == '\n')
        return DATA_END;
    *s->at++ = '.';
    put(s, '.');
    return after_bare_cr(s, byte);
}

static enum smtp_data_state step(enum smtp_data_state state, struct sink *s,
                                 char byte)
{
    switch (state) {
    case DATA_LINE_START: return start_line(s, byte, false);
    case DATA_BARE_START: return start_line(s, byte, true);
    case DATA_LINE: return go_on(s, byte);
    case DATA_START_CR:
    case DATA_CR:
        if (byte == '\n')
            return end_line(s, DATA_LINE_START);
        return after_bare_cr(s, byte);
    case DATA_DOT: return byte == '\r' ? DATA_DOT_CR : after_dot(s, byte);
    case DATA_DOT_CR: return after_dot_cr(s, byte);
    case DATA_END: break;
    }
    return DATA_END;
}

size_t smtp_data_read(struct smtp_data *data, const char *bytes, size_t length,
                      struct buf *out)
{
    char *room = buf_reserve(out, 2 * length + 4);
    struct sink sink = {room, &data->size_bytes};
    size_t taken = 0;

    if (room == NULL)
        return 0;
    while (taken < length && data->state != DATA_END) {
        if (data->state == DATA_LINE) {
            const char *from = bytes + taken;
            size_t run = 0;

            while (taken + run < length && from[run] != '\r' &&
                   from[run] != '\n')
                run++;
            memcpy(sink.at, from, run);
            sink.at += run;
            data->size_bytes += run;
            taken += run;
            if (taken == length)
                break;
        }
        data->state = step(data->state, &sink, bytes[taken++]);
    }
    out->used += (size_t)(sink.at - room);
    return taken;
}
