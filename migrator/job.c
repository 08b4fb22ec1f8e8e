#include "migrator/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "base/mem.h"

static int get_text(const json_t *message, const char *field, char *out,
                    size_t size, struct err *err)
{
    const json_t *value = json_object_get(message, field);
    const char *text = json_string_value(value);

    out[0] = '\0';
    if (text == NULL)
        return 0;
    if (json_string_length(value) >= size || strlen(text) >= size)
        return err_set(err, ERR_SETUP, "job: %s too long", field);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int get_url(const json_t *message, const char *field,
                   struct mail_url *out, struct err *err)
{
    const char *text = json_string_value(json_object_get(message, field));

    *out = (struct mail_url){0};
    if (text == NULL || text[0] == '\0')
        return 0;
    return mail_url_parse(text, out, err);
}

static int get_texts(const json_t *m, struct migration_job *j, struct err *err)
{
    const struct {
        const char *field;
        char *out;
        size_t size;
    } texts[] = {
        {"address", j->address, sizeof(j->address)},
        {"legacy_user", j->legacy_user, sizeof(j->legacy_user)},
        {"master_user", j->master_user, sizeof(j->master_user)},
        {"master_login", j->master_login, sizeof(j->master_login)},
        {"local_master", j->local_master, sizeof(j->local_master)},
        {"ca_file", j->ca_file, sizeof(j->ca_file)},
        {"tls_minimum", j->tls_minimum, sizeof(j->tls_minimum)},
        {"maildir", j->maildir, sizeof(j->maildir)},
        {"ledger_dir", j->ledger_dir, sizeof(j->ledger_dir)},
        {"prefix", j->prefix, sizeof(j->prefix)},
        {"separator", j->separator, sizeof(j->separator)},
        {"mailbox_id", j->mailbox_id, sizeof(j->mailbox_id)},
        {"exclude", j->exclude, sizeof(j->exclude)},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (get_text(m, texts[i].field, texts[i].out, texts[i].size, err) == -1)
            return -1;
    return 0;
}

static int check_job(const struct migration_job *j, struct err *err)
{
    if (j->address[0] == '\0' || j->legacy_user[0] == '\0')
        return err_set(err, ERR_SETUP, "job: address or legacy_user missing");
    if (j->maildir[0] != '/' || j->ledger_dir[0] != '/')
        return err_set(err, ERR_SETUP,
                       "job: maildir and ledger_dir must be absolute paths");
    if (j->legacy_imap.host[0] == '\0')
        return err_set(err, ERR_SETUP, "job: legacy_imap missing");
    return 0;
}

static void get_password(const json_t *message, struct secret *out)
{
    const json_t *text = json_object_get(message, "password");
    char bytes[1024];
    long length;

    if (json_is_string(text)) {
        secret_set(out, json_string_value(text), json_string_length(text));
        return;
    }
    length = wire_bytes(message, "password64", bytes, sizeof(bytes));
    if (length >= 0)
        secret_set(out, bytes, (size_t)length);
    explicit_bzero(bytes, sizeof(bytes));
}

static void get_gate(const json_t *message, struct migration_job *out)
{
    const json_t *words = json_object_get(message, "doveadm");
    size_t count = json_array_size(words);

    out->is_verified_too = json_is_true(json_object_get(message, "verify"));
    out->checks_master = json_is_true(json_object_get(message, "check_master"));
    out->asks_local = json_is_true(json_object_get(message, "ask_local"));
    out->reserve_bytes =
        (uint64_t)json_integer_value(json_object_get(message, "reserve_bytes"));
    out->reserve_inodes = (uint64_t)json_integer_value(
        json_object_get(message, "reserve_inodes"));
    if (count > MIGRATION_DOVEADM_MAX)
        count = MIGRATION_DOVEADM_MAX;
    for (size_t i = 0; i < count; i++) {
        const char *word = json_string_value(json_array_get(words, i));

        out->doveadm[i] = mem_dup_text(word != NULL ? word : "");
    }
}

static void get_more(const json_t *message, struct migration_job *out)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(message, "more"), i, entry)
    {
        struct migration_password *more = &out->more[out->more_count];

        if (out->more_count == MIGRATION_PASSWORDS_MAX)
            return;
        secret_init(&more->secret);
        more->credential =
            json_integer_value(json_object_get(entry, "credential"));
        get_password(entry, &more->secret);
        out->more_count++;
    }
}

int migration_job_decode(const json_t *message, struct migration_job *out,
                         struct err *err)
{
    const char *kind = json_string_value(json_object_get(message, "kind"));
    int number = kind == NULL ? -1 : job_kind_named(kind);

