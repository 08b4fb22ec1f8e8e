/*
 * The passwords of accounts: what is learnt, hashed, found refused, or set by
 * an operator. The first one stands with its seal and hash in secrets, the
 * others among the credentials; local verifies the hashes of all.
 *
 * Nobody here sees a password: the jobs process opens a seal, compares it with
 * the hashes we have, and makes a new one if it is none of them.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "account/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "db/credentials.h"
#include "db/domain_secrets.h"

#define PENDING_MAX 4 /* whose hashes are being made, an account */
#define STAMP_SIZE                                                             \
    13 /* of a sealed password: version and nonce; the key                     \
          around it may be wrapped anew meanwhile */
#define DAY_MS (24 * 60 * 60 * 1000LL)

static const char no_hash[] = LIFECYCLE_NO_HASH;

static void list(struct state *s, int64_t account_id,
                 struct credential_list *out)
{
    struct err err;

    state_must(credential_list(s->db, account_id, out, &err), &err);
}

static void has_first(struct state *s, const struct account *a, bool *seal_out,
                      bool *hash_out)
{
    struct account_seal seal;
    char hash[sizeof(((struct credential *)0)->hash)];
    struct err err;
    int rc;

    state_must(rc = account_seal_get(s->db, a->id, &seal, &err), &err);
    *seal_out = rc == 1;
    state_must(rc = account_hash_get(s->db, a->id, hash, sizeof(hash), &err),
               &err);
    *hash_out = rc == 1;
}

/* The row's own idea of its passwords, after a change of them. */
static void look_again(struct state *s, struct account *a)
{
    struct account now;

    if (!state_load(s, a->id, &now, NULL))
        return;
    a->has_seal = now.has_seal;
    a->has_hash = now.has_hash;
}

bool state_credentials_to_hash(struct state *s, const struct account *a,
                               int64_t *credential_out)
{
    struct credential_list all;
    bool has_seal, has_hash;

    has_first(s, a, &has_seal, &has_hash);
    *credential_out = 0;
    /* an unproven one of a list waits for legacy's word, and one that an
       operator has replaced is only kept to read legacy with */
    if (has_seal && !has_hash && a->password_state != PASSWORD_NONE &&
        a->local_password_at == 0)
        return true;
    list(s, a->id, &all);
    for (size_t i = 0; i < all.count; i++)
        if (all.items[i].hash[0] == '\0') {
            *credential_out = all.items[i].id;
            return true;
        }
    return false;
}

/* --- what is put into the message of a job */

static void put_stored(json_t *message, const struct account_seal *seal)
{
    wire_put_bytes(message, "key", seal->wrapped_key, seal->wrapped_length);
    wire_put_bytes(message, "blob", seal->blob, seal->blob_length);
}

static bool seal_of(struct state *s, const struct account *a,
                    int64_t credential, struct account_seal *out)
{
    struct err err;
    int rc = credential == 0
                 ? account_seal_get(s->db, a->id, out, &err)
                 : credential_seal_get(s->db, credential, out, &err);

    state_must(rc, &err);
    return rc == 1;
}

/* The hashes that local has, in the order that match counts them. */
static void put_hashes(struct state *s, const struct account *a,
                       json_t *message)
{
    char first[sizeof(((struct credential *)0)->hash)];
    json_t *hashes = json_array(), *known = json_array();
    struct credential_list all;
    struct err err;

    state_must(account_hash_get(s->db, a->id, first, sizeof(first), &err),
               &err);
    json_array_append_new(hashes, json_string(first));
    json_array_append_new(known, json_integer(0));
    list(s, a->id, &all);
    for (size_t i = 0; i < all.count; i++) {
        json_array_append_new(hashes, json_string(all.items[i].hash));
        json_array_append_new(known, json_integer(all.items[i].id));
    }
    json_object_set_new(message, "hashes", hashes);
    json_object_set_new(message, "known", known);
}

static void put_to_hash(struct state *s, const struct account *a,
                        json_t *message)
{
    struct account_seal seal;
    int64_t credential;

    if (!state_credentials_to_hash(s, a, &credential) ||
        !seal_of(s, a, credential, &seal))
        return;
    put_stored(message, &seal);
    json_object_set_new(message, "credential", json_integer(credential));
    wire_put_bytes(message, "of", seal.blob, STAMP_SIZE);
    put_hashes(s, a, message);
}

