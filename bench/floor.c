/*
 * The floor under every copy: one IMAP connection drains all folders, a minimal
 * writer puts each message into a file of its own, one syncfs at the end.
 *
 *   floor HOST PORT USER PASSWORD DIR|- [tls]     "-" drains to nowhere
 *
 * Speaks only to the Dovecot of the benchmark; judges nothing, keeps nothing
 * about a message but its bytes.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define FOLDERS_MAX    4096

struct reader {
    int fd;
    SSL *tls; /* NULL: in clear */
    char bytes[1 << 18];
    size_t at, end;
};

static struct reader in;
static char *folders[FOLDERS_MAX];
static int folder_count;
static uint64_t message_count, byte_count;

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void fill(void)
{
    ssize_t got = in.tls != NULL
                      ? SSL_read(in.tls, in.bytes, sizeof(in.bytes))
                      : read(in.fd, in.bytes, sizeof(in.bytes));

    if (got <= 0)
        die("read");
    in.at = 0;
    in.end = (size_t)got;
}

static const char *read_line(void)
{
    static char line[LINE_MAX_BYTES];
    size_t used = 0;

    for (;;) {
        if (in.at == in.end)
            fill();
        char c = in.bytes[in.at++];

        if (c == '\n')
            break;
        if (used < sizeof(line) - 1)
            line[used++] = c;
    }
    while (used > 0 && line[used - 1] == '\r')
        used--;
    line[used] = '\0';
    return line;
}

static void say(const char *format, const char *a, const char *b)
{
    char line[4096];
    int length = snprintf(line, sizeof(line), format, a, b);

    if (in.tls != NULL ? SSL_write(in.tls, line, length) != length
                       : write(in.fd, line, (size_t)length) != length)
        die("write");
}

static void write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = write(fd, bytes, length);

        if (put <= 0)
            die("write");
        bytes += put;
        length -= (size_t)put;
    }
}

static void take_literal(size_t length, int fd)
{
    byte_count += length;
    while (length > 0) {
        if (in.at == in.end)
            fill();
        size_t part = in.end - in.at < length ? in.end - in.at : length;

        if (fd != -1)
            write_all(fd, in.bytes + in.at, part);
        in.at += part;
        length -= part;
    }
}

/* "{n}" at the end of a line, -1 if there is none. */
static long literal_size(const char *line)
{
    const char *brace = strrchr(line, '{');

    return brace != NULL && line[strlen(line) - 1] == '}'
               ? strtol(brace + 1, NULL, 10)
               : -1;
}

static void until_tagged(void)
{
    const char *line;

    do {
        line = read_line();
        long size = literal_size(line);

        if (size >= 0 && strncmp(line, "* LIST", 6) == 0) {
            char *name = calloc(1, (size_t)size + 1);

            for (long i = 0; i < size; i++) {
                if (in.at == in.end)
                    fill();
                name[i] = in.bytes[in.at++];
            }
            folders[folder_count++] = name;
            continue;
        }
        if (strncmp(line, "* LIST", 6) == 0 && folder_count < FOLDERS_MAX &&
            strstr(line, "\\Noselect") == NULL) {
            const char *name = strchr(line, ')');

            name = strchr(name + 2, ' ') + 1;
            folders[folder_count++] = strdup(name);
        }
    } while (strncmp(line, "a ", 2) != 0);
    if (strncmp(line, "a OK", 4) != 0) {
        fprintf(stderr, "floor: %s\n", line);
        exit(1);
    }
}

static void drain_folder(const char *name, const char *dir, int number)
{
    char path[4096];
    uint64_t file = 0;

    /* names arrive quoted already, or as atoms */
    say("a EXAMINE %s%s\r\n", name, "");
    until_tagged();
    say("a UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])%s%s\r\n", "", "");
    for (;;) {
        const char *line = read_line();

        if (strncmp(line, "a ", 2) == 0)
            break;
        long size = literal_size(line);

        if (size < 0)
            continue;
        int fd = -1;

        if (dir != NULL) {
            snprintf(path, sizeof(path), "%s/%d/cur/%llu", dir, number,
                     (unsigned long long)++file);
            fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
            if (fd == -1)
                die(path);
        }
        take_literal((size_t)size, fd);
        if (fd != -1)
            close(fd);
        message_count++;
    }
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;

    if (getaddrinfo(host, port, &hints, &list) != 0)
        die(host);
    int fd = socket(list->ai_family, SOCK_STREAM, 0);

    if (fd == -1 || connect(fd, list->ai_addr, list->ai_addrlen) == -1)
        die("connect");
    freeaddrinfo(list);
    return fd;
}

/* Verifies nothing: it is the least that TLS costs. */
static void secure(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    SSL_CTX_set_read_ahead(context, 1);
    in.tls = SSL_new(context);
    SSL_set_fd(in.tls, in.fd);
    if (SSL_connect(in.tls) != 1)
        die("TLS");
}

int main(int argc, char **argv)
{
    char path[4096];

    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: floor HOST PORT USER PASSWORD DIR|- [tls]\n");
        return 2;
    }
    const char *dir = strcmp(argv[5], "-") == 0 ? NULL : argv[5];

    in.fd = connect_to(argv[1], argv[2]);
    if (argc == 7)
        secure();
    read_line();
    say("a LOGIN %s %s\r\n", argv[3], argv[4]);
    until_tagged();
    say("a LIST \"\" \"*\"%s%s\r\n", "", "");
    until_tagged();
    for (int i = 0; i < folder_count; i++) {
        if (dir != NULL) {
            snprintf(path, sizeof(path), "%s/%d", dir, i);
            mkdir(dir, 0700);
            mkdir(path, 0700);
            snprintf(path, sizeof(path), "%s/%d/cur", dir, i);
            mkdir(path, 0700);
        }
        drain_folder(folders[i], dir, i);
    }
    if (dir != NULL) {
        int fd = open(dir, O_RDONLY | O_DIRECTORY);

        if (fd == -1 || syncfs(fd) == -1)
            die("syncfs");
        close(fd);
    }
    printf("%llu messages, %llu bytes\n", (unsigned long long)message_count,
           (unsigned long long)byte_count);
    return 0;
}