    memset(out, 0, sizeof(*out));
    secret_init(&out->password);
    if (number == -1)
        return err_set(err, ERR_SETUP, "job: no such kind");
    out->kind = (enum job_kind)number;
    out->id = json_integer_value(json_object_get(message, "id"));
    out->account_id =
        json_integer_value(json_object_get(message, "account_id"));
    out->epoch = json_integer_value(json_object_get(message, "epoch"));
    out->has_prefix = json_is_true(json_object_get(message, "has_prefix"));
    out->inbox_only = json_is_true(json_object_get(message, "inbox_only"));
    out->is_full = json_is_true(json_object_get(message, "is_full"));
    out->is_last = json_is_true(json_object_get(message, "is_last"));
    out->with_changes = json_is_true(json_object_get(message, "with_changes"));
    get_gate(message, out);
    out->credential =
        json_integer_value(json_object_get(message, "credential"));
    get_password(message, &out->password);
    get_password(json_object_get(message, "local"), &out->local_password);
    get_more(message, out);
    if (get_texts(message, out, err) == -1 ||
        get_url(message, "legacy_imap", &out->legacy_imap, err) == -1 ||
        get_url(message, "legacy_pop3", &out->legacy_pop3, err) == -1 ||
        get_url(message, "local_imap", &out->local_imap, err) == -1 ||
        check_job(out, err) == -1) {
        migration_job_release(out);
        return -1;
    }
    return 0;
}

static void put_url(json_t *message, const char *field,
                    const struct mail_url *url)
{
    char text[320];

    if (url->host[0] != '\0')
        json_object_set_new(message, field,
                            json_string(mail_url_format(url, text)));
}

/* A password may be any bytes but NUL; JSON carries only UTF-8. */
static void put_password(json_t *message, const struct secret *password)
{
    const char *bytes = password->bytes != NULL ? password->bytes : "";
    json_t *text = json_stringn(bytes, password->length);

    if (text != NULL)
        json_object_set_new(message, "password", text);
    else
        wire_put_bytes(message, "password64", bytes, password->length);
}

static void put_gate(json_t *m, const struct migration_job *job)
{
    json_t *words = json_array();

    for (size_t i = 0; job->doveadm[i] != NULL; i++)
        json_array_append_new(words, json_string(job->doveadm[i]));
    json_object_set_new(m, "doveadm", words);
    json_object_set_new(m, "verify", json_boolean(job->is_verified_too));
    json_object_set_new(m, "check_master", json_boolean(job->checks_master));
    json_object_set_new(m, "ask_local", json_boolean(job->asks_local));
    json_object_set_new(m, "reserve_bytes",
                        json_integer((json_int_t)job->reserve_bytes));
    json_object_set_new(m, "reserve_inodes",
                        json_integer((json_int_t)job->reserve_inodes));
}

static void put_more(json_t *message, const struct migration_job *job)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < job->more_count; i++) {
        json_t *entry = json_pack("{s:I}", "credential",
                                  (json_int_t)job->more[i].credential);

        put_password(entry, &job->more[i].secret);
        json_array_append_new(list, entry);
    }
    json_object_set_new(message, "more", list);
}

json_t *migration_job_encode(const struct migration_job *job)
{
    json_t *m = json_pack(
        "{s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, "
        "s:b, s:s, s:s, s:b, s:b}",
        "id", (json_int_t)job->id, "account_id", (json_int_t)job->account_id,
        "epoch", (json_int_t)job->epoch, "kind", job_kind_name(job->kind),
        "address", job->address, "legacy_user", job->legacy_user, "master_user",
        job->master_user, "master_login", job->master_login, "credential",
        (json_int_t)job->credential, "ca_file", job->ca_file, "tls_minimum",
        job->tls_minimum, "maildir", job->maildir, "ledger_dir",
        job->ledger_dir, "has_prefix", job->has_prefix, "prefix", job->prefix,
        "separator", job->separator, "inbox_only", job->inbox_only, "is_full",
        job->is_full);

    if (m == NULL) /* a text that is no UTF-8 */
        return json_object();
    json_object_set_new(m, "mailbox_id", json_string(job->mailbox_id));
    json_object_set_new(m, "exclude", json_string(job->exclude));
    json_object_set_new(m, "is_last", json_boolean(job->is_last));
    json_object_set_new(m, "with_changes", json_boolean(job->with_changes));
    put_gate(m, job);
    put_url(m, "legacy_imap", &job->legacy_imap);
    put_url(m, "legacy_pop3", &job->legacy_pop3);
    put_url(m, "local_imap", &job->local_imap);
    put_password(m, &job->password);
    put_more(m, job);
    if (job->local_password.length > 0) {
        json_t *local = json_object();

        put_password(local, &job->local_password);
        json_object_set_new(m, "local", local);
        json_object_set_new(m, "local_master", json_string(job->local_master));
    }
    return m;
}

const struct secret *
migration_job_local_password(const struct migration_job *job, struct err *err)
{
    if (job->local_password.length > 0)
        return &job->local_password;
    if (job->master_user[0] == '\0')
        return &job->password;
    err_set(err, ERR_SETUP,
            "no password is known for local: local.master_user is not set");
    return NULL;
}

bool migration_job_next_password(struct migration_job *job)
{
    if (job->more_count == 0)
        return false;
    secret_wipe(&job->password);
    job->password = job->more[0].secret;
    job->credential = job->more[0].credential;
    job->more_count--;
    memmove(job->more, job->more + 1, job->more_count * sizeof(*job->more));
    secret_init(&job->more[job->more_count].secret);
    return true;
}

void migration_job_release(struct migration_job *job)
{
    secret_wipe(&job->password);
    for (size_t i = 0; job->doveadm[i] != NULL; i++) {
        free(job->doveadm[i]);
        job->doveadm[i] = NULL;
    }
    secret_wipe(&job->local_password);
    for (unsigned i = 0; i < job->more_count; i++)
        secret_wipe(&job->more[i].secret);
    job->more_count = 0;
}
