#include "migrator/folder_name.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

struct writer {
    char *out;
    size_t used;
    bool is_full;
};

static void put(struct writer *w, char c)
{
    if (w->used + 1 >= FOLDER_DIRECTORY_SIZE)
        w->is_full = true;
    else
        w->out[w->used++] = c;
}

/* One character of UTF-8, or a byte of Latin-1 where it is none. */
static unsigned next_character(const char **at)
{
    const unsigned char *p = (const unsigned char *)*at;
    unsigned code = p[0];
    int more = code >= 0xf0 ? 3 : code >= 0xe0 ? 2 : code >= 0xc2 ? 1 : 0;

    if (more > 0)
        code &= 0x3fu >> more;
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            (*at)++;
            return p[0];
        }
        code = code << 6 | (p[i] & 0x3f);
    }
    *at += more + 1;
    return code;
}

/* RFC 3501 5.1.3: runs of 8-bit characters as &base64 of UTF-16- */
static void put_utf7(struct writer *w, const char **at)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    unsigned bits = 0, count = 0;

    put(w, '&');
    while ((unsigned char)**at >= 0x80) {
        unsigned code = next_character(at);
        unsigned units[2] = {code, 0};
        int unit_count = 1;

        if (code > 0xffff) {
            units[0] = 0xd800 + ((code - 0x10000) >> 10);
            units[1] = 0xdc00 + ((code - 0x10000) & 0x3ff);
            unit_count = 2;
        }
        for (int i = 0; i < unit_count; i++) {
            bits = (bits << 16 | units[i]) & 0x3fffff;
            count += 16;
            while (count >= 6) {
                put(w, digits[bits >> (count - 6) & 63]);
                count -= 6;
            }
        }
    }
    if (count > 0)
        put(w, digits[bits << (6 - count) & 63]);
    put(w, '-');
}

static bool must_escape(char c, bool is_first)
{
    return c == '.' || c == '/' || c == '\\' || (unsigned char)c < 0x20 ||
           c == 0x7f || (c == '~' && is_first);
}

/* The parts of the name with `between` between them. */
static int write_parts(struct writer *w, const char *name, char separator,
                       char between, struct err *err)
{
    bool is_part_start = true, is_first = true;

    for (const char *at = name; *at != '\0' && !w->is_full;) {
        char c = *at;

        if (separator != '\0' && c == separator) {
            if (is_part_start)
                return err_set(err, ERR_ITEM, "empty part in a folder name");
            put(w, between);
            is_part_start = true;
            at++;
            continue;
        }
        if ((unsigned char)c >= 0x80) {
            put_utf7(w, &at);
        } else if (must_escape(c, is_first)) {
            char hex[4];

            snprintf(hex, sizeof(hex), "\\%02x", (unsigned char)c);
            put(w, hex[0]);
            put(w, hex[1]);
            put(w, hex[2]);
            at++;
        } else {
            put(w, c);
            at++;
        }
        is_part_start = is_first = false;
    }
    if (w->is_full)
        return err_set(err, ERR_ITEM, "folder name too long");
    if (is_part_start)
        return err_set(err, ERR_ITEM, "empty part in a folder name");
    w->out[w->used] = '\0';
    return 0;
}

/* The name below the personal prefix; NULL: not there. */
static const char *strip_prefix(const char *name, const char *prefix)
{
    size_t length = strlen(prefix);

    if (strncmp(name, prefix, length) == 0)
        return name + length;
    /* "INBOX." is INBOX in any case (RFC 3501 5.1) */
    if (strncasecmp(prefix, "INBOX", 5) == 0 && length == 6 &&
        strncasecmp(name, prefix, length) == 0)
        return name + length;
    return NULL;
}

int folder_directory(const char *name, char separator, const char *prefix,
                     char out[FOLDER_DIRECTORY_SIZE], struct err *err)
{
    struct writer w = {.out = out};
    const char *below;

    out[0] = '\0';
    if (strcmp(name, "INBOX") == 0)
        return 0;
    below = strip_prefix(name, prefix);
    if (below == NULL)
        return err_set(err, ERR_ITEM, "%s is outside of the prefix",
                       log_safe(name));
    put(&w, '.');
    if (write_parts(&w, below, separator, '.', err) == -1)
        return err_prefix(err, "%s", log_safe(name));
    return 0;
}

int folder_subscription(const char *name, char separator, const char *prefix,
                        char out[FOLDER_DIRECTORY_SIZE], struct err *err)
{
    struct writer w = {.out = out};
    const char *below;

    if (strcmp(name, "INBOX") == 0) {
        memcpy(out, name, sizeof("INBOX"));
        return 0;
    }
    below = strip_prefix(name, prefix);
    if (below == NULL)
        return err_set(err, ERR_ITEM, "%s is outside of the prefix",
                       log_safe(name));
    return write_parts(&w, below, separator, '\t', err);
}

uint32_t folder_hash(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}
