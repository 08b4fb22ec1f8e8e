#include "admin/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "account/wire.h"
#include "admin/api.h"
#include "admin/health.h"
#include "admin/metrics.h"
#include "admin/state_link.h"
#include "base/buf.h"
#include "base/http.h"
#include "base/mem.h"

#define FRESH_MS    1000 /* an answer of state serves so long */
#define ANSWER_MS   5000
#define TEXT_MAX    (32u << 20)
#define HEADERS     16384
#define BODY_MAX    (8u << 20)
#define IDLE_S      30
#define WAITERS_MAX 200 /* requests that wait for one answer of state */

/* A request that waits for what state says of itself. */
struct waiter {
    struct waiter *next;
    struct http_request *request;
    bool is_health;
};

struct admin {
    struct loop *loop; /* borrowed */
    struct state_link *link;
    struct http_server *servers[2];
    char *state_dir, *store; /* owned */
    json_t *answer;          /* owned; the last; NULL: none, or too old */
    int64_t answered_ms;
    bool is_asking;
    struct waiter *waiters;
    unsigned waiter_count;
};

static void answer_buf(struct http_request *r, int status, const char *type,
                       struct buf *body)
{
    http_answer_take(&r, status, type, body->bytes ? body->bytes : "",
                     body->used);
    buf_release(body);
}

static void answer_health(struct http_request *r, const json_t *answer)
{
    struct buf body;
    bool is_well;

    buf_init(&body, TEXT_MAX);
    is_well = health_judge(answer, &body);
    if (is_well)
        buf_append_text(&body, "ok\n");
    answer_buf(r, is_well ? 200 : 503, "text/plain; charset=utf-8", &body);
}

static void put_room(json_t *series, const char *place, const char *path)
{
    struct statvfs disk;
    char name[64];

    if (path == NULL || statvfs(path, &disk) == -1)
        return;
    snprintf(name, sizeof(name), "disk_free_bytes{place=\"%s\"}", place);
    json_object_set_new(
        series, name,
        json_integer((json_int_t)(disk.f_bavail * disk.f_frsize)));
    snprintf(name, sizeof(name), "disk_free_inodes{place=\"%s\"}", place);
    json_object_set_new(series, name, json_integer((json_int_t)disk.f_favail));
}

/* `mailhaul db backup` leaves its time here. */
static void put_backup(json_t *series, const char *state_dir)
{
    char path[4400];
    struct stat st;

    snprintf(path, sizeof(path), "%s/last-backup", state_dir);
    json_object_set_new(series, "last_backup_timestamp_seconds",
                        json_integer(stat(path, &st) == 0 ? st.st_mtime : 0));
}

static void answer_metrics(const struct admin *admin, struct http_request *r,
                           const json_t *answer)
{
    const json_t *told = json_object_get(answer, "series");
    json_t *series =
        told ? json_copy((json_t *)(uintptr_t)told) : json_object();
    struct buf body;

    json_object_set_new(series, "up", json_integer(answer != NULL));
    put_room(series, "state_dir", admin->state_dir);
    put_room(series, "store", admin->store);
    put_backup(series, admin->state_dir);
    buf_init(&body, TEXT_MAX);
    metrics_write(series, &body);
    json_decref(series);
    answer_buf(r, 200, METRICS_TYPE, &body);
}

static void answer_one(const struct admin *admin, struct http_request *r,
                       bool is_health, const json_t *answer)
{
    if (is_health)
        answer_health(r, answer);
    else
        answer_metrics(admin, r, answer);
}

static void on_answer(void *ctx, const json_t *answer)
{
    struct admin *admin = ctx;

    admin->is_asking = false;
    json_decref(admin->answer);
    admin->answer = json_incref((json_t *)(uintptr_t)answer);
    admin->answered_ms = loop_now_ms(admin->loop);
    while (admin->waiters) {
        struct waiter *w = admin->waiters;

        admin->waiters = w->next;
        admin->waiter_count--;
        answer_one(admin, w->request, w->is_health, answer);
        free(w);
    }
}

/* Whoever asks often is answered from what state said a moment ago. */
static void look(struct admin *admin, struct http_request *r, bool is_health)
{
    struct waiter *w;

    if (admin->answer &&
        admin->answered_ms + FRESH_MS > loop_now_ms(admin->loop)) {
        answer_one(admin, r, is_health, admin->answer);
        return;
    }
    if (admin->waiter_count >= WAITERS_MAX) {
        http_answer_take(&r, 503, "text/plain", "too many ask\n", 13);
        return;
    }
    w = mem_alloc(sizeof(*w));
    w->request = r;
    w->is_health = is_health;
    w->next = admin->waiters;
    admin->waiters = w;
    admin->waiter_count++;
    if (admin->is_asking)
        return;
    admin->is_asking = true;
    state_link_ask(admin->link, json_pack("{s:s}", "m", "metrics"), ANSWER_MS,
                   on_answer, admin);
}

static void on_request(void *ctx, struct http_request *r)
{
    struct admin *admin = ctx;
    const char *path = http_path(r);

    if (strcmp(path, "/metrics") == 0 && !http_is_post(r))
        look(admin, r, false);
    else if (strcmp(path, "/healthz") == 0 && !http_is_post(r))
        look(admin, r, true);
    else if (strncmp(path, "/v1/", 4) == 0 && http_peer_uid(r) != HTTP_NOBODY)
        api_take(admin->link, r);
    else
        http_answer_take(&r, 404, "text/plain", "not here\n", 9);
}

struct admin *admin_start(const struct admin_options *o, struct err *err)
{
    const struct http_options options = {.headers_max_bytes = HEADERS,
                                         .body_max_bytes = BODY_MAX,
                                         .idle_seconds = IDLE_S};
    const int fds[] = {o->tcp_fd, o->unix_fd};
    struct admin *admin = mem_alloc(sizeof(*admin));

    admin->loop = o->loop;
    admin->state_dir = mem_dup_text(o->state_dir);
    admin->store = o->store ? mem_dup_text(o->store) : NULL;
    admin->link = state_link_new(o->loop, o->state_socket);
    for (unsigned i = 0; i < 2; i++) {
        if (fds[i] == -1)
            continue;
        admin->servers[i] =
            http_serve_take(o->loop, fds[i], &options, on_request, admin, err);
        if (admin->servers[i] == NULL) {
            if (i == 0 && fds[1] != -1)
                close(fds[1]);
            admin_free(&admin);
            return NULL;
        }
    }
    return admin;
}

void admin_free(struct admin **at)
{
    struct admin *admin = *at;

    if (admin == NULL)
        return;
    *at = NULL;
    state_link_free(&admin->link);
    while (admin->waiters) {
        struct waiter *w = admin->waiters;

        admin->waiters = w->next;
        http_answer_take(&w->request, 503, "text/plain", "", 0);
        free(w);
    }
    http_free(&admin->servers[0]);
    http_free(&admin->servers[1]);
    json_decref(admin->answer);
    free(admin->state_dir);
    free(admin->store);
    free(admin);
}
