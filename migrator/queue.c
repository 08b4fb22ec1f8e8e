/*
 * The jobs role: what was leased from state, who works on it, and the words
 * that go between. Owns the channels to state and to the workers, and the
 * passwords from the moment a seal is opened until they are sent. Leaves
 * starting processes to its user, deciding what is due to state.
 */
#include "migrator/queue.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account/provision.h"
#include "account/seal.h"
#include "account/wire.h"
#include "base/channel.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/hash.h"
#include "migrator/job.h"
#include "migrator/job_passwords.h"
#include "migrator/report.h"
#include "migrator/rewrap.h"

#define QUEUE_URGENT_SLOTS 4
#define QUEUE_HEARTBEAT_MS 2000
#define QUEUE_RECONNECT_MS 300
#define QUEUE_NAME_MAX     200 /* of a ledger directory, before the hash */

enum errand_state {
    ERRAND_SPAWN,
    ERRAND_RUN,
    ERRAND_HASH,
    ERRAND_CANCELLED,
    ERRAND_ORPHAN,
    ERRAND_END,
    ERRAND_COUNT
};
static const char *const errand_names[] = {"spawn",     "run",    "hash",
                                           "cancelled", "orphan", "end"};
_Static_assert(sizeof errand_names / sizeof *errand_names == ERRAND_COUNT,
               "a name for each state");

/* One leased job. */
struct errand {
    struct errand *next;
    struct queue *queue; /* borrowed */
    enum errand_state state;
    int64_t request; /* number of the worker or the hash asked for */
    struct migration_job job;
    bool is_answered; /* by queue_worker_started or the hash pool */
    bool has_exited;
    pid_t pid;
    json_t *asked;          /* owned; of a hash: the message. Else NULL */
    struct channel *worker; /* owned; NULL when closed */
    json_t *told;           /* owned: last progress, NULL: none yet */
    json_t *done;           /* owned: what state will be told, NULL: not yet */
};

struct queue {
    struct loop *loop;
    const struct conf *conf;
    char *state_socket; /* owned */
    struct keyring keys;
    struct secret local_password; /* empty: local has no master user */
    queue_spawn_fn *spawn;
    void *spawn_ctx;
    struct mail_url local_imap;
    struct channel *state; /* owned; NULL while state is away */
    struct timer *reconnect, *heartbeat;
    struct timer *sweep, *lease; /* at the end of this turn */
    struct hash_pool *hashes;
    struct errand *errands;
    int64_t last_request;
    bool is_draining;
    loop_fn *on_drained;
    void *drained_ctx;
};

static bool kind_is_urgent(enum job_kind kind)
{
    return kind == JOB_FINAL || kind == JOB_ROLLBACK || kind == JOB_HASH;
}

/* ---- towards state ---- */

static void queue_tell_state(struct queue *q, json_t *message)
{
    if (q->state != NULL)
        channel_send_take(q->state, message, -1);
    else
        json_decref(message);
}

static void queue_lease_now(void *ctx)
{
    struct queue *q = ctx;
    int64_t slots = q->conf->jobs.workers, urgent = QUEUE_URGENT_SLOTS;

    if (q->is_draining || q->state == NULL)
        return;
    for (const struct errand *e = q->errands; e != NULL; e = e->next) {
        if (kind_is_urgent(e->job.kind))
            urgent--;
        else
            slots--;
    }
    queue_tell_state(q, json_pack("{s:s, s:I, s:I}", "m", "lease", "free",
                                  (json_int_t)(slots > 0 ? slots : 0), "urgent",
                                  (json_int_t)(urgent > 0 ? urgent : 0)));
}

/* Ask once, when everything that ended in this turn is counted. */
static void queue_lease(struct queue *q)
{
    timer_start(q->lease, 0);
}

static json_t *done_new(const struct errand *e, const struct err *err)
{
    return json_pack("{s:s, s:I, s:s, s:s%}", "m", "done", "job",
                     (json_int_t)e->job.id, "kind", err_kind_name(err->kind),
                     "text", err->text, strnlen(err->text, sizeof err->text));
}

