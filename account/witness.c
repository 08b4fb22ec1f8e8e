#include "account/witness.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/domain_settings.h"
#include "base/mem.h"

#define FIELDS_MAX 12
#define TAIL       65536

int witness_base(const struct conf *conf, char *out, size_t size,
                 struct err *err)
{
    const char *path = conf->store.path;
    size_t length = path == NULL ? 0 : strcspn(path, "{");

    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length < 2 || length > size)
        return err_set(err, ERR_SETUP,
                       "store.path: no directory that all mailboxes share");
    memcpy(out, path, length - 1);
    out[length - 1] = '\0';
    return 0;
}

int witness_path(const struct conf *conf, char *out, size_t size,
                 struct err *err)
{
    char base[PATH_MAX];
    int length;

    if (witness_base(conf, base, sizeof(base), err) == -1)
        return -1;
    length =
        snprintf(out, size, "%s/" WITNESS_DIRECTORY "/" WITNESS_FILE, base);
    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "store.path: is too long");
    return 0;
}

/* --- lines */

static uint64_t sum_of(const char *text, size_t length) /* FNV-1a */
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)text[i]) * 1099511628211u;
    return sum;
}

struct line {
    char *text; /* borrowed; WITNESS_LINE_MAX bytes */
    size_t used;
    bool is_too_long;
};

static void put(struct line *l, const char *text)
{
    size_t length = strlen(text);

    if (l->used + length >= WITNESS_LINE_MAX) {
        l->is_too_long = true;
        return;
    }
    memcpy(l->text + l->used, text, length + 1);
    l->used += length;
}

static void put_number(struct line *l, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), " %lld", (long long)value);
    put(l, text);
}

/* "=" and the text without spaces and controls; "-" for none. */
static void put_text(struct line *l, const char *text)
{
    char escaped[4];

    put(l, text == NULL ? " -" : " =");
    for (const char *c = text; c != NULL && *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        bool is_plain = byte > ' ' && byte != '%' && byte != 0x7f;

        snprintf(escaped, sizeof(escaped), is_plain ? "%c" : "%%%02x", byte);
        put(l, escaped);
    }
}

static size_t end_line(struct line *l)
{
    char sum[24];

    snprintf(sum, sizeof(sum), " %016llx\n",
             (unsigned long long)sum_of(l->text, l->used));
    put(l, sum);
    return l->is_too_long ? 0 : l->used;
}

size_t witness_format(const struct witness *w, int64_t top,
                      char out[WITNESS_LINE_MAX])
{
    struct line l = {.text = out};

    put(&l, "w1");
    put_number(&l, top);
    put_number(&l, w->generation);
    put_number(&l, w->epoch);
    put(&l, " ");
    put(&l, account_route_name(w->route));
    put_number(&l, w->at);
    put_text(&l, w->address);
    put_text(&l, w->legacy_user);
    put_text(&l, w->has_prefix ? w->prefix : NULL);
    put_text(&l, w->has_prefix ? w->separator : NULL);
    return end_line(&l);
}

