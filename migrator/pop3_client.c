/*
 * A blocking POP3 session: the dialogue of login and listings over base/tls.h.
 * Owns its stream and one line of input.
 */
#include "migrator/pop3_client.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/master_name.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tls.h"
#include "proto/base64.h"

#define POP3_WAIT_MS   60000
#define POP3_INPUT_MAX 8192
#define POP3_LINES_MAX 2000000 /* of one listing */
#define POP3_LOGIN_MAX 4096
#define POP3_CAPA_MAX  200 /* lines */

struct pop3_client {
    struct tls_client *tls;    /* owned */
    struct tls_stream *stream; /* owned */
    char input[POP3_INPUT_MAX];
    size_t used, taken; /* of input */
    char line[POP3_INPUT_MAX];
    bool is_logged_in;
    bool is_broken; /* in the middle of something: no QUIT */
};

/* The next line without its end; what does not fit is cut off, so that a line
   without end costs time and no memory. */
static int read_line(struct pop3_client *c, struct err *err)
{
    size_t length = 0;

    for (;;) {
        if (c->taken == c->used) {
            ssize_t got =
                tls_stream_read(c->stream, c->input, sizeof c->input, err);

            if (got <= 0) {
                c->is_broken = true;
                return got < 0
                           ? -1
                           : err_set(err, ERR_RETRY, "pop3: connection closed");
            }
            c->taken = 0;
            c->used = (size_t)got;
        }
        if (c->input[c->taken] == '\n') {
            c->taken++;
            break;
        }
        if (length < sizeof c->line - 1)
            c->line[length++] = c->input[c->taken];
        c->taken++;
    }
    if (length > 0 && c->line[length - 1] == '\r')
        length--;
    c->line[length] = '\0';
    return 0;
}

static int write_line(struct pop3_client *c, const char *word, const char *rest,
                      struct err *err)
{
    char line[POP3_LOGIN_MAX];
    int length = snprintf(line, sizeof line, "%s%s%s\r\n", word,
                          rest[0] != '\0' ? " " : "", rest);
    int result;

    if ((size_t)length >= sizeof line)
        return err_set(err, ERR_SETUP, "pop3: name or password too long");
    result = tls_stream_write(c->stream, line, (size_t)length, err);
    explicit_bzero(line, sizeof line);
    return result;
}

static bool says(const char *line, const char *word)
{
    return strcasestr(line, word) != NULL;
}

/* RFC 2449 and 3206 name the temporary refusals; older servers say it in words.
 */
static enum err_kind refusal_kind(const char *line)
{
    static const char *const later[] = {
        "[IN-USE]", "[LOGIN-DELAY", "[SYS/TEMP]", "lock",
        "in use",   "busy",         "try again",  "temporar"};

    if (says(line, "[AUTH]"))
        return ERR_DENIED;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (says(line, later[i]))
            return ERR_RETRY;
    return ERR_DENIED;
}

/* One answer: 0 for +OK (or "+ "), else -1 with `refused` as the kind, or
   ERR_RETRY where the line says that it is for a while. */
static int expect_ok(struct pop3_client *c, const char *what,
                     enum err_kind refused, struct err *err)
{
    if (read_line(c, err) == -1)
        return -1;
    if (c->line[0] == '+')
        return 0;
    if (strncasecmp(c->line, "-ERR", 4) != 0) {
        c->is_broken = true;
        return err_set(err, ERR_RETRY, "pop3 %s: no POP3 answer", what);
    }
    if (refused == ERR_DENIED ||
        (refused == ERR_ITEM && refusal_kind(c->line) == ERR_RETRY))
        refused = refusal_kind(c->line);
    return err_set(err, refused, "pop3 %s: %s", what, log_safe(c->line));
}

static int start_tls(struct pop3_client *c, struct err *err)
{
    if (write_line(c, "STLS", "", err) == -1 ||
        expect_ok(c, "STLS", ERR_SETUP, err) == -1)
        return -1;
    c->taken = c->used = 0; /* said in clear: never looked at again */
    return tls_stream_start(c->stream, err);
}

static int log_in_plainly(struct pop3_client *c,
                          const struct migration_job *job, const char *name,
                          struct err *err)
{
    if (write_line(c, "USER", name, err) == -1 ||
        expect_ok(c, "USER", ERR_DENIED, err) == -1)
        return -1;
    if (write_line(c, "PASS", job->password.bytes, err) == -1)
        return -1;
    return expect_ok(c, "PASS", ERR_DENIED, err);
}

/* authzid NUL authcid NUL password (RFC 4616): the master acts for the user. */
static int log_in_as_master(struct pop3_client *c,
                            const struct migration_job *job, struct err *err)
{
    char clear[POP3_LOGIN_MAX / 2], coded[BASE64_SIZE(sizeof clear) + 1];
    int length = snprintf(clear, sizeof clear, "%s%c%s%c%s", job->legacy_user,
                          '\0', job->master_user, '\0', job->password.bytes);
    int result = -1;

    if (length < 0 || (size_t)length >= sizeof clear)
        return err_set(err, ERR_SETUP, "pop3: name or password too long");
    base64_encode(clear, (size_t)length, coded);
    /* in two steps: an initial response may be longer than a command line */
    if (write_line(c, "AUTH", "PLAIN", err) == 0 &&
        expect_ok(c, "AUTH", ERR_DENIED, err) == 0 &&
        write_line(c, coded, "", err) == 0)
        result = expect_ok(c, "AUTH", ERR_DENIED, err);
    explicit_bzero(clear, sizeof clear);
    explicit_bzero(coded, sizeof coded);
    return result;
}