static void put_more(struct state *s, const struct account *a, bool has_master,
                     json_t *message)
{
    json_t *more = json_array();
    struct credential_list all;
    struct account_seal seal;

    if (has_master && seal_of(s, a, 0, &seal)) {
        json_t *first = json_pack("{s:i}", "credential", 0);

        put_stored(first, &seal);
        json_array_append_new(more, first);
    }
    list(s, a->id, &all);
    for (size_t i = all.count; i-- > 0;) {
        json_t *entry;

        if (all.items[i].origin == CREDENTIAL_LOCAL ||
            !seal_of(s, a, all.items[i].id, &seal))
            continue;
        entry = json_pack("{s:I}", "credential", (json_int_t)all.items[i].id);
        put_stored(entry, &seal);
        json_array_append_new(more, entry);
    }
    json_object_set_new(message, "more", more);
}

void state_credentials_put(struct state *s, const struct job *job,
                           const struct account *a, const struct domain *d,
                           json_t *message)
{
    struct domain_secret master;
    struct account_seal seal;
    struct err err;
    int has_master;

    if (job->kind == JOB_HASH) {
        put_to_hash(s, a, message);
        return;
    }
    state_must(has_master = domain_secret_get(s->db, d->id, &master, &err),
               &err);
    if (has_master && d->master_user[0]) {
        json_t *sealed = json_object();

        put_stored(sealed, &master.seal);
        json_object_set_new(message, "master", sealed);
        json_object_set_new(message, "master_user",
                            json_string(d->master_user));
        json_object_set_new(message, "master_login",
                            json_string(master.login_template));
    } else if (seal_of(s, a, 0, &seal)) {
        put_stored(message, &seal);
    }
    put_more(s, a, has_master && d->master_user[0], message);
}

/* --- learning */

bool state_credentials_may_learn(const struct account *a,
                                 const struct domain *d)
{
    if (a->route != ROUTE_LOCAL)
        return true;
    /* what an operator has set here is not undone by what legacy still takes */
    if (a->question[0] || a->local_password_at != 0 || d->closed_at != 0 ||
        d->learn_days == 0 || a->copy == COPY_DONE)
        return false;
    return a->password_state != PASSWORD_CONFIRMED ||
           clock_unix_ms() < a->flipped_at + d->learn_days * DAY_MS;
}

static void to_stored(const struct seal *seal, struct account_seal *out)
{
    out->wrapped_length = sizeof(seal->wrapped_key);
    out->blob_length = seal->blob_length;
    memcpy(out->wrapped_key, seal->wrapped_key, out->wrapped_length);
    memcpy(out->blob, seal->blob, out->blob_length);
}

static unsigned count_pending(struct state *s, int64_t account_id)
{
    struct credential_list all;
    unsigned count = 0;

    list(s, account_id, &all);
    for (size_t i = 0; i < all.count; i++)
        count += all.items[i].hash[0] == '\0';
    return count;
}

static void add_pending(struct state *s, struct credential *c,
                        const struct account_seal *seal)
{
    struct err err;

    c->created_at = clock_unix_ms();
    state_must(credential_add(s->db, c, seal, &err), &err);
}

bool state_credentials_learn(struct state *s, struct account *a,
                             const struct domain *d, const struct seal *seal,
                             const char *via)
{
    struct credential c = {.account_id = a->id, .origin = CREDENTIAL_LEGACY};
    struct account_seal stored;
    bool has_seal, has_hash;
    struct err err;

    to_stored(seal, &stored);
    has_first(s, a, &has_seal, &has_hash);
    state_write(s);
    if (a->route == ROUTE_LEGACY)
        a->local_password_at = 0; /* legacy decides alone again */
    if (!has_seal && !has_hash) {
        state_must(account_seal_set(s->db, a->id, &stored, &err), &err);
    } else if (has_seal && a->password_state == PASSWORD_NONE) {
        /* of a list, and never proven: this one is */
        state_must(account_seal_set(s->db, a->id, &stored, &err), &err);
        state_must(account_hash_set(s->db, a->id, NULL, &err), &err);
    } else {
        if (count_pending(s, a->id) >= PENDING_MAX)
            return false;
        snprintf(c.label, sizeof(c.label), "%s", via ? via : "");
        add_pending(s, &c, &stored);
    }
    if (a->password_state == PASSWORD_NONE)
        a->password_state = PASSWORD_LEARNT;
    look_again(s, a);
    state_store(s, a);
    state_jobs_queue(s, a, d, JOB_HASH, clock_unix_ms());
    return true;
}

void state_credentials_set(struct state *s, struct account *a,
                           const struct domain *d,
                           const struct local_password *password)
{
    struct credential c = {.account_id = a->id,
                           .origin = CREDENTIAL_LOCAL,
                           .is_only = !password->keeps_others};
    struct account_seal stored;
    struct credential_list all;
    struct err err;

    to_stored(password->seal, &stored);
    snprintf(c.label, sizeof(c.label), "%s", password->label);
    state_write(s);
    list(s, a->id, &all);
    /* what is being learnt or set at this moment gives way to this one */
    for (size_t i = 0; i < all.count; i++)
        if (all.items[i].hash[0] == '\0')
            state_must(credential_remove(s->db, all.items[i].id, &err), &err);
    add_pending(s, &c, &stored);
    state_jobs_queue(s, a, d, JOB_HASH, clock_unix_ms());
}

