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
    bool is_good;
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
    free(task);
}

static void task_do(const struct hash_pool *pool, struct hash_task *task)
{
    task->is_good = hash_make(pool->scheme, pool->cost, &task->password,
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
        pool->fn(pool->ctx, task->id, task->is_good ? task->hash : NULL,
                 &task->err);
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

void hash_pool_ask(struct hash_pool *pool, int64_t id,
                   const struct secret *password)
{
    struct hash_task *task = mem_alloc(sizeof *task);

    task->id = id;
    secret_init(&task->password);
    secret_set(&task->password, password->bytes, password->length);
    pthread_mutex_lock(&pool->lock);
    list_append(&pool->asked, task);
    pthread_cond_signal(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
}
