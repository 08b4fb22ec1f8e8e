/*
 * Secrets that an administrator gives: from a file, from standard input, or
 * typed without an echo. They leave this process sealed.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "account/username.h"
#include "account/wire.h"
#include "base/secret.h"

/* One line; what stands behind it is not taken for a part of it. */
static int read_line(FILE *from, struct secret *out, const char *what,
                     struct err *err)
{
    char bytes[SEAL_SECRET_MAX + 1];
    size_t length = 0;
    int c, rc = 0;

    while ((c = fgetc(from)) != EOF && c != '\r' && c != '\n' &&
           length < sizeof(bytes))
        bytes[length++] = (char)c;
    if (ferror(from))
        rc = err_set(err, ERR_SETUP, "%s: %s", what, strerror(errno));
    else if (c == EOF && length == 0)
        rc = err_set(err, ERR_SETUP, "%s: is empty", what);
    else if (memchr(bytes, '\0', length))
        rc = err_set(err, ERR_SETUP, "%s: a NUL byte is in the password", what);
    else if (length == 0)
        rc = err_set(err, ERR_SETUP, "%s: the first line is empty", what);
    else if (length > SEAL_SECRET_MAX)
        rc = err_set(err, ERR_SETUP, "%s: longer than %d bytes", what,
                     SEAL_SECRET_MAX);
    else
        secret_set(out, bytes, length);
    explicit_bzero(bytes, sizeof(bytes));
    return rc;
}

static int type_once(const char *prompt, struct secret *out, struct err *err)
{
    struct termios was, silent;
    int rc;

    if (tcgetattr(STDIN_FILENO, &was) == -1)
        return err_set(err, ERR_SETUP,
                       "no terminal to ask for the password: use --file");
    silent = was;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", prompt);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    rc = read_line(stdin, out, "the password", err);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
    fputc('\n', stderr);
    return rc;
}

static int type_twice(struct secret *out, struct err *err)
{
    struct secret again;
    int rc;

    secret_init(&again);
    rc = type_once("New password", out, err);
    if (rc == 0)
        rc = type_once("Once more", &again, err);
    if (rc == 0 && !secret_equal(out, &again))
        rc = err_set(err, ERR_SETUP, "the two passwords differ");
    secret_wipe(&again);
    return rc;
}

static int read_secret(const char *path, struct secret *out, struct err *err)
{
    FILE *file;
    int rc;

    if (!path)
        return type_twice(out, err);
    if (strcmp(path, "-") == 0)
        return read_line(stdin, out, "standard input", err);
    file = fopen(path, "re");
    if (!file)
        return err_set(err, ERR_SETUP, "%s: %s", path, strerror(errno));
    /* or what the library has read stays in its buffer */
    setvbuf(file, NULL, _IONBF, 0);
    rc = read_line(file, out, path, err);
    fclose(file);
    return rc;
}

int cli_seal_secret(const struct cli *cli, const char *path, const char *name,
                    json_t *object, struct err *err)
{
    uint8_t key[SEAL_KEY_SIZE];
    struct secret secret;
    struct seal seal;
    int rc;

    secret_guard_process();
    if (!cli_read_public_key(cli->conf, key))
        return err_set(err, ERR_SETUP, "%s/seal.pub: cannot be read",
                       cli->conf->state_dir);
    secret_init(&secret);
    setvbuf(stdin, NULL, _IONBF, 0);
    rc = read_secret(path, &secret, err);
    if (rc == 0)
        rc = seal_close(key, name, &secret, &seal, err);
    secret_wipe(&secret);
    if (rc == 0)
        wire_put_seal(object, &seal);
    explicit_bzero(&seal, sizeof(seal));
    return rc;
}

static void print_set(const json_t *result)
{
    printf("the password of %s is set%s\n", cli_text(result, "address"),
           wire_bool(result, "kept") ? "; the others still count" : "");
}

int cli_account_password(struct cli *cli, json_t *request)
{
    const char *address = wire_text(request, "address");
    struct username name;
    struct err err;

    if (!address ||
        username_parse(address, strlen(address), &name, &err) == -1 ||
        !name.domain[0]) {
        fprintf(stderr, "mailhaul: not an address\n");
        return CLI_USAGE;
    }
    if (cli_seal_secret(cli, wire_text(request, "file"), name.address, request,
                        &err) == -1)
        return cli_complain(cli, &err);
    json_object_set_new(request, "address", json_string(name.address));
    json_object_del(request, "file");
    return cli_ask_and_print(cli, request, print_set);
}