/* --- a hash has been made */

/* Those that were used longest ago give way, what legacy knows besides first.
 */
static void make_room(struct state *s, const struct account *a, int64_t keep_id)
{
    struct credential_list all;
    struct err err;

    for (;;) {
        const struct credential *oldest = NULL;
        size_t count = 0;
        int64_t at = 0;

        list(s, a->id, &all);
        for (size_t i = 0; i < all.count; i++) {
            const struct credential *c = &all.items[i];
            int64_t used =
                c->used_at > c->created_at ? c->used_at : c->created_at;

            if (c->hash[0] == '\0')
                continue;
            count++;
            if (c->id == keep_id || c->origin == CREDENTIAL_LOCAL)
                continue;
            if (oldest == NULL || used < at) {
                oldest = c;
                at = used;
            }
        }
        if (count <= CREDENTIALS_MAX)
            return;
        if (oldest == NULL)
            for (size_t i = 0; oldest == NULL && i < all.count; i++)
                if (all.items[i].id != keep_id && all.items[i].hash[0])
                    oldest = &all.items[i];
        state_must(credential_remove(s->db, oldest->id, &err), &err);
        state_audit(s, a->id, "password given up", "origin=%s",
                    credential_origin_name(oldest->origin));
    }
}

/* An operator's password is in force: what counted before does no more. */
static void put_in_force(struct state *s, struct account *a,
                         struct credential *c)
{
    struct err err;

    a->local_password_at = clock_unix_ms();
    if (c->is_only) {
        state_must(credential_remove_others(s->db, a->id, c->id, &err), &err);
        state_must(account_hash_set(s->db, a->id, NULL, &err), &err);
        c->is_only = false;
        state_must(credential_update(s->db, c, &err), &err);
        a->provisioned_epoch = ACCOUNT_REMINDED; /* nobody until it is told */
    }
    state_must(credential_seal_set(s->db, c->id, NULL, &err), &err);
    state_audit(s, a->id, "password set", "origin=local");
    /* local first: who is thrown out must not come in again with the old one */
    state_provision_later(s, a->id);
    state_peers_forget(s, a);
    state_peers_kick(s, a, "all", "password-changed");
}

static void take_new(struct state *s, struct account *a, int64_t credential,
                     const char *hash)
{
    struct credential c;
    struct err err;
    int found;

    if (credential == 0) {
        state_must(account_hash_set(s->db, a->id, hash, &err), &err);
        return;
    }
    state_must(found = credential_get(s->db, credential, &c, &err), &err);
    if (!found)
        return;
    snprintf(c.hash, sizeof(c.hash), "%s", hash);
    state_must(credential_update(s->db, &c, &err), &err);
    if (c.origin == CREDENTIAL_LOCAL)
        put_in_force(s, a, &c);
    else
        state_audit(s, a->id, "password learnt", "via=%s", c.label);
    make_room(s, a, c.id);
}

/* It is one that local has already; hash, if one is given, replaces its own. */
static void take_known(struct state *s, struct account *a, int64_t credential,
                       int64_t match, const char *hash)
{
    struct account_seal seal, other;
    bool has_seal = seal_of(s, a, credential, &seal);
    struct credential known;
    struct err err;
    int found = 1;

    if (match == 0) {
        if (hash)
            state_must(account_hash_set(s->db, a->id, hash, &err), &err);
        if (has_seal && !seal_of(s, a, 0, &other))
            state_must(account_seal_set(s->db, a->id, &seal, &err), &err);
    } else {
        state_must(found = credential_get(s->db, match, &known, &err), &err);
    }
    if (match != 0 && found) {
        known.used_at = clock_unix_ms();
        if (hash)
            snprintf(known.hash, sizeof(known.hash), "%s", hash);
        state_must(credential_update(s->db, &known, &err), &err);
        if (has_seal && !known.has_seal && known.origin != CREDENTIAL_LOCAL)
            state_must(credential_seal_set(s->db, match, &seal, &err), &err);
    }
    if (credential != 0 && credential != match)
        state_must(credential_remove(s->db, credential, &err), &err);
    else if (credential == 0 && match != 0)
        /* the first one is also among the others: once is enough */
        state_must(credential_swap(s->db, match, &err) == -1
                       ? -1
                       : credential_remove(s->db, match, &err),
                   &err);
}

