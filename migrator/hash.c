/*
 * Password hashes: libcrypt, and a small pool of threads whose results come
 * back through an eventfd. Owns the threads and copies of the passwords (wiped
 * as soon as they are hashed); knows nothing of jobs.
 */
#include "migrator/hash.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define HASH_THREADS 2

struct hash_scheme {
    const char *name;
    const char *crypt_prefix;
    const char *dovecot_prefix;
};

/* Dovecot hands {CRYPT} to the system's crypt(3), which knows all three. */
static const struct hash_scheme schemes[] = {
    {"SHA512-CRYPT", "$6$", "{SHA512-CRYPT}"},
    {"YESCRYPT", "$y$", "{CRYPT}"},
    {"BCRYPT", "$2b$", "{CRYPT}"},
};

struct hash_task {
    struct hash_task *next;
    int64_t id;
    struct secret password;
    char *known[HASH_KNOWN_MAX]; /* owned */
    size_t known_count;
    int match;
    bool has_hash;
    char hash[HASH_SIZE];
    struct err err;
};

struct hash_list {
    struct hash_task *first;
    struct hash_task **last;
};

struct hash_pool {
    char *scheme; /* owned */
    unsigned cost;
    hash_fn *fn;
    void *ctx;
    int event_fd;
    struct watch *watch;
    pthread_t threads[HASH_THREADS];
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t has_work;
    struct hash_list asked, made;
    bool is_ending;
};

static const struct hash_scheme *scheme_named(const char *name)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strcmp(schemes[i].name, name) == 0)
            return &schemes[i];
    return NULL;
}

int hash_make(const char *scheme, unsigned cost, const struct secret *password,
              char out[HASH_SIZE], struct err *err)
{
    const struct hash_scheme *s = scheme_named(scheme);
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *scratch;
    const char *made;
    int result = 0;

    if (s == NULL)
        return err_set(err, ERR_SETUP, "hash.scheme %s is not known", scheme);
    if (password->bytes == NULL ||
        memchr(password->bytes, '\0', password->length) != NULL)
        return err_set(err, ERR_DENIED, "the password is empty or has a NUL");
    if (crypt_gensalt_rn(s->crypt_prefix, cost, NULL, 0, salt, sizeof salt) ==
        NULL)
        return err_set(err, ERR_SETUP, "hash.scheme %s, hash.cost %u: %s",
                       scheme, cost, strerror(errno));
    scratch = mem_alloc(sizeof *scratch);
    made = crypt_r(password->bytes, salt, scratch);
    if (made == NULL || made[0] == '*')
        result = err_set(err, ERR_DENIED, "libcrypt refuses the password");
    else
        snprintf(out, HASH_SIZE, "%s%s", s->dovecot_prefix, made);
    explicit_bzero(scratch, sizeof *scratch);
    free(scratch);
    return result;
}

/* "$6$rounds=1000$", "$y$j9T$", "$2b$05$": what stands before the salt. */
static size_t cost_length(const char *hash)
{
    if (strncmp(hash, "$2", 2) == 0)
        return strnlen(hash, strlen("$2b$05$"));
    if (strncmp(hash, "$y$", 3) == 0 || strncmp(hash + 3, "rounds=", 7) == 0)
        return 3 + strcspn(hash + 3, "$");
    return 3;
}

bool hash_is_current(const char *hash, const char *scheme, unsigned cost)
{
    const struct hash_scheme *s = scheme_named(scheme);
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    const char *made;

    if (s == NULL ||
        strncmp(hash, s->dovecot_prefix, strlen(s->dovecot_prefix)) != 0 ||
        crypt_gensalt_rn(s->crypt_prefix, cost, NULL, 0, salt, sizeof salt) ==
            NULL)
        return false;
    made = hash + strlen(s->dovecot_prefix);
    return strlen(made) > 3 && cost_length(made) == cost_length(salt) &&
           strncmp(made, salt, cost_length(salt)) == 0;
}

static bool is_of_libcrypt(const char *hash)
{
    static const char *const known[] = {"{SHA512-CRYPT}", "{SHA256-CRYPT}",
                                        "{MD5-CRYPT}", "{BLF-CRYPT}",
                                        "{CRYPT}"};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncasecmp(hash, known[i], strlen(known[i])) == 0)
            return true;
    return false;
}

bool hash_matches(const char *hash, const struct secret *password)
{
    const char *end = strchr(hash, '}');
    struct crypt_data *scratch;
    const char *made;
    bool is_same;

    if (end == NULL || !is_of_libcrypt(hash) || password->bytes == NULL ||
        memchr(password->bytes, '\0', password->length) != NULL)
        return false;
    scratch = mem_alloc(sizeof *scratch);
    made = crypt_r(password->bytes, end + 1, scratch);
    is_same = made != NULL && made[0] != '*' && strcmp(made, end + 1) == 0;
    explicit_bzero(scratch, sizeof *scratch);
    free(scratch);
    return is_same;
}

