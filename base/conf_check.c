#include "base/conf_check.h"

#include "base/dns.h"
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *start_of_line(const char *text, unsigned line)
{
    while (line > 1 && *text != '\0') {
        const char *end = strchr(text, '\n');

        if (end == NULL)
            return text + strlen(text);
        text = end + 1;
        line--;
    }
    return text;
}

static bool is_word(char c)
{
    return c == '_' || c == '-' || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* The next `key:` in text, past comments; NULL if there is none. */
static const char *find_key(const char *text, const char *key)
{
    size_t length = strlen(key);
    bool in_comment = false, in_word = false;
    const char *p;

    for (p = text; *p != '\0'; p++) {
        if (*p == '\n')
            in_comment = false;
        else if (*p == '#' && !in_word)
            in_comment = true;
        if (!in_comment && !in_word && strncmp(p, key, length) == 0 &&
            p[length + strspn(p + length, " \"'")] == ':')
            return p;
        in_word = is_word(*p);
    }
    return NULL;
}

static unsigned line_of(const char *text, const char *at)
{
    unsigned line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

unsigned conf_line_of_key(const char *text, const char *key, unsigned line,
                          unsigned column)
{
    const char *from = start_of_line(text, line), *at;
    size_t length = strcspn(from, "\n");

    if (column > 1)
        from += column - 1 < length ? column - 1 : length;
    at = find_key(from, key);
    if (at == NULL)
        return line > 0 ? line : 1;
    return line_of(text, at);
}

/* Sections begin at the first column. */
static const char *find_section(const char *text, const char *section)
{
    const char *at = find_key(text, section);

    while (at != NULL && at != text && at[-1] != '\n')
        at = find_key(at + 1, section);
    return at;
}

/* Where the value is: `key` for the (nth + 1)th time inside a section. */
static unsigned line_of_value(const char *text, const char *section,
                              const char *key, unsigned nth)
{
    const char *at = text;

    if (section != NULL)
        at = find_section(text, section);
    if (at == NULL)
        return 1;
    if (key == NULL)
        return line_of(text, at);
    if (section != NULL)
        at += strlen(section);
    for (;;) {
        const char *next = find_key(at, key);

        if (next == NULL)
            return line_of(text, at);
        if (nth-- == 0)
            return line_of(text, next);
        at = next + strlen(key);
    }
}

struct check {
    const struct conf *conf;
    const char *text;
    struct err *err;
};

__attribute__((format(printf, 3, 4))) static int
refuse(const struct check *c, unsigned line, const char *format, ...)
{
    char what[160];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(c->err, ERR_SETUP, "%s:%u: %s", c->conf->path, line, what);
}

static bool is_among(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

static int check_top(const struct check *c)
{
    static const char *const roles[] = {"state", "login", "smtp", "jobs",
                                        "fetch", "admin", NULL};
    const struct conf *conf = c->conf;
    unsigned i;

    if (conf->state_dir[0] != '/')
        return refuse(c, line_of_value(c->text, NULL, "state_dir", 0),
                      "state_dir: not an absolute path");
    if (strncmp(conf->database, "sqlite:", 7) != 0)
        return refuse(c, line_of_value(c->text, NULL, "database", 0),
                      "database: must begin with \"sqlite:\"");
    for (i = 0; i < conf->roles.count; i++)
        if (!is_among(conf->roles.items[i], roles))
            return refuse(c, line_of_value(c->text, "roles", NULL, 0),
                          "roles: no role \"%s\"",
                          log_safe(conf->roles.items[i]));
    if (log_level_named(conf->log.level) == -1)
        return refuse(c, line_of_value(c->text, "log", "level", 0),
                      "level: no log level \"%s\"", log_safe(conf->log.level));
    return 0;
}

static int check_tls(const struct check *c)
{
    static const char *const versions[] = {"1.0", "1.1", "1.2", "1.3", NULL};
    const struct conf *conf = c->conf;

    if (!is_among(conf->tls.minimum, versions))
        return refuse(c, line_of_value(c->text, "tls", "minimum", 0),
                      "minimum: no TLS version \"%s\"",
                      log_safe(conf->tls.minimum));
    if ((conf->tls.certificate == NULL) != (conf->tls.key == NULL))
        return refuse(c, line_of_value(c->text, "tls", NULL, 0),
                      "tls: certificate and key need each other");
    return 0;
}

static int check_local(const struct check *c)
{
    const struct conf *conf = c->conf;

    if ((conf->local.master_user == NULL) !=
        (conf->local.master_password_file == NULL))
        return refuse(c, line_of_value(c->text, "local", NULL, 0),
                      "local: master_user and master_password_file need each "
                      "other");
    if (conf->local.master_password_file != NULL &&
        conf->local.master_password_file[0] != '/')
        return refuse(
            c, line_of_value(c->text, "local", "master_password_file", 0),
            "master_password_file: not an absolute path");
    return 0;
}

/* Who copies the state directory must not copy the key with it. */
static int check_secrets(const struct check *c)
{
    const char *key = c->conf->secrets.key, *dir = c->conf->state_dir;
    size_t length = strlen(dir);

    if (key == NULL)
        return 0;
    if (key[0] != '/')
        return refuse(c, line_of_value(c->text, "secrets", "key", 0),
                      "key: not an absolute path");
    if (strncmp(key, dir, length) == 0 && key[length] == '/')
        return refuse(c, line_of_value(c->text, "secrets", "key", 0),
                      "key: must not lie in state_dir, whose copies it would "
                      "open");
    return 0;
}

static int check_listen(const struct check *c)
{
    const struct conf *conf = c->conf;
    struct sockaddr_storage address;
    unsigned i;

    for (i = 0; i < conf->listen_count; i++) {
        const struct conf_listen *l = &conf->listen[i];

        if (!dns_parse_numeric(l->address, l->port, &address))
            return refuse(c, line_of_value(c->text, "listen", "address", i),
                          "address: \"%s\" is not a numeric address",
                          log_safe(l->address));
        if (l->port == 0)
            return refuse(c, line_of_value(c->text, "listen", "port", i),
                          "port: must be 1 to 65535");
        if (l->tls != TLS_NONE && conf->tls.certificate == NULL)
            return refuse(c, line_of_value(c->text, "listen", "address", i),
                          "tls: no certificate is given in section tls");
    }
    return 0;
}

unsigned conf_unserved(const struct conf *conf, const char **keys)
{
    unsigned count = 0;
    bool has_protocol = false, has_group = false, has_role = false;

    for (unsigned i = 0; i < conf->listen_count; i++) {
        has_protocol |= conf->listen[i].protocol == CONF_SUBMISSION ||
                        conf->listen[i].protocol == CONF_SIEVE;
        has_group |= conf->listen[i].group != NULL;
    }
    for (unsigned i = 0; i < conf->roles.count; i++)
        has_role |= strcmp(conf->roles.items[i], "fetch") == 0;
    if (has_protocol)
        keys[count++] = "listen: submission and sieve";
    if (has_group)
        keys[count++] = "listen: group";
    if (has_role)
        keys[count++] = "roles: fetch";
    if (conf->local.submission != NULL)
        keys[count++] = "local.submission";
    if (conf->local.sieve != NULL)
        keys[count++] = "local.sieve";
    return count;
}

static int check_numbers(const struct check *c)
{
    const struct conf *conf = c->conf;
    const struct {
        const char *section, *key;
        unsigned value, max;
    } bounds[] = {
        {"jobs", "workers", conf->jobs.workers, 1024},
        {"jobs", "per_host", conf->jobs.per_host, 1024},
        {"jobs", "delta_seconds", conf->jobs.delta_seconds, 604800},
        {"jobs", "trail_inbox_seconds", conf->jobs.trail_inbox_seconds, 604800},
        {"jobs", "trail_seconds", conf->jobs.trail_seconds, 604800},
        {"jobs", "retry_seconds", conf->jobs.retry_seconds, 86400},
        {"login", "processes", conf->login.processes, 256},
        {"login", "hold_quiet_ms", conf->login.hold_quiet_ms, 60000},
        {"login", "hold_force_ms", conf->login.hold_force_ms, 600000},
        {"login", "remember_minutes", conf->login.remember_minutes, 1440},
        {"log", "keep_days", conf->log.keep_days, 3650},
        {"log", "keep_megabytes", conf->log.keep_megabytes, 1048576},
    };
    size_t i;

    for (i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value > bounds[i].max)
            return refuse(
                c, line_of_value(c->text, bounds[i].section, bounds[i].key, 0),
                "%s: %u is more than %u", bounds[i].key, bounds[i].value,
                bounds[i].max);
    return 0;
}

const char *conf_store_fault(const char *path)
{
    static const char *const words[] = {"{address}", "{local}", "{domain}"};
    bool has[3] = {false, false, false};
    const char *at = path;

    if (path[0] != '/')
        return "not an absolute path";
    while ((at = strchr(at, '{')) != NULL) {
        size_t i = 0;

        while (i < 3 && strncmp(at, words[i], strlen(words[i])) != 0)
            i++;
        if (i == 3)
            return "an unknown {word}; there are {address}, {local}, {domain}";
        has[i] = true;
        at += strlen(words[i]);
    }
    if (!has[0] && !has[1])
        return "users would share a mailbox: {local} or {address} is missing";
    if (!has[0] && !has[2])
        return "domains would share mailboxes: {domain} is missing";
    return NULL;
}

/* Each login on local pays it, and each start of the jobs role. 0: libcrypt's
   own. */
static int check_cost(const struct check *c)
{
    static const struct {
        const char *scheme;
        unsigned min, max;
    } bounds[] = {{"SHA512-CRYPT", 1000, 10000000},
                  {"YESCRYPT", 1, 11},
                  {"BCRYPT", 4, 16}};
    unsigned cost = c->conf->hash.cost;

    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (strcmp(c->conf->hash.scheme, bounds[i].scheme) == 0 && cost != 0 &&
            (cost < bounds[i].min || cost > bounds[i].max))
            return refuse(c, line_of_value(c->text, "hash", "cost", 0),
                          "cost: %u is not 0 or %u to %u, as %s takes it", cost,
                          bounds[i].min, bounds[i].max, bounds[i].scheme);
    return 0;
}

static int check_words(const struct check *c)
{
    static const char *const schemes[] = {"SHA512-CRYPT", "YESCRYPT", "BCRYPT",
                                          NULL};
    const struct conf *conf = c->conf;
    const char *fault = NULL;

    if (strcmp(conf->store.type, "maildir") != 0)
        return refuse(c, line_of_value(c->text, "store", "type", 0),
                      "type: no store \"%s\"", log_safe(conf->store.type));
    if (conf->store.path != NULL)
        fault = conf_store_fault(conf->store.path);
    if (fault != NULL)
        return refuse(c, line_of_value(c->text, "store", "path", 0), "path: %s",
                      fault);
    if (!is_among(conf->hash.scheme, schemes))
        return refuse(c, line_of_value(c->text, "hash", "scheme", 0),
                      "scheme: no password scheme \"%s\"",
                      log_safe(conf->hash.scheme));
    return check_cost(c);
}

bool conf_is_given(const char *text, const char *section, const char *key)
{
    const char *from = find_section(text, section), *at, *line;

    if (from == NULL || (at = find_key(from + strlen(section), key)) == NULL)
        return false;
    for (line = strchr(from, '\n'); line != NULL && line < at;
         line = strchr(line + 1, '\n'))
        if (is_word(line[1]))
            return false; /* another section's */
    return true;
}

int conf_check_given(const struct conf *conf, const char *text, struct err *err)
{
    const struct check c = {conf, text, err};

    if (conf->jobs.workers == 0 && conf_is_given(text, "jobs", "workers"))
        return refuse(&c, line_of_value(text, "jobs", "workers", 0),
                      "workers: must be 1 or more");
    if (conf->jobs.per_host == 0 && conf_is_given(text, "jobs", "per_host"))
        return refuse(&c, line_of_value(text, "jobs", "per_host", 0),
                      "per_host: must be 1 or more");
    return 0;
}

int conf_check(const struct conf *conf, const char *text, struct err *err)
{
    const struct check c = {conf, text, err};

    if (check_top(&c) == -1 || check_tls(&c) == -1 || check_listen(&c) == -1 ||
        check_local(&c) == -1 || check_secrets(&c) == -1 ||
        check_numbers(&c) == -1 || check_words(&c) == -1)
        return -1;
    return 0;
}

bool conf_parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    unsigned long long value;
    const char *unit;
    unsigned shift = 0;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (*end != '\0') {
        unit = strchr(units, *end >= 'a' ? *end - ('a' - 'A') : *end);
        if (unit == NULL || end[1] != '\0')
            return false;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    /* it travels as a signed number */
    if (errno != 0 || value > (uint64_t)INT64_MAX >> shift)
        return false;
    *out = (uint64_t)value << shift;
    return true;
}

int conf_read_reserve(struct conf *conf, const char *text, struct err *err)
{
    const struct check c = {conf, text, err};

    if (!conf_parse_size(conf->store.reserve.bytes,
                         &conf->store.reserve.bytes_kept))
        return refuse(&c, line_of_value(text, "store", "bytes", 0),
                      "bytes: \"%s\" is no size like 500M, 10G, 1T",
                      log_safe(conf->store.reserve.bytes));
    if (!conf_parse_size(conf->store.reserve.inodes,
                         &conf->store.reserve.inodes_kept))
        return refuse(&c, line_of_value(text, "store", "inodes", 0),
                      "inodes: \"%s\" is no number",
                      log_safe(conf->store.reserve.inodes));
    return 0;
}