/* What a peer put into the text may be no UTF-8, which JSON refuses. */
static json_t *done_with(const struct errand *e, const struct err *err)
{
    json_t *done = done_new(e, err);

    if (done == NULL)
        done = json_pack("{s:s, s:I, s:s, s:s}", "m", "done", "job",
                         (json_int_t)e->job.id, "kind",
                         err_kind_name(err->kind), "text", log_safe(err->text));
    return done;
}

/* ---- one errand ---- */

static bool errand_may_end(const struct errand *e)
{
    /* who has been asked for something must wait for the answer, and who has a
       worker for its death */
    return e->is_answered && (e->pid <= 0 || e->has_exited) &&
           e->worker == NULL;
}

static void errand_on_message(void *ctx, json_t *message, int fd);
static void errand_on_closed(void *ctx);

static void errand_send_job(struct errand *e)
{
    channel_send_take(e->worker, migration_job_encode(&e->job), -1);
    migration_job_release(&e->job);
}

/* The only exit: state is told once (an orphan's is gone), freed later. */
static void errand_finish(struct errand *e)
{
    struct queue *q = e->queue;
    struct err err = {0};

    if (e->state == ERRAND_CANCELLED) {
        json_decref(e->done);
        err_set(&err, ERR_RETRY, "cancelled");
        e->done = done_with(e, &err);
    } else if (e->done == NULL) {
        err_set(&err, ERR_RETRY, "worker ended without a word");
        e->done = done_with(e, &err);
    }
    if (e->state != ERRAND_ORPHAN) {
        log_info("job=%lld kind=%s account=%lld done result=%s text=\"%s\"",
                 (long long)e->job.id, job_kind_name(e->job.kind),
                 (long long)e->job.account_id, wire_text(e->done, "kind"),
                 log_safe(wire_text(e->done, "text")));
        queue_tell_state(q, e->done);
        e->done = NULL;
    }
    e->state = ERRAND_END;
    timer_start(q->sweep, 0);
    queue_lease(q);
}

/* What it is told comes back with the answer. */
static void errand_ask_hash(struct errand *e)
{
    struct hash_request request = {.id = e->request,
                                   .password = &e->job.password};
    const json_t *known;
    size_t i;

    json_array_foreach(json_object_get(e->asked, "hashes"), i, known)
    {
        const char *hash = json_string_value(known);

        if (request.known_count < HASH_KNOWN_MAX)
            request.known[request.known_count++] = hash != NULL ? hash : "";
    }
    hash_pool_ask(e->queue->hashes, &request);
}

/* The only writer of e->state, save for errand_finish. */
static void errand_enter(struct errand *e, enum errand_state next)
{
    struct queue *q = e->queue;

    log_debug("job=%lld %s -> %s", (long long)e->job.id, errand_names[e->state],
              errand_names[next]);
    e->state = next;
    switch (next) {
    case ERRAND_SPAWN: q->spawn(q->spawn_ctx, e->request); break;
    case ERRAND_HASH: errand_ask_hash(e); break;
    case ERRAND_RUN: errand_send_job(e); break;
    case ERRAND_CANCELLED:
    case ERRAND_ORPHAN:
        migration_job_release(&e->job);
        channel_free(&e->worker);
        if (errand_may_end(e))
            errand_finish(e);
        break;
    case ERRAND_END:
    case ERRAND_COUNT: break;
    }
}

static void errand_free(struct errand *e)
{
    channel_free(&e->worker);
    migration_job_release(&e->job);
    json_decref(e->told);
    json_decref(e->asked);
    json_decref(e->done);
    free(e);
}

/* Free what has ended, and tell who waits for the drain. */
static void errand_sweep(void *ctx)
{
    struct queue *q = ctx;

    for (struct errand **e = &q->errands; *e != NULL;) {
        struct errand *ended = *e;

        if (ended->state == ERRAND_END) {
            *e = ended->next;
            errand_free(ended);
        } else {
            e = &ended->next;
        }
    }
    if (q->is_draining && q->errands == NULL && q->on_drained != NULL) {
        loop_fn *fn = q->on_drained;

        q->on_drained = NULL;
        loop_defer(q->loop, fn, q->drained_ctx);
    }
}

static void errand_take_done(struct errand *e, json_t *message)
{
    const char *kind = wire_text(message, "kind");
    json_t *done = json_deep_copy(message);

    if (kind == NULL)
        json_object_set_new(done, "kind", json_string("retry"));
    if (wire_text(message, "text") == NULL)
        json_object_set_new(done, "text", json_string(""));
    json_object_set_new(done, "job", json_integer(e->job.id));
    json_decref(e->done);
    e->done = done;
}

