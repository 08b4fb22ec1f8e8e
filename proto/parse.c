#include "proto/parse.h"

#include <string.h>
#include <strings.h>

bool slice_is(struct slice s, const char *text)
{
    return s.length == strlen(text) &&
           strncasecmp(s.bytes, text, s.length) == 0;
}

struct slice slice_next_word(struct slice *rest)
{
    struct slice word = {"", 0};
    size_t i = 0;

    if (rest->length == 0)
        return word; /* there may be no bytes at all */
    while (i < rest->length && rest->bytes[i] == ' ')
        i++;
    word.bytes = rest->bytes + i;
    while (i < rest->length && rest->bytes[i] != ' ')
        i++;
    word.length = (size_t)(rest->bytes + i - word.bytes);
    rest->bytes += i;
    rest->length -= i;
    return word;
}
