#include "base/conf.h"

#include "base/conf_check.h"
#include "base/mem.h"

#include <cyaml/cyaml.h>
#include <yaml.h>
#include <grp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX   (1u << 20)
#define LISTEN_MAX 256
#define ITEMS_MAX  64

/* A member of struct conf, and one of a section of it. */
#define TOP(member)          offsetof(struct conf, member)
#define SUB(section, member) (TOP(section.member) - TOP(section))

#define TEXT(name, where)                                                      \
    {                                                                          \
        .key = name,                                                           \
        .value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, \
                                     char, 1, 4096)},                          \
        .data_offset = (uint32_t)(where),                                      \
    }
#define NUMBER(name, type, where)                                              \
    {                                                                          \
        .key = name, .value = {CYAML_VALUE_UINT(CYAML_FLAG_OPTIONAL, type)},   \
        .data_offset = (uint32_t)(where),                                      \
    }
#define LIST(name, type, entry, max, where, count_where)                       \
    {                                                                          \
        .key = name,                                                           \
        .value = {CYAML_VALUE_SEQUENCE(                                        \
            CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, entry, 0, max)},   \
        .data_offset = (uint32_t)(where),                                      \
        .count_offset = (uint32_t)(count_where),                               \
        .count_size = sizeof(unsigned),                                        \
    }
#define STRINGS(name, where)                                                   \
    LIST(name, char *, &string_entry, ITEMS_MAX,                               \
         (where) + offsetof(struct conf_strings, items),                       \
         (where) + offsetof(struct conf_strings, count))
#define SECTION(name, fields_table)                                            \
    {                                                                          \
        .key = #name,                                                          \
        .value = {.type = CYAML_MAPPING,                                       \
                  .flags = CYAML_FLAG_OPTIONAL,                                \
                  .data_size = sizeof(((struct conf *)NULL)->name),            \
                  .mapping = {.fields = fields_table}},                        \
        .data_offset = (uint32_t)TOP(name),                                    \
    }

static const cyaml_schema_value_t string_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, 4096),
};

static const cyaml_strval_t protocol_words[] = {
    {"imap", CONF_IMAP},   {"pop3", CONF_POP3}, {"submission", CONF_SUBMISSION},
    {"sieve", CONF_SIEVE}, {"smtp", CONF_SMTP}, {"lmtp", CONF_LMTP},
};

static const cyaml_strval_t tls_words[] = {
    {"none", TLS_NONE},
    {"starttls", TLS_STARTTLS},
    {"implicit", TLS_IMPLICIT},
};

static const cyaml_schema_field_t listen_fields[] = {
    CYAML_FIELD_ENUM("protocol", CYAML_FLAG_STRICT, struct conf_listen,
                     protocol, protocol_words, CYAML_ARRAY_LEN(protocol_words)),
    CYAML_FIELD_STRING_PTR("address", CYAML_FLAG_POINTER, struct conf_listen,
                           address, 1, 64),
    CYAML_FIELD_UINT("port", CYAML_FLAG_DEFAULT, struct conf_listen, port),
    CYAML_FIELD_ENUM("tls", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL,
                     struct conf_listen, tls, tls_words,
                     CYAML_ARRAY_LEN(tls_words)),
    CYAML_FIELD_BOOL("plain_auth", CYAML_FLAG_OPTIONAL, struct conf_listen,
                     plain_auth),
    CYAML_FIELD_STRING_PTR("group", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           struct conf_listen, group, 1, 64),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t listen_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_listen, listen_fields),
};