static void errand_on_message(void *ctx, json_t *message, int fd)
{
    struct errand *e = ctx;
    const char *word = wire_text(message, "m");

    if (fd != -1)
        close(fd);
    if (word == NULL)
        return;
    if (strcmp(word, "progress") == 0) {
        json_decref(e->told);
        e->told = json_deep_copy(message);
    } else if (strcmp(word, "done") == 0) {
        errand_take_done(e, message);
    }
}

static void errand_on_closed(void *ctx)
{
    struct errand *e = ctx;

    channel_free(&e->worker);
    if (errand_may_end(e))
        errand_finish(e);
}

static struct errand *errand_of_request(struct queue *q, int64_t request)
{
    struct errand *e = q->errands;

    while (e != NULL && (e->request != request || e->state == ERRAND_END))
        e = e->next;
    return e;
}

void queue_worker_started(struct queue *q, int64_t request, pid_t pid, int fd,
                          const char *text)
{
    struct errand *e = errand_of_request(q, request);
    struct err err = {0};

    if (e == NULL || e->is_answered) {
        if (fd != -1)
            close(fd); /* it ends by itself */
        return;
    }
    e->is_answered = true;
    e->pid = fd == -1 ? 0 : pid;
    if (e->state != ERRAND_SPAWN) { /* cancelled or orphaned meanwhile */
        if (fd != -1)
            close(fd);
        else
            errand_finish(e);
        return;
    }
    if (fd == -1) {
        err_set(&err, ERR_RETRY, "no worker: %s", text != NULL ? text : "?");
        e->done = done_with(e, &err);
        errand_finish(e);
        return;
    }
    e->worker =
        channel_new_take(q->loop, fd, errand_on_message, errand_on_closed, e);
    errand_enter(e, ERRAND_RUN);
}

