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

/* ---- as a client shows it ---- */

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == ',' ? 63 : -1;
}

/* The bytes of a character in UTF-8; how many. */
static size_t encode(unsigned code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* One run behind its '&', up to and with its '-', into out; its length there.
   0: it is none, or there is no room. */
static size_t decode_run(const char **at, char *out, size_t room)
{
    unsigned bits = 0, count = 0, high = 0;
    const char *from = *at;
    size_t used = 0;
    int value;

    for (; (value = digit_value(*from)) != -1; from++) {
        unsigned unit;

        bits = (bits << 6 | (unsigned)value) & 0x3fffff;
        count += 6;
        if (count < 16)
            continue;
        count -= 16;
        unit = bits >> count & 0xffff;
        if (unit >= 0xd800 && unit < 0xdc00 && high == 0) {
            high = unit;
            continue;
        }
        if ((unit >= 0xd800 && unit < 0xe000) != (high != 0) || unit < 0x20 ||
            room - used < 4)
            return 0;
        if (high != 0)
            unit = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
        high = 0;
        used += encode(unit, out + used);
    }
    if (*from != '-' || high != 0 || used == 0)
        return 0;
    *at = from + 1;
    return used;
}

void folder_shown(const char *name, char *out, size_t size)
{
    size_t used = 0;

    while (*name != '\0' && used + 5 < size) {
        size_t decoded = 0;

        if (name[0] == '&' && name[1] == '-') {
            out[used++] = '&';
            name += 2;
            continue;
        }
        if (name[0] == '&') {
            const char *run = name + 1;

            decoded = decode_run(&run, out + used, size - used - 1);
            if (decoded > 0)
                name = run;
        }
        if (decoded == 0)
            out[used++] = *name++;
        used += decoded;
    }
    out[used] = '\0';
}

void folder_path(const char *name, char separator, const char *prefix,
                 char *out, size_t size)
{
    const char *below = strip_prefix(name, prefix);

    folder_shown(below != NULL && *below != '\0' ? below : name, out, size);
    for (char *at = out; separator != '\0' && *at != '\0'; at++)
        if (*at == separator)
            *at = '/';
}