/* CAPA names PLAIN (RFC 5034). Without CAPA, or a connection, it is not. */
static bool offers_plain(struct pop3_client *c, struct err *err)
{
    bool is_offered = false;

    if (write_line(c, "CAPA", "", err) == -1) {
        c->is_broken = true;
        return false;
    }
    if (expect_ok(c, "CAPA", ERR_ITEM, err) == -1)
        return false;
    for (int i = 0; i < POP3_CAPA_MAX && read_line(c, err) == 0; i++) {
        if (strcmp(c->line, ".") == 0)
            return is_offered;
        if (strncasecmp(c->line, "SASL ", 5) == 0 && says(c->line, " PLAIN"))
            is_offered = true;
    }
    c->is_broken = true;
    return false;
}

/* By SASL where that is understood, unless the domain has a name for it. */
static int log_in_for_user(struct pop3_client *c,
                           const struct migration_job *job, struct err *err)
{
    char name[POP3_LOGIN_MAX / 2];

    if (job->master_login[0] == '\0' && offers_plain(c, err))
        return log_in_as_master(c, job, err);
    if (c->is_broken)
        return err->kind != ERR_NONE
                   ? -1
                   : err_set(err, ERR_RETRY, "pop3 CAPA: no end of it");
    if (master_name_fill(job->master_login, job->legacy_user, job->master_user,
                         name, sizeof name, err) == -1)
        return -1;
    return log_in_plainly(c, job, name, err);
}

static int log_in(struct pop3_client *c, const struct migration_job *job,
                  struct err *err)
{
    const struct secret *password = &job->password;

    if (password->bytes == NULL || strpbrk(password->bytes, "\r\n") != NULL ||
        memchr(password->bytes, '\0', password->length) != NULL ||
        strpbrk(job->legacy_user, "\r\n") != NULL)
        return err_set(err, ERR_SETUP, "pop3 cannot carry this password");
    if (job->master_user[0] != '\0')
        return log_in_for_user(c, job, err);
    return log_in_plainly(c, job, job->legacy_user, err);
}

static int connect_to(struct pop3_client *c, const struct migration_job *job,
                      struct err *err)
{
    struct tls_target target = {job->legacy_pop3.host, job->legacy_pop3.port,
                                job->legacy_pop3.tls};

    if (job->legacy_pop3.tls != TLS_NONE) {
        c->tls =
            tls_client_new(job->ca_file[0] ? job->ca_file : NULL,
                           job->tls_minimum[0] ? job->tls_minimum : NULL, err);
        if (c->tls == NULL)
            return -1;
    }
    c->stream = tls_stream_open(&target, c->tls, POP3_WAIT_MS, err);
    return c->stream != NULL ? 0 : -1;
}

int pop3_client_open(const struct migration_job *job, struct pop3_client **out,
                     struct err *err)
{
    struct pop3_client *c = mem_alloc(sizeof *c);

    *out = NULL;
    if (connect_to(c, job, err) == -1 ||
        expect_ok(c, "greeting", ERR_RETRY, err) == -1 ||
        (job->legacy_pop3.tls == TLS_STARTTLS && start_tls(c, err) == -1) ||
        log_in(c, job, err) == -1) {
        pop3_client_close(&c);
        return -1;
    }
    c->is_logged_in = true;
    *out = c;
    return 0;
}

/* "17 rest": the number, and where the rest begins; 0 if it is none. */
static uint32_t line_number(const char *line, const char **rest_out)
{
    uint64_t number = 0;

    if (*line < '1' || *line > '9')
        return 0;
    for (; *line >= '0' && *line <= '9'; line++) {
        number = number * 10 + (uint64_t)(*line - '0');
        if (number > UINT32_MAX)
            return 0;
    }
    if (*line != ' ' && *line != '\t')
        return 0;
    *rest_out = line + strspn(line, " \t");
    return (uint32_t)number;
}

int pop3_client_list(struct pop3_client *client, const char *command,
                     pop3_line_fn *fn, void *ctx, struct err *err)
{
    if (write_line(client, command, "", err) == -1 ||
        expect_ok(client, command, ERR_ITEM, err) == -1)
        return -1;
    client->is_broken = true;
    for (int lines = 0; lines < POP3_LINES_MAX; lines++) {
        const char *rest;
        uint32_t number;

        if (read_line(client, err) == -1)
            return -1;
        if (strcmp(client->line, ".") == 0) {
            client->is_broken = false;
            return 0;
        }
        number = line_number(client->line, &rest);
        if (number != 0 && fn(ctx, number, rest, err) == -1)
            return -1;
    }
    return err_set(err, ERR_RETRY, "pop3 %s: the list has no end", command);
}

void pop3_client_close(struct pop3_client **client)
{
    struct pop3_client *c = *client;
    struct err ignored;

    if (c == NULL)
        return;
    *client = NULL;
    if (c->is_logged_in && !c->is_broken &&
        write_line(c, "QUIT", "", &ignored) == 0)
        read_line(c, &ignored); /* its answer ends the server's lock */
    tls_stream_close(&c->stream);
    tls_client_free(&c->tls);
    explicit_bzero(c->line, sizeof c->line);
    free(c);
}