static void errand_note_status(struct errand *e, int status)
{
    struct err err = {0};

    if (e->done != NULL || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return;
    if (WIFSIGNALED(status))
        err_set(&err, ERR_RETRY, "worker killed by signal %d",
                WTERMSIG(status));
    else
        err_set(&err, ERR_RETRY, "worker exited with %d", WEXITSTATUS(status));
    e->done = done_with(e, &err);
}

void queue_worker_exited(struct queue *q, pid_t pid, int status)
{
    for (struct errand *e = q->errands; e != NULL; e = e->next) {
        if (e->pid != pid || e->has_exited || e->state == ERRAND_END)
            continue;
        e->has_exited = true;
        /* with its channel still open, its last words may be unread; a later
           done replaces what is noted here */
        errand_note_status(e, status);
        if (errand_may_end(e))
            errand_finish(e);
        return;
    }
}

static void queue_on_hash(void *ctx, const struct hash_answer *answer)
{
    static const char *const returned[] = {"credential", "of", "known"};
    struct errand *e = errand_of_request(ctx, answer->id);

    if (e == NULL)
        return;
    e->is_answered = true;
    e->done = done_with(e, answer->err);
    for (size_t i = 0; i < sizeof returned / sizeof *returned; i++)
        if (json_object_get(e->asked, returned[i]) != NULL)
            json_object_set(e->done, returned[i],
                            json_object_get(e->asked, returned[i]));
    if (answer->match >= 0)
        json_object_set_new(e->done, "match", json_integer(answer->match));
    if (answer->hash != NULL)
        json_object_set_new(e->done, "hash", json_string(answer->hash));
    errand_finish(e);
}

/* ---- a job from state ---- */

static uint64_t text_hash(const char *text) /* FNV-1a */
{
    uint64_t hash = 14695981039346656037u;

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

int queue_ledger_dir(const struct conf *conf, const char *address, char *out,
                     size_t size, struct err *err)
{
    uint64_t hash = text_hash(address);
    char *root = conf_state_path(conf, "ledger");
    bool is_long = strlen(address) > QUEUE_NAME_MAX;
    int length = snprintf(out, size, "%s/%02x/%.*s", root,
                          (unsigned)(hash & 0xff), QUEUE_NAME_MAX, address);

    free(root);
    if (is_long && length > 0 && (size_t)length < size)
        length += snprintf(out + length, size - (size_t)length, "-%016llx",
                           (unsigned long long)hash);
    if (address[0] == '\0' || address[0] == '.' || strchr(address, '/') != NULL)
        return err_set(err, ERR_SETUP, "no ledger for such an address");
    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "state_dir is too long for a ledger");
    return 0;
}

static int copy_field(const json_t *message, const char *field, char *out,
                      size_t size)
{
    const char *text = wire_text(message, field);

    if (text == NULL)
        text = "";
    return (size_t)snprintf(out, size, "%s", text) < size ? 0 : -1;
}

static int job_take_urls(const json_t *message, struct migration_job *job,
                         struct err *err)
{
    const char *imap = wire_text(message, "imap");
    const char *pop3 = wire_text(message, "pop3");

    if (imap != NULL && imap[0] != '\0' &&
        mail_url_parse(imap, &job->legacy_imap, err) == -1)
        return -1;
    if (pop3 != NULL && pop3[0] != '\0' &&
        mail_url_parse(pop3, &job->legacy_pop3, err) == -1)
        return -1;
    return 0;
}

static int job_take_names(const json_t *message, struct migration_job *job,
                          struct err *err)
{
    const json_t *options = json_object_get(message, "options");

    job->has_prefix = wire_text(message, "prefix") != NULL;
    if (copy_field(message, "address", job->address, sizeof job->address) ||
        copy_field(message, "legacy_user", job->legacy_user,
                   sizeof job->legacy_user) ||
        copy_field(message, "prefix", job->prefix, sizeof job->prefix) ||
        copy_field(message, "separator", job->separator,
                   sizeof job->separator) ||
        copy_field(message, "mailbox_id", job->mailbox_id,
                   sizeof job->mailbox_id) ||
        copy_field(message, "exclude", job->exclude, sizeof job->exclude))
        return err_set(err, ERR_SETUP, "a name in the job is too long");
    job->inbox_only = wire_bool(options, "inbox_only");
    job->is_full = wire_bool(options, "is_full");
    job->is_last = wire_bool(options, "is_last");
    job->with_changes = wire_bool(options, "with_changes");
    job->is_verified_too = wire_bool(options, "verify");
    job->checks_master = wire_bool(options, "check_master");
    job->asks_local = wire_bool(options, "ask_local");
    return 0;
}

static int job_take_conf(const struct queue *q, struct migration_job *job,
                         struct err *err)
{
    const char *ca_file = q->conf->tls.ca_file;
    const char *minimum = q->conf->tls.minimum;

    const struct conf_strings *doveadm = &q->conf->provision.doveadm;

    job->local_imap = q->local_imap;
    job->reserve_bytes = q->conf->store.reserve.bytes_kept;
    job->reserve_inodes = q->conf->store.reserve.inodes_kept;
    if (q->conf->provision.dovecot != NULL)
        for (unsigned i = 0; i < doveadm->count && i < MIGRATION_DOVEADM_MAX;
             i++)
            job->doveadm[i] = mem_dup_text(doveadm->items[i]);
    if (q->local_password.length > 0) {
        secret_set(&job->local_password, q->local_password.bytes,
                   q->local_password.length);
        if ((size_t)snprintf(job->local_master, sizeof job->local_master, "%s",
                             q->conf->local.master_user) >=
            sizeof job->local_master)
            return err_set(err, ERR_SETUP, "local.master_user is too long");
    }
    if ((size_t)snprintf(job->ca_file, sizeof job->ca_file, "%s",
                         ca_file != NULL ? ca_file : "") >=
            sizeof job->ca_file ||
        (size_t)snprintf(job->tls_minimum, sizeof job->tls_minimum, "%s",
                         minimum != NULL ? minimum : "1.2") >=
            sizeof job->tls_minimum)
        return err_set(err, ERR_SETUP, "tls.ca_file or tls.minimum too long");
    if (provision_maildir(q->conf, job->address, job->maildir,
                          sizeof job->maildir, err) == -1)
        return -1;
    return queue_ledger_dir(q->conf, job->address, job->ledger_dir,
                            sizeof job->ledger_dir, err);
}

static int job_take(const struct queue *q, const json_t *message,
                    struct migration_job *job, struct err *err)
{
    if (job_take_names(message, job, err) == -1)
        return -1;
    if (job_passwords_take(message, &q->keys, job, err) == -1)
        return -1;
    if (job->kind == JOB_HASH)
        return 0;
    if (job_take_urls(message, job, err) == -1)
        return -1;
    if (job->legacy_imap.host[0] == '\0')
        return err_set(err, ERR_SETUP, "the domain has no IMAP server");
    return job_take_conf(q, job, err);
}

static bool queue_has_account(const struct queue *q, int64_t account)
{
    for (const struct errand *e = q->errands; e != NULL; e = e->next)
        if (e->job.account_id == account && e->state != ERRAND_END &&
            e->job.kind != JOB_HASH)
            return true;
    return false;
}

/* A process of an earlier generation has not the newest key: what it cannot
   open is not lost for that. */
static bool is_for_others(const struct queue *q, const json_t *message)
{
    return json_object_get(message, "newest") != NULL &&
           !rewrap_is_newest(&q->keys, message);
}

static void queue_on_job(struct queue *q, const json_t *message)
{
    const char *word = wire_text(message, "kind");
    int kind = word != NULL ? job_kind_named(word) : -1;
    struct errand *e = mem_alloc(sizeof *e);
    struct err err = {0};
    bool is_busy;

    e->queue = q;
    e->request = ++q->last_request;
    e->job.id = wire_int(message, "job", 0);
    e->job.account_id = wire_int(message, "account", 0);
    e->job.epoch = wire_int(message, "epoch", 0);
    e->job.kind = kind < 0 ? JOB_VERIFY : (enum job_kind)kind;
    secret_init(&e->job.password);
    is_busy = kind != JOB_HASH && queue_has_account(q, e->job.account_id);
    e->next = q->errands;
    q->errands = e;
    if (kind == JOB_HASH)
        e->asked = json_deep_copy(message);
    if (kind < 0)
        err_set(&err, ERR_SETUP, "a kind of job we do not know");
    else if (is_busy) /* an orphan of the state process before this one */
        err_set(&err, ERR_RETRY, "the worker before has not ended yet");
    else if (is_for_others(q, message))
        err_set(&err, ERR_RETRY, "a newer sealing key is in use");
    else if (job_take(q, message, &e->job, &err) == 0) {
        errand_enter(e, kind == JOB_HASH ? ERRAND_HASH : ERRAND_SPAWN);
        return;
    }
    e->is_answered = true;
    e->done = done_with(e, &err);
    errand_finish(e);
}

static void queue_on_cancel(struct queue *q, int64_t job)
{
    for (struct errand *e = q->errands; e != NULL; e = e->next)
        if (e->job.id == job && e->state < ERRAND_CANCELLED) {
            errand_enter(e, ERRAND_CANCELLED);
            return;
        }
}

static void queue_on_keys(struct queue *q, const char *word,
                          const json_t *message)
{
    if (strcmp(word, "rewrap") == 0)
        channel_send_take(q->state, rewrap_answer(&q->keys, message), -1);
    else if (strcmp(word, "forget_keys") == 0)
        keyring_keep_newest(&q->keys);
}

static void queue_on_state_message(void *ctx, json_t *message, int fd)
{
    struct queue *q = ctx;
    const char *word = wire_text(message, "m");

    if (fd != -1)
        close(fd);
    if (word == NULL)
        return;
    if (strcmp(word, "job") == 0)
        queue_on_job(q, message);
    else if (strcmp(word, "cancel") == 0)
        queue_on_cancel(q, wire_int(message, "job", 0));
    else if (strcmp(word, "wake") == 0)
        queue_lease(q);
    else if (rewrap_is_newest(&q->keys, message))
        queue_on_keys(q, word, message);
}

/* Whoever leased the jobs is gone, and with him the leases. */
static void queue_on_state_closed(void *ctx)
{
    struct queue *q = ctx;

    log_warn("state is away");
    channel_free(&q->state);
    for (struct errand *e = q->errands; e != NULL; e = e->next)
        if (e->state < ERRAND_ORPHAN)
            errand_enter(e, ERRAND_ORPHAN);
    timer_start(q->reconnect, QUEUE_RECONNECT_MS);
}

static void queue_connect(void *ctx)
{
    struct queue *q = ctx;
    struct err err = {0};
    int fd = channel_connect_unix(q->state_socket, &err);

    if (fd == -1) {
        log_debug("state: %s", err.text);
        timer_start(q->reconnect, QUEUE_RECONNECT_MS);
        return;
    }
    q->state = channel_new_take(q->loop, fd, queue_on_state_message,
                                queue_on_state_closed, q);
    queue_tell_state(q, json_pack("{s:s, s:s, s:I}", "m", "hello", "role",
                                  "jobs", "pid", (json_int_t)getpid()));
    queue_lease(q);
}

/* The lease is ours as long as we say so; what the worker counts goes along. */
static void queue_on_heartbeat(void *ctx)
{
    static const char *const fields[] = {"folders", "messages", "bytes",
                                         "messages_total", "bytes_total"};
    struct queue *q = ctx;

    for (const struct errand *e = q->errands; e != NULL; e = e->next) {
        json_t *beat;

        if (e->state == ERRAND_ORPHAN || e->state == ERRAND_END)
            continue;
        beat = json_pack("{s:s, s:I}", "m", "progress", "job",
                         (json_int_t)e->job.id);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (e->told != NULL && json_object_get(e->told, fields[i]) != NULL)
                json_object_set(beat, fields[i],
                                json_object_get(e->told, fields[i]));
        queue_tell_state(q, beat);
    }
    timer_start(q->heartbeat, QUEUE_HEARTBEAT_MS);
}

/* ---- the queue ---- */

static int queue_check_conf(const struct conf *conf, struct mail_url *imap_out,
                            struct err *err)
{
    struct secret probe;
    char hash[HASH_SIZE];
    int result;

    if (conf->local.imap != NULL &&
        mail_url_parse(conf->local.imap, imap_out, err) == -1)
        return err_prefix(err, "local.imap");
    secret_init(&probe);
    secret_set(&probe, "x", 1);
    result = hash_make(conf->hash.scheme, conf->hash.cost, &probe, hash, err);
    secret_wipe(&probe);
    return result;
}

int queue_start(const struct queue_options *options, struct queue **out,
                struct err *err)
{
    const struct conf *conf = options->conf;
    struct queue *q = mem_alloc(sizeof *q);

    if (queue_check_conf(conf, &q->local_imap, err) == -1) {
        free(q);
        return -1;
    }
    q->loop = options->loop;
    q->conf = conf;
    q->state_socket = mem_dup_text(options->state_socket);
    keyring_init(&q->keys);
    keyring_copy(&q->keys, options->keys);
    secret_init(&q->local_password);
    if (options->local_password != NULL && conf->local.master_user != NULL)
        secret_set(&q->local_password, options->local_password->bytes,
                   options->local_password->length);
    q->spawn = options->spawn;
    q->spawn_ctx = options->spawn_ctx;
    q->reconnect = timer_new(q->loop, queue_connect, q);
    q->heartbeat = timer_new(q->loop, queue_on_heartbeat, q);
    q->sweep = timer_new(q->loop, errand_sweep, q);
    q->lease = timer_new(q->loop, queue_lease_now, q);
    q->hashes = hash_pool_new(q->loop, conf->hash.scheme, conf->hash.cost,
                              queue_on_hash, q);
    timer_start(q->reconnect, 0);
    timer_start(q->heartbeat, QUEUE_HEARTBEAT_MS);
    *out = q;
    return 0;
}

void queue_drain(struct queue *q, loop_fn *fn, void *ctx)
{
    q->is_draining = true;
    q->on_drained = fn;
    q->drained_ctx = ctx;
    timer_start(q->sweep, 0);
}

void queue_free(struct queue **queue)
{
    struct queue *q = *queue;

    if (q == NULL)
        return;
    *queue = NULL;
    channel_free(&q->state);
    hash_pool_free(&q->hashes);
    timer_free(&q->reconnect);
    timer_free(&q->heartbeat);
    timer_free(&q->sweep);
    timer_free(&q->lease);
    while (q->errands != NULL) {
        struct errand *e = q->errands;

        q->errands = e->next;
        errand_free(e);
    }
    keyring_release(&q->keys);
    secret_wipe(&q->local_password);
    free(q->state_socket);
    free(q);
}