/* Which credential it turned out to be; -1: none, or one that has gone. */
static int64_t matched(struct state *s, const json_t *message)
{
    int64_t index = wire_int(message, "match", -1);
    const json_t *known = json_object_get(message, "known");
    struct credential c;
    struct err err;
    int64_t id;
    int found;

    if (index < 0 || index >= (int64_t)json_array_size(known))
        return -1;
    id = json_integer_value(json_array_get(known, (size_t)index));
    if (id == 0)
        return 0;
    state_must(found = credential_get(s->db, id, &c, &err), &err);
    return found ? id : -1;
}

static bool is_of_today(struct state *s, const struct account *a,
                        const json_t *message)
{
    uint8_t stamp[STAMP_SIZE];
    struct account_seal seal;
    int64_t wanted;

    return state_credentials_to_hash(s, a, &wanted) &&
           wanted == wire_int(message, "credential", 0) &&
           seal_of(s, a, wanted, &seal) &&
           wire_bytes(message, "of", stamp, sizeof(stamp)) == STAMP_SIZE &&
           memcmp(stamp, seal.blob, STAMP_SIZE) == 0;
}

static void note_refusal(struct state *s, struct account *a, int64_t credential,
                         const struct err *outcome)
{
    struct err err, said = *outcome;

    log_error("account %s has no hash: %s", a->address, outcome->text);
    if (outcome->kind == ERR_DENIED)
        err_prefix(&said, no_hash);
    if (outcome->kind == ERR_DENIED && credential != 0)
        state_must(credential_remove(s->db, credential, &err), &err);
    snprintf(a->last_error, sizeof(a->last_error), "%s", said.text);
    snprintf(a->last_error_kind, sizeof(a->last_error_kind), "%s",
             err_kind_name(said.kind));
    a->last_error_at = clock_unix_ms();
}

/* Was it local who could not be asked with it, by a hash nobody has? */
static bool has_no_hash(const struct account *a)
{
    return strncmp(a->last_error, no_hash, strlen(no_hash)) == 0;
}

void state_credentials_hashed(struct state *s, struct account *a,
                              const struct domain *d, const json_t *message,
                              const struct err *outcome)
{
    const char *hash = wire_text(message, "hash");
    int64_t match = wire_int(message, "match", -1), next = 0;
    int64_t credential = wire_int(message, "credential", 0);
    bool is_good = outcome->kind == ERR_NONE && (hash || match >= 0);

    if (message && is_good && is_of_today(s, a, message)) {
        match = matched(s, message);
        if (match >= 0)
            take_known(s, a, credential, match, hash);
        else if (hash)
            take_new(s, a, credential, hash);
        if (has_no_hash(a))
            a->last_error[0] = a->last_error_kind[0] = '\0';
        look_again(s, a);
        state_store(s, a);
        state_provision_later(s, a->id);
    } else if (outcome->kind != ERR_NONE) {
        note_refusal(s, a, credential, outcome);
        state_store(s, a);
    }
    if (outcome->kind == ERR_RETRY || outcome->kind == ERR_PEER)
        return; /* its job is tried again */
    if (state_credentials_to_hash(s, a, &next) &&
        (outcome->kind == ERR_NONE || next != credential)) {
        state_jobs_queue(s, a, d, JOB_HASH, clock_unix_ms());
        return;
    }
    state_after(s, state_routes_hashed, a->id);
    state_after(s, state_control_hashed, a->id);
}

/* --- what legacy has refused */

static bool is_refused(const struct migration_report *report, int64_t id)
{
    for (unsigned i = 0; i < report->refused_count; i++)
        if (report->refused[i] == id)
            return true;
    return false;
}

void state_credentials_sort(struct state *s, struct account *a,
                            const struct migration_report *report)
{
    bool is_first_refused = is_refused(report, 0);
    struct credential_list all;
    unsigned gone = 0;
    struct err err;

    if (report->refused_count == 0)
        return;
    state_write(s);
    list(s, a->id, &all);
    /* after the flip local decides what opens: legacy's word is only about what
       the trail is to try first */
    for (size_t i = 0; a->route != ROUTE_LOCAL && i < all.count; i++)
        if (all.items[i].has_seal && is_refused(report, all.items[i].id)) {
            state_must(credential_remove(s->db, all.items[i].id, &err), &err);
            gone++;
        }
    if (is_first_refused && a->route != ROUTE_LOCAL) {
        state_must(account_seal_set(s->db, a->id, NULL, &err), &err);
        state_must(account_hash_set(s->db, a->id, NULL, &err), &err);
        gone++;
    }
    if (is_first_refused && report->credential != 0)
        state_must(credential_swap(s->db, report->credential, &err), &err);
    if (gone > 0) {
        state_audit(s, a->id, "password refused", "by=legacy count=%u", gone);
        state_peers_forget(s, a);
        state_provision_later(s, a->id);
    }
    look_again(s, a);
}
