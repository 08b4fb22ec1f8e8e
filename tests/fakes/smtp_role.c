/*
 * The smtp role alone, for dialogue tests: listens on a port of 127.0.0.1 with
 * a state socket that the test serves.
 *   smtp_role PORT STATE_SOCKET LOCAL_URL JOURNAL NODE SIZE_MAX lmtp|smtp
 *             [CERTIFICATE KEY]
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "smtp-proxy/smtp.h"

static struct loop *loop;
static struct smtp *smtp;

static void on_drained(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

static void on_term(void *ctx)
{
    (void)ctx;
    smtp_drain(smtp, on_drained, NULL);
}

static int listen_at(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd == -1 || bind(fd, (struct sockaddr *)&at, sizeof(at)) == -1 ||
        listen(fd, 1024) == -1) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static char *read_file(const char *path)
{
    static char text[2][16384];
    static int next;
    char *out = text[next++ & 1];
    FILE *file = fopen(path, "r");
    size_t length = file != NULL ? fread(out, 1, 16383, file) : 0;

    out[length] = '\0';
    if (file != NULL)
        fclose(file);
    return out;
}

int main(int argc, char **argv)
{
    struct smtp_options options = {0};
    struct err err;
    enum tls_mode mode = TLS_NONE;

    if (argc < 8)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    if (getenv("SMTP_ROLE_DEBUG") != NULL)
        log_open("stderr", LOG_LEVEL_DEBUG, "smtp", &err);
    loop = loop_new();
    options.loop = loop;
    options.dns = dns_new(loop, &err);
    options.tls_client = tls_client_new(NULL, NULL, &err);
    options.state_socket = argv[2];
    options.journal_path = argv[4];
    options.node = argv[5];
    options.size_max_bytes = strtoull(argv[6], NULL, 10);
    if (mail_url_parse(argv[3], &options.local_lmtp, &err) == -1)
        return 2;
    if (argc > 9) {
        mode = TLS_STARTTLS;
        options.tls_server =
            tls_server_new(read_file(argv[8]), read_file(argv[9]), NULL, &err);
    }
    smtp = smtp_start(&options, &err);
    if (smtp == NULL ||
        smtp_listen_take(smtp, listen_at((uint16_t)strtoul(argv[1], NULL, 10)),
                         mode, strcmp(argv[7], "lmtp") == 0, &err) == -1) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    loop_on_signal(loop, SIGTERM, on_term, NULL);
    loop_run(loop);
    smtp_free(&smtp);
    dns_free(&options.dns);
    tls_client_free(&options.tls_client);
    tls_server_free(&options.tls_server);
    loop_free(&loop);
    return 0;
}