static const cyaml_schema_field_t log_fields[] = {
    TEXT("level", SUB(log, level)),
    TEXT("to", SUB(log, to)),
    NUMBER("keep_days", unsigned, SUB(log, keep_days)),
    NUMBER("keep_megabytes", unsigned, SUB(log, keep_megabytes)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t tls_fields[] = {
    TEXT("certificate", SUB(tls, certificate)),
    TEXT("key", SUB(tls, key)),
    TEXT("minimum", SUB(tls, minimum)),
    TEXT("ca_file", SUB(tls, ca_file)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t local_fields[] = {
    TEXT("imap", SUB(local, imap)),
    TEXT("pop3", SUB(local, pop3)),
    TEXT("submission", SUB(local, submission)),
    TEXT("sieve", SUB(local, sieve)),
    TEXT("lmtp", SUB(local, lmtp)),
    TEXT("master_user", SUB(local, master_user)),
    TEXT("master_password_file", SUB(local, master_password_file)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t reserve_fields[] = {
    TEXT("bytes", SUB(store.reserve, bytes)),
    TEXT("inodes", SUB(store.reserve, inodes)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t store_fields[] = {
    TEXT("type", SUB(store, type)),
    TEXT("path", SUB(store, path)),
    TEXT("owner", SUB(store, owner)),
    {
        .key = "reserve",
        .value = {.type = CYAML_MAPPING,
                  .flags = CYAML_FLAG_OPTIONAL,
                  .data_size = sizeof(((struct conf *)NULL)->store.reserve),
                  .mapping = {.fields = reserve_fields}},
        .data_offset = (uint32_t)SUB(store, reserve),
    },
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t provision_fields[] = {
    TEXT("dovecot", SUB(provision, dovecot)),
    TEXT("group", SUB(provision, group)),
    STRINGS("doveadm", SUB(provision, doveadm)),
    STRINGS("command", SUB(provision, command)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t jobs_fields[] = {
    NUMBER("workers", unsigned, SUB(jobs, workers)),
    NUMBER("per_host", unsigned, SUB(jobs, per_host)),
    NUMBER("delta_seconds", unsigned, SUB(jobs, delta_seconds)),
    NUMBER("trail_inbox_seconds", unsigned, SUB(jobs, trail_inbox_seconds)),
    NUMBER("trail_seconds", unsigned, SUB(jobs, trail_seconds)),
    NUMBER("retry_seconds", unsigned, SUB(jobs, retry_seconds)),
    NUMBER("on_flip_seconds", unsigned, SUB(jobs, on_flip_seconds)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t login_fields[] = {
    NUMBER("processes", unsigned, SUB(login, processes)),
    NUMBER("hold_quiet_ms", unsigned, SUB(login, hold_quiet_ms)),
    NUMBER("hold_force_ms", unsigned, SUB(login, hold_force_ms)),
    NUMBER("remember_minutes", unsigned, SUB(login, remember_minutes)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t secrets_fields[] = {
    TEXT("key", SUB(secrets, key)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t hash_fields[] = {
    TEXT("scheme", SUB(hash, scheme)),
    NUMBER("cost", unsigned, SUB(hash, cost)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t admin_fields[] = {
    TEXT("address", SUB(admin, address)),
    NUMBER("port", uint16_t, SUB(admin, port)),
    TEXT("socket", SUB(admin, socket)),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t conf_fields[] = {
    TEXT("node", TOP(node)),
    TEXT("state_dir", TOP(state_dir)),
    TEXT("user", TOP(user)),
    TEXT("database", TOP(database)),
    STRINGS("roles", TOP(roles)),
    SECTION(log, log_fields),
    SECTION(tls, tls_fields),
    LIST("listen", struct conf_listen, &listen_entry, LISTEN_MAX, TOP(listen),
         TOP(listen_count)),
    SECTION(local, local_fields),
    SECTION(store, store_fields),
    SECTION(provision, provision_fields),
    SECTION(jobs, jobs_fields),
    SECTION(login, login_fields),
    SECTION(secrets, secrets_fields),
    SECTION(hash, hash_fields),
    SECTION(admin, admin_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t conf_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct conf, conf_fields),
};

/* What libcyaml says: the mistake, then where it is, innermost first. */
struct complaint {
    char text[160];
    char field[64];
    unsigned line;
    unsigned column;
};

__attribute__((format(printf, 3, 0))) static void
conf_on_complaint(cyaml_log_t level, void *ctx, const char *format,
                  va_list args)
{
    struct complaint *c = ctx;
    char said[256];
    const char *at;

    (void)level;
    vsnprintf(said, sizeof said, format, args);
    said[strcspn(said, "\n")] = '\0';
    at = strncmp(said, "Load: ", 6) == 0 ? said + 6 : said;
    if (c->text[0] == '\0') {
        snprintf(c->text, sizeof c->text, "%.*s", (int)sizeof c->text - 1, at);
        return;
    }
    if (c->line != 0)
        return;
    at = strstr(said, "(line: ");
    if (at == NULL)
        return;
    c->line = (unsigned)strtoul(at + strlen("(line: "), NULL, 10);
    at = strstr(at, "column: ");
    if (at != NULL)
        c->column = (unsigned)strtoul(at + strlen("column: "), NULL, 10);
    at = strstr(said, "field '");
    if (at != NULL)
        snprintf(c->field, sizeof c->field, "%.*s", (int)strcspn(at + 7, "'"),
                 at + 7);
}

static const cyaml_config_t *cyaml_settings(struct complaint *complaint,
                                            cyaml_config_t *out)
{
    *out = (cyaml_config_t){.log_fn = conf_on_complaint,
                            .log_ctx = complaint,
                            .mem_fn = cyaml_mem,
                            .log_level = CYAML_LOG_ERROR};
    return out;
}

static int read_text(const char *path, char **text_out, size_t *length_out,
                     struct err *err)
{
    FILE *file = fopen(path, "re");
    char *text;

    if (file == NULL)
        return err_set(err, ERR_SETUP, "%s: %m", path);
    text = mem_alloc(FILE_MAX + 1);
    *length_out = fread(text, 1, FILE_MAX, file);
    if (ferror(file) || *length_out == FILE_MAX) {
        err_set(err, ERR_SETUP, "%s: %s", path,
                ferror(file) ? "cannot be read" : "too long");
        free(text);
        fclose(file);
        return -1;
    }
    fclose(file);
    *text_out = text;
    return 0;
}

/* For a key it does not want, libcyaml names the place before the key. */
static unsigned line_of_complaint(const char *text, const struct complaint *c)
{
    static const char *const late[] = {
        "Unexpected key: ",
        "Mapping field already seen: ",
    };
    size_t i;

    for (i = 0; i < sizeof late / sizeof *late; i++)
        if (strncmp(c->text, late[i], strlen(late[i])) == 0)
            return conf_line_of_key(text, c->text + strlen(late[i]), c->line,
                                    c->column);
    return c->line > 0 ? c->line : 1;
}

/* Where libyaml stumbles: libcyaml names only the last key before it. */
static unsigned line_of_syntax(const char *text, size_t length)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool is_end = false;
    unsigned line = 1;

    if (yaml_parser_initialize(&parser) == 0)
        return line;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    while (!is_end && yaml_parser_parse(&parser, &event) == 1) {
        is_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    if (!is_end)
        line = (unsigned)parser.problem_mark.line + 1;
    yaml_parser_delete(&parser);
    return line;
}

static int parse(const char *path, const char *text, size_t length,
                 struct conf **conf_out, struct err *err)
{
    struct complaint complaint = {{0}, {0}, 0, 0};
    cyaml_config_t settings;
    cyaml_err_t status = cyaml_load_data(
        (const uint8_t *)text, length, cyaml_settings(&complaint, &settings),
        &conf_schema, (cyaml_data_t **)conf_out, NULL);
    bool is_key, is_syntax;

    if (status == CYAML_OK)
        return 0;
    if (complaint.text[0] == '\0')
        snprintf(complaint.text, sizeof complaint.text, "%s",
                 cyaml_strerror(status));
    is_syntax = strncmp(complaint.text, "libyaml", 7) == 0;
    is_key = strstr(complaint.text, " key: ") != NULL ||
             strstr(complaint.text, "field") != NULL || is_syntax;
    return err_set(err, ERR_SETUP, "%s:%u: %s%s%s", path,
                   is_syntax ? line_of_syntax(text, length)
                             : line_of_complaint(text, &complaint),
                   is_key ? "" : complaint.field,
                   is_key || complaint.field[0] == '\0' ? "" : ": ",
                   complaint.text);
}

static void default_text(char **at, const char *text)
{
    if (*at == NULL)
        *at = mem_dup_text(text);
}

static void default_number(unsigned *at, unsigned value)
{
    if (*at == 0)
        *at = value;
}

static void default_roles(struct conf_strings *roles)
{
    static const char *const names[] = {"login", "smtp", "jobs"};
    unsigned i;

    if (roles->count > 0)
        return;
    free(roles->items);
    roles->items = mem_alloc(sizeof names);
    roles->count = sizeof names / sizeof *names;
    for (i = 0; i < roles->count; i++)
        roles->items[i] = mem_dup_text(names[i]);
}

static void fill_defaults(struct conf *conf, const char *text)
{
    char host[256] = "localhost";

    if (gethostname(host, sizeof host - 1) == -1)
        host[0] = '\0';
    default_text(&conf->node, host[0] != '\0' ? host : "localhost");
    default_text(&conf->state_dir, "/var/lib/mailhaul");
    default_text(&conf->database, "sqlite:control.db");
    default_roles(&conf->roles);
    default_text(&conf->log.level, "info");
    default_text(&conf->log.to, "stderr");
    default_number(&conf->log.keep_days, 7);
    default_number(&conf->log.keep_megabytes, 1024);
    default_text(&conf->tls.minimum, "1.2");
    default_text(&conf->store.type, "maildir");
    default_text(&conf->store.reserve.bytes, "1G");
    default_text(&conf->store.reserve.inodes, "10000");
    if (getgrnam("dovecot") != NULL)
        default_text(&conf->provision.group, "dovecot");
    default_number(&conf->jobs.workers, 4);
    default_number(&conf->jobs.per_host, 8);
    default_number(&conf->jobs.delta_seconds, 300);
    default_number(&conf->jobs.trail_inbox_seconds, 300);
    default_number(&conf->jobs.trail_seconds, 900);
    default_number(&conf->jobs.retry_seconds, 30);
    default_number(&conf->jobs.on_flip_seconds, 60);
    default_number(&conf->login.hold_quiet_ms, 300);
    default_number(&conf->login.hold_force_ms, 5000);
    if (!conf_is_given(text, "login", "remember_minutes"))
        conf->login.remember_minutes = 10;
    default_text(&conf->admin.address, "127.0.0.1");
    default_text(&conf->admin.socket, "admin.sock");
    default_text(&conf->hash.scheme, "SHA512-CRYPT");
}

int conf_load(const char *path, struct conf **conf_out, struct err *err)
{
    struct conf *conf = NULL;
    char *text = NULL;
    size_t length = 0;
    int result;

    *conf_out = NULL;
    if (read_text(path, &text, &length, err) == -1)
        return -1;
    result = parse(path, text, length, &conf, err);
    if (result == 0) {
        if (conf == NULL) { /* what could be meant by it? */
            free(text);
            return err_set(err, ERR_SETUP, "%s:1: the file is empty", path);
        }
        conf->path = mem_dup_text(path);
        result = conf_check_given(conf, text, err);
        fill_defaults(conf, text);
        if (result == 0)
            result = conf_check(conf, text, err);
        if (result == 0)
            result = conf_read_reserve(conf, text, err);
    }
    free(text);
    if (result == -1)
        conf_free(&conf);
    *conf_out = conf;
    return result;
}

void conf_free(struct conf **conf)
{
    struct complaint complaint = {{0}, {0}, 0, 0};
    cyaml_config_t settings;

    if (*conf == NULL)
        return;
    free((*conf)->path); /* the only one that is not in the tables */
    cyaml_free(cyaml_settings(&complaint, &settings), &conf_schema, *conf, 0);
    *conf = NULL;
}

char *conf_key_path(const struct conf *conf)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char path[4096];

    if (conf->secrets.key != NULL)
        return mem_dup_text(conf->secrets.key);
    if (folder != NULL &&
        (size_t)snprintf(path, sizeof(path), "%s/mailhaul.key", folder) <
            sizeof(path) &&
        access(path, R_OK) == 0)
        return mem_dup_text(path);
    return mem_dup_text("/etc/mailhaul/mailhaul.key");
}

char *conf_state_path(const struct conf *conf, const char *name)
{
    size_t size = strlen(conf->state_dir) + strlen(name) + 2;
    char *path;

    if (name[0] == '/')
        return mem_dup_text(name);
    path = mem_alloc(size);
    snprintf(path, size, "%s/%s", conf->state_dir, name);
    return path;
}
