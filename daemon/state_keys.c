/*
 * The sealing keys as state sees them: their ids, and which key each seal is
 * wrapped to. When master has a new key, every seal is wrapped anew, a slice a
 * turn, by the jobs process that has the private keys; when none needs an older
 * key any more, master is told, and forgets it. Where this process ends in
 * between, the next one begins again: what is done already costs nothing.
 *
 *   IDLE -> WALKING (places and ids, upward) -> WAITING (a while: a login that
 *   was under way may still bring a seal of an older key) -> IDLE
 */
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/counters.h"
#include "db/seals.h"

#define SLICE   200  /* rows looked at at once */
#define SLICES  20   /* a second, where nothing is to be done */
#define WAIT_MS 5000 /* from the last older seal until its key goes */

struct state_keys {
    enum keys_phase { KEYS_IDLE, KEYS_WALKING, KEYS_WAITING } phase;
    uint8_t ids[KEYRING_MAX][SEAL_ID_SIZE]; /* newest first */
    unsigned count;
    enum seal_place place;
    int64_t after_id;           /* of the place; below it all are done */
    bool is_asked;              /* an answer of jobs is awaited */
    int64_t question;           /* its number; answers to others are late */
    int64_t asked_ms, quiet_ms; /* loop time */
    int64_t rewrapped;          /* since the walk began */
};

static struct state_keys *keys_of(struct state *s)
{
    if (!s->keys)
        s->keys = mem_alloc(sizeof(*s->keys));
    return s->keys;
}

static void begin_walk(struct state *s)
{
    struct state_keys *k = keys_of(s);

    k->phase = k->count > 1 ? KEYS_WALKING : KEYS_IDLE;
    k->place = SEAL_OF_ACCOUNT;
    k->after_id = 0;
    k->is_asked = false;
    k->rewrapped = 0;
}

void state_keys_put_newest(struct state *s, json_t *message)
{
    const struct state_keys *k = keys_of(s);

    if (k->count > 0)
        wire_put_bytes(message, "newest", k->ids[0], SEAL_ID_SIZE);
}

