/*
 * Addresses of mail servers as the administrator writes them. Owns the table of
 * default ports; leaves the meaning of the mode to whoever connects.
 */
#include "proto/mail_url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct protocol_row {
    const char *scheme;
    uint16_t clear_port; /* also with STARTTLS */
    uint16_t tls_port;
};

static const struct protocol_row protocols[] = {
    [MAIL_IMAP] = {"imap", 143, 993}, [MAIL_POP3] = {"pop3", 110, 995},
    [MAIL_SMTP] = {"smtp", 25, 465},  [MAIL_SIEVE] = {"sieve", 4190, 4190},
    [MAIL_LMTP] = {"lmtp", 24, 24},
};
_Static_assert(sizeof protocols / sizeof protocols[0] == MAIL_PROTOCOL_COUNT,
               "a row for each protocol");

/* What may follow the protocol's name in a scheme. */
static const struct {
    const char *suffix;
    enum tls_mode tls;
} modes[] = {
    {"", TLS_NONE},
    {"s", TLS_IMPLICIT},
    {"+starttls", TLS_STARTTLS},
};

static bool scheme_is(const char *scheme, size_t length, const char *name,
                      const char *suffix)
{
    size_t name_length = strlen(name);

    return length == name_length + strlen(suffix) &&
           strncasecmp(scheme, name, name_length) == 0 &&
           strncasecmp(scheme + name_length, suffix, strlen(suffix)) == 0;
}

static int read_scheme(const char *scheme, size_t length, struct mail_url *url)
{
    for (int p = 0; p < MAIL_PROTOCOL_COUNT; p++) {
        for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
            if (!scheme_is(scheme, length, protocols[p].scheme,
                           modes[m].suffix))
                continue;
            url->protocol = (enum mail_protocol)p;
            url->tls = modes[m].tls;
            url->port = url->tls == TLS_IMPLICIT ? protocols[p].tls_port
                                                 : protocols[p].clear_port;
            return 0;
        }
    }
    return -1;
}

static int read_port(const char *text, uint16_t *port_out)
{
    unsigned long port = 0;

    if (*text == '\0')
        return -1;
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text))
            return -1;
        port = port * 10 + (unsigned long)(*text - '0');
        if (port > 65535)
            return -1;
    }
    if (port == 0)
        return -1;
    *port_out = (uint16_t)port;
    return 0;
}

static bool is_host(const char *host, size_t length, bool is_bracketed)
{
    if (length == 0 || length >= sizeof((struct mail_url *)0)->host)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)host[i];
        bool is_address = isxdigit(c) || c == ':' || c == '.' || c == '%';

        if (is_bracketed ? !is_address && !isalnum(c)
                         : !isalnum(c) && c != '.' && c != '-' && c != '_')
            return false;
    }
    return !is_bracketed || memchr(host, ':', length) != NULL;
}

/* "host", "host:port", "[v6]", "[v6]:port", each with an optional final '/'. */
static int read_authority(const char *text, struct mail_url *url,
                          struct err *err)
{
    bool is_bracketed = *text == '[';
    const char *host = text + (is_bracketed ? 1 : 0);
    size_t length = strcspn(host, is_bracketed ? "]" : ":/?#@");
    const char *rest = host + length;
    char port[8];
    size_t port_length;

    if (is_bracketed && *rest++ != ']')
        return err_set(err, ERR_SETUP, "no ']' behind the address");
    if (strchr(rest, '@') != NULL)
        return err_set(err, ERR_SETUP, "a user does not belong here");
    if (!is_host(host, length, is_bracketed))
        return err_set(err, ERR_SETUP, "this is no host name or address");
    memcpy(url->host, host, length);
    url->host[length] = '\0';
    if (*rest == ':') {
        rest++;
        port_length = strcspn(rest, "/?#");
        if (port_length >= sizeof port)
            return err_set(err, ERR_SETUP, "the port is not 1 to 65535");
        memcpy(port, rest, port_length);
        port[port_length] = '\0';
        if (read_port(port, &url->port) == -1)
            return err_set(err, ERR_SETUP, "the port is not 1 to 65535");
        rest += port_length;
    }
    if (*rest == '/')
        rest++;
    if (*rest != '\0')
        return err_set(err, ERR_SETUP, "a path or query does not belong here");
    return 0;
}

int mail_url_parse(const char *text, struct mail_url *url_out, struct err *err)
{
    const char *colon = strstr(text, "://");
    struct mail_url url;

    memset(&url, 0, sizeof url);
    if (colon == NULL)
        return err_set(err, ERR_SETUP,
                       "\"%.100s\": write it as imap://host:port", text);
    if (read_scheme(text, (size_t)(colon - text), &url) == -1)
        return err_set(err, ERR_SETUP, "\"%.100s\": unknown scheme", text);
    if (read_authority(colon + 3, &url, err) == -1)
        return err_prefix(err, "\"%.100s\"", text);
    *url_out = url;
    return 0;
}

const char *mail_url_format(const struct mail_url *url, char text[320])
{
    const char *suffix = "";
    bool is_v6 = strchr(url->host, ':') != NULL;

    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
        if (modes[m].tls == url->tls)
            suffix = modes[m].suffix;
    }
    snprintf(text, 320, "%s%s://%s%s%s:%u", protocols[url->protocol].scheme,
             suffix, is_v6 ? "[" : "", url->host, is_v6 ? "]" : "", url->port);
    return text;
}