size_t witness_format_domain(const struct domain *d, bool is_gone, int64_t top,
                             char out[WITNESS_LINE_MAX])
{
    struct line l = {.text = out};
    char *settings = is_gone ? NULL : domain_settings_write(d);

    put(&l, "d1");
    put_number(&l, top);
    put_text(&l, d->name);
    put_text(&l, settings);
    free(settings);
    return end_line(&l);
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A field of put_text() as it was, in its place; NULL for "-". */
static char *take_text(char *field)
{
    char *from = field + 1, *to = field;

    if (field[0] != '=')
        return NULL;
    while (*from != '\0') {
        if (from[0] == '%' && hex_of(from[1]) >= 0 && hex_of(from[2]) >= 0) {
            *to++ = (char)(hex_of(from[1]) << 4 | hex_of(from[2]));
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return field;
}

/* Cut a whole line into its fields; 0 if it is torn. */
static unsigned split(char *line, char *fields[FIELDS_MAX])
{
    size_t length = strcspn(line, "\n");
    unsigned count = 0;
    char *sum, *end;

    line[length] = '\0';
    sum = strrchr(line, ' ');
    if (sum == NULL || strlen(sum) != 17 ||
        strtoull(sum + 1, &end, 16) != sum_of(line, (size_t)(sum - line)) ||
        *end != '\0')
        return 0;
    *sum = '\0';
    for (char *at = line; at != NULL && count < FIELDS_MAX; count++) {
        fields[count] = at;
        at = strchr(at, ' ');
        if (at != NULL)
            *at++ = '\0';
    }
    return count;
}

static bool copy(char *to, size_t size, const char *text)
{
    size_t length = text == NULL ? 0 : strlen(text);

    if (length >= size)
        return false;
    memcpy(to, text == NULL ? "" : text, length);
    to[length] = '\0';
    return true;
}

static bool read_account(char *fields[FIELDS_MAX], unsigned count,
                         struct witness *out)
{
    int route = count == 10 ? account_route_named(fields[4]) : -1;
    char *prefix, *separator;

    if (route == -1 || route == ROUTE_HELD)
        return false;
    memset(out, 0, sizeof(*out));
    out->generation = strtoll(fields[2], NULL, 10);
    out->epoch = strtoll(fields[3], NULL, 10);
    out->route = (enum account_route)route;
    out->at = strtoll(fields[5], NULL, 10);
    prefix = take_text(fields[8]);
    separator = take_text(fields[9]);
    out->has_prefix = prefix != NULL && separator != NULL;
    return copy(out->address, sizeof(out->address), take_text(fields[6])) &&
           out->address[0] != '\0' &&
           copy(out->legacy_user, sizeof(out->legacy_user),
                take_text(fields[7])) &&
           copy(out->prefix, sizeof(out->prefix), prefix) &&
           copy(out->separator, sizeof(out->separator), separator);
}

bool witness_parse(char *line, struct witness *out)
{
    char *fields[FIELDS_MAX];
    unsigned count = split(line, fields);

    return count > 0 && strcmp(fields[0], "w1") == 0 &&
           read_account(fields, count, out);
}

/* --- the file */

int witness_append(int fd, const char *text, size_t length, struct err *err)
{
    char last = '\n';
    struct stat st;
    ssize_t done;

    if (fstat(fd, &st) == -1 ||
        (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1))
        return err_set(err, err_kind_of_errno(errno), "witness journal: %s",
                       strerror(errno));
    if (last != '\n' && write(fd, "\n", 1) != 1)
        return err_set(err, err_kind_of_errno(errno), "witness journal: %s",
                       strerror(errno));
    done = write(fd, text, length);
    if (done == (ssize_t)length && fdatasync(fd) == 0)
        return 0;
    if (done >= 0 && done < (ssize_t)length)
        errno = ENOSPC;
    return err_set(err, err_kind_of_errno(errno), "witness journal: %s",
                   strerror(errno));
}

/* The latest generation that a line of this text tells of, from its end. */
static bool last_top(char *text, size_t length, int64_t *top_out)
{
    char *fields[FIELDS_MAX];

    while (length > 0) {
        size_t start;

        if (text[length - 1] != '\n') { /* torn, or the tail's first line */
            length--;
            continue;
        }
        text[length - 1] = '\0';
        start = length - 1;
        while (start > 0 && text[start - 1] != '\n')
            start--;
        if (split(text + start, fields) >= 2) {
            *top_out = strtoll(fields[1], NULL, 10);
            return true;
        }
        length = start;
    }
    return false;
}

int witness_last(int fd, int64_t *generation_out, struct err *err)
{
    char *tail;
    struct stat st;
    off_t from;
    size_t wanted = TAIL;
    ssize_t got = 0;
    bool is_found = false;

    *generation_out = 0;
    if (fstat(fd, &st) == -1)
        return err_set(err, ERR_SETUP, "witness journal: %s", strerror(errno));
    do {
        from = st.st_size > (off_t)wanted ? st.st_size - (off_t)wanted : 0;
        tail = mem_alloc(wanted + 1);
        got = pread(fd, tail, wanted, from);
        if (got > 0)
            is_found = last_top(tail, (size_t)got, generation_out);
        free(tail);
        wanted *= 16;
    } while (!is_found && from > 0 && got > 0 && wanted < (256u << 20));
    if (got == -1)
        return err_set(err, ERR_SETUP, "witness journal: %s", strerror(errno));
    return 0;
}

static int read_domain(char *fields[FIELDS_MAX], unsigned count,
                       struct witness_reader *reader, struct err *err)
{
    struct domain d;
    char *name, *settings;

    if (count != 4 || (name = take_text(fields[2])) == NULL)
        return 0;
    settings = take_text(fields[3]);
    memset(&d, 0, sizeof(d));
    if (settings != NULL && !domain_settings_read(settings, &d))
        return 0;
    if (!copy(d.name, sizeof(d.name), name) || reader->domain == NULL)
        return 0;
    return reader->domain(reader->ctx, &d, settings == NULL, err);
}

static int read_line(char *line, struct witness_reader *reader, struct err *err)
{
    char *fields[FIELDS_MAX];
    unsigned count = split(line, fields);
    struct witness w;
    int64_t top;

    if (count < 2) {
        reader->torn++;
        return 0;
    }
    top = strtoll(fields[1], NULL, 10);
    if (top > reader->top)
        reader->top = top;
    if (strcmp(fields[0], "d1") == 0)
        return read_domain(fields, count, reader, err);
    if (strcmp(fields[0], "w1") != 0 || !read_account(fields, count, &w))
        return 0; /* of a later version */
    reader->records++;
    return reader->account(reader->ctx, &w, err);
}

int witness_read(int fd, struct witness_reader *reader, struct err *err)
{
    int own = dup(fd), result = 0;
    FILE *file = own == -1 ? NULL : fdopen(own, "r");
    char *line = NULL;
    size_t size = 0;

    reader->records = reader->torn = reader->top = 0;
    if (file == NULL || fseeko(file, 0, SEEK_SET) == -1)
        result =
            err_set(err, ERR_SETUP, "witness journal: %s", strerror(errno));
    while (result == 0 && getline(&line, &size, file) > 0)
        result = read_line(line, reader, err);
    if (result == 0 && ferror(file))
        result =
            err_set(err, ERR_SETUP, "witness journal: %s", strerror(errno));
    free(line);
    if (file != NULL)
        fclose(file);
    else if (own != -1)
        close(own);
    return result;
}
