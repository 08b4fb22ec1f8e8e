#include "proto/quote.h"

#define QUOTED_MAX 800

bool quote_is_possible(const char *bytes, size_t length)
{
    if (length > QUOTED_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if (c == '\0' || c == '\r' || c == '\n' || c >= 0x80)
            return false;
    }
    return true;
}

int quote_append(struct buf *out, const char *bytes, size_t length)
{
    int result = buf_append(out, "\"", 1);

    for (size_t i = 0; i < length && result == 0; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\')
            result = buf_append(out, "\\", 1);
        if (result == 0)
            result = buf_append(out, bytes + i, 1);
    }
    return result == 0 ? buf_append(out, "\"", 1) : -1;
}

int quote_append_literal(struct buf *out, size_t length, bool wait_for_server)
{
    return buf_printf(out, "{%zu%s}\r\n", length, wait_for_server ? "" : "+");
}