static void list_append(struct hash_list *list, struct hash_task *task)
{
    if (list->first == NULL)
        list->last = &list->first;
    task->next = NULL;
    *list->last = task;
    list->last = &task->next;
}

static struct hash_task *list_take(struct hash_list *list)
{
    struct hash_task *task = list->first;

    if (task != NULL)
        list->first = task->next;
    return task;
}

static void task_free(struct hash_task *task)
{
    secret_wipe(&task->password);
    for (size_t i = 0; i < task->known_count; i++)
        free(task->known[i]);
    free(task);
}

static void task_do(const struct hash_pool *pool, struct hash_task *task)
{
    task->match = -1;
    for (size_t i = 0; i < task->known_count && task->match == -1; i++)
        if (hash_matches(task->known[i], &task->password))
            task->match = (int)i;
    if (task->match == -1 ||
        !hash_is_current(task->known[task->match], pool->scheme, pool->cost))
        task->has_hash = hash_make(pool->scheme, pool->cost, &task->password,
                                   task->hash, &task->err) == 0;
    secret_wipe(&task->password);
}

static void *pool_thread(void *ctx)
{
    struct hash_pool *pool = ctx;
    const uint64_t one = 1;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct hash_task *task;

        while (!pool->is_ending && pool->asked.first == NULL)
            pthread_cond_wait(&pool->has_work, &pool->lock);
        if (pool->is_ending)
            break;
        task = list_take(&pool->asked);
        pthread_mutex_unlock(&pool->lock);
        task_do(pool, task);
        pthread_mutex_lock(&pool->lock);
        list_append(&pool->made, task);
        if (write(pool->event_fd, &one, sizeof one) == -1)
            log_error("hash eventfd: %s", strerror(errno));
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void on_made(int fd, bool can_read, bool can_write, void *ctx)
{
    struct hash_pool *pool = ctx;
    struct hash_task *task;
    uint64_t count;

    (void)can_read;
    (void)can_write;
    if (read(fd, &count, sizeof count) == -1)
        return;
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        task = list_take(&pool->made);
        pthread_mutex_unlock(&pool->lock);
        if (task == NULL)
            return;
        pool->fn(pool->ctx, &(struct hash_answer){
                                .id = task->id,
                                .hash = task->has_hash ? task->hash : NULL,
                                .match = task->match,
                                .err = &task->err});
        task_free(task);
    }
}

struct hash_pool *hash_pool_new(struct loop *loop, const char *scheme,
                                unsigned cost, hash_fn *fn, void *ctx)
{
    struct hash_pool *pool = mem_alloc(sizeof *pool);
    sigset_t all, before;

    pool->scheme = mem_dup_text(scheme);
    pool->cost = cost;
    pool->fn = fn;
    pool->ctx = ctx;
    pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->event_fd == -1)
        abort();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->has_work, NULL);
    pool->watch = watch_new(loop, pool->event_fd, on_made, pool);
    watch_want(pool->watch, true, false);
    /* signals belong to the thread of the loop */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < HASH_THREADS; i++)
        if (pthread_create(&pool->threads[i], NULL, pool_thread, pool) != 0)
            abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool;
}

void hash_pool_free(struct hash_pool **pool)
{
    struct hash_pool *p = *pool;
    struct hash_task *task;

    if (p == NULL)
        return;
    *pool = NULL;
    pthread_mutex_lock(&p->lock);
    p->is_ending = true;
    pthread_cond_broadcast(&p->has_work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < HASH_THREADS; i++)
        pthread_join(p->threads[i], NULL);
    while ((task = list_take(&p->asked)) != NULL)
        task_free(task);
    while ((task = list_take(&p->made)) != NULL)
        task_free(task);
    watch_free(&p->watch);
    close(p->event_fd);
    pthread_cond_destroy(&p->has_work);
    pthread_mutex_destroy(&p->lock);
    free(p->scheme);
    free(p);
}

void hash_pool_ask(struct hash_pool *pool, const struct hash_request *request)
{
    struct hash_task *task = mem_alloc(sizeof *task);

    task->id = request->id;
    task->password = *request->password;
    secret_init(request->password);
    for (size_t i = 0; i < request->known_count; i++)
        task->known[task->known_count++] = mem_dup_text(request->known[i]);
    pthread_mutex_lock(&pool->lock);
    list_append(&pool->asked, task);
    pthread_cond_signal(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
}