void state_keys_newest(struct state *s, char *out, size_t size)
{
    const struct state_keys *k = keys_of(s);
    const uint8_t *id = k->ids[0];

    if (k->count == 0)
        *out = '\0'; /* master has not said yet */
    else
        snprintf(out, size, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
}

void state_keys_take(struct state *s, const json_t *message)
{
    struct state_keys *k = keys_of(s);
    const json_t *list = json_object_get(message, "ids"), *item;
    size_t i;

    s->role->has_public_key =
        wire_bytes(message, "public_key", s->role->public_key, SEAL_KEY_SIZE) ==
        SEAL_KEY_SIZE;
    k->count = 0;
    json_array_foreach(list, i, item)
    {
        if (k->count < KEYRING_MAX && wire_bytes(item, "id", k->ids[k->count],
                                                 SEAL_ID_SIZE) == SEAL_ID_SIZE)
            k->count++;
    }
    begin_walk(s);
}

bool state_keys_knows(struct state *s, const struct seal *seal)
{
    struct state_keys *k = keys_of(s);
    uint8_t id[SEAL_ID_SIZE];

    if (k->count == 0)
        return true; /* master has not said yet */
    if (!seal_wrapped_to(seal, id))
        return false;
    for (unsigned i = 0; i < k->count; i++) {
        if (memcmp(id, k->ids[i], sizeof(id)) != 0)
            continue;
        if (i > 0)
            begin_walk(s); /* it may lie below where we are */
        return true;
    }
    return false;
}

/* What a command line has sealed may have waited since; a seal that nobody
   opens any more would be found out when it is needed. */
int state_keys_check(struct state *s, const json_t *request, struct err *err)
{
    const json_t *master = json_object_get(request, "master");
    const json_t *sealed = master ? master : request;
    struct seal seal;
    struct err ignored;

    if (!json_object_get(sealed, "blob") ||
        wire_seal(sealed, &seal, &ignored) == -1 || state_keys_knows(s, &seal))
        return 0;
    return err_set(err, ERR_RETRY,
                   "the sealing key has been changed meanwhile, or is not in "
                   "use yet; ask again");
}

/* --- the walk */

struct slice {
    struct state_keys *keys;
    json_t *seals; /* those of older keys */
    int64_t last_id;
    int rows;
};

static int look_at(void *ctx, const struct stored_seal *stored)
{
    struct slice *slice = ctx;
    struct seal seal = {.blob_length = stored->seal.blob_length};
    uint8_t id[SEAL_ID_SIZE];
    json_t *item;

    slice->last_id = stored->id;
    slice->rows++;
    if (stored->seal.wrapped_length == sizeof(seal.wrapped_key)) {
        memcpy(seal.wrapped_key, stored->seal.wrapped_key,
               sizeof(seal.wrapped_key));
        if (seal_wrapped_to(&seal, id) &&
            memcmp(id, slice->keys->ids[0], sizeof(id)) == 0)
            return 0;
    }
    item = json_pack("{s:i,s:I,s:s}", "place", (int)stored->place, "id",
                     (json_int_t)stored->id, "address", stored->address);
    wire_put_bytes(item, "key", stored->seal.wrapped_key,
                   stored->seal.wrapped_length);
    wire_put_bytes(item, "blob", stored->seal.blob, stored->seal.blob_length);
    json_array_append_new(slice->seals, item);
    return 0;
}

/* Every jobs process hears it; the one that has the newest key answers. */
static bool tell_jobs(struct state *s, json_t *message)
{
    bool is_heard = false;

    for (struct state_peer *p = s->peers; p; p = p->next)
        if (p->channel && strcmp(p->role, "jobs") == 0) {
            state_send(s, p, json_incref(message));
            is_heard = true;
        }
    json_decref(message);
    return is_heard;
}

static json_t *message_of(const struct state_keys *k, const char *m)
{
    json_t *message = json_pack("{s:s}", "m", m);

    wire_put_bytes(message, "newest", k->ids[0], SEAL_ID_SIZE);
    return message;
}

static void end_walk(struct state *s, struct state_keys *k)
{
    k->phase = KEYS_WAITING;
    k->quiet_ms = loop_now_ms(s->loop);
    if (k->rewrapped)
        log_info("keys rewrapped=%lld", (long long)k->rewrapped);
}

/* The next slice; what is to be wrapped anew goes to jobs, and its place is
   kept until the answer. */
static void walk_on(struct state *s)
{
    struct state_keys *k = keys_of(s);
    struct slice slice = {.keys = k, .last_id = k->after_id};
    struct err err;

    slice.seals = json_array();
    state_must(
        seals_each(s->db, k->place, k->after_id, SLICE, look_at, &slice, &err),
        &err);
    if (json_array_size(slice.seals)) {
        json_t *message = message_of(k, "rewrap");

        json_object_set(message, "seals", slice.seals);
        json_object_set_new(message, "question", json_integer(++k->question));
        k->is_asked = tell_jobs(s, message);
        k->asked_ms = loop_now_ms(s->loop);
    } else if (slice.rows == SLICE) {
        k->after_id = slice.last_id;
    } else if (++k->place == SEAL_PLACE_COUNT) {
        end_walk(s, k);
    } else {
        k->after_id = 0;
    }
    json_decref(slice.seals);
}

static bool can_walk(struct state *s)
{
    const struct state_keys *k = keys_of(s);

    return k->phase == KEYS_WALKING && !k->is_asked && !s->is_full;
}

static void take_one(struct state *s, const json_t *item)
{
    struct stored_seal was = {
        .place = (enum seal_place)wire_int(item, "place", SEAL_PLACE_COUNT),
        .id = wire_int(item, "id", 0)};
    uint8_t wrapped[SEAL_WRAPPED_SIZE];
    long was_length = wire_bytes(item, "was", was.seal.wrapped_key,
                                 sizeof(was.seal.wrapped_key));
    struct err err;
    int rc;

    if (wire_bool(item, "lost") || was_length <= 0 ||
        (unsigned)was.place >= SEAL_PLACE_COUNT ||
        wire_bytes(item, "key", wrapped, sizeof(wrapped)) != sizeof(wrapped))
        return; /* whoever opens it is told that its key is gone */
    was.seal.wrapped_length = (size_t)was_length;
    rc = seal_rewrapped(s->db, &was, wrapped, sizeof(wrapped), &err);
    state_must(rc, &err);
    keys_of(s)->rewrapped += rc;
}

void state_keys_rewrapped(struct state *s, const json_t *message)
{
    struct state_keys *k = keys_of(s);
    const json_t *item;
    size_t i;

    /* one to an earlier question speaks of other rows: those that lie below
       would be left out */
    if (!k->is_asked || wire_int(message, "question", 0) != k->question)
        return;
    state_write(s);
    k->is_asked = false;
    json_array_foreach(json_object_get(message, "seals"), i, item)
    {
        take_one(s, item);
        k->after_id = wire_int(item, "id", k->after_id);
    }
    if (can_walk(s))
        walk_on(s);
}

/* Every seal is wrapped to the newest key, on disk, and no page of the log
   holds what it was before. */
static void forget_older(struct state *s)
{
    struct state_keys *k = keys_of(s);
    struct err err;
    int rc;

    state_settle(s);
    state_must(rc = db_checkpoint(s->db, &err), &err);
    k->quiet_ms = loop_now_ms(s->loop);
    if (rc == 0)
        return; /* somebody reads it; again later */
    channel_send_take(s->role->master, message_of(k, "old_keys_unused"), -1);
    tell_jobs(s, message_of(k, "forget_keys"));
    k->count = 1;
    k->phase = KEYS_IDLE;
    state_audit(s, 0, "key rotated", "no seal needs an older key");
}

#define ASK_AGAIN_MS 30000

void state_keys_tick(struct state *s)
{
    struct state_keys *k = keys_of(s);
    int64_t now = loop_now_ms(s->loop);

    if (k->is_asked && k->asked_ms + ASK_AGAIN_MS < now)
        k->is_asked = false; /* who was asked has gone */
    /* several slices a second, and other work between them */
    for (int i = 0; i < SLICES && can_walk(s); i++)
        walk_on(s);
    if (k->phase == KEYS_WAITING && k->quiet_ms + WAIT_MS < now && !s->is_full)
        forget_older(s);
}

json_t *state_keys_json(struct state *s)
{
    static const char *const words[] = {"idle", "rewrapping", "waiting"};
    const struct state_keys *k = keys_of(s);
    char newest[2 * SEAL_ID_SIZE + 1];

    state_keys_newest(s, newest, sizeof(newest));
    return json_pack("{s:s,s:i,s:I,s:s}", "rotation", words[k->phase],
                     "older_keys", k->count ? (int)k->count - 1 : 0,
                     "rewrapped", (json_int_t)k->rewrapped, "newest", newest);
}
