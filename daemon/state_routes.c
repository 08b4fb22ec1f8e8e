/*
 * Who serves whom, and what was learnt: the questions of login and smtp
 * processes. An answer about a held account waits for its release.
 */
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

#include "account/mailbox_id.h"
#include "account/username.h"
#include "account/wire.h"
#include "account/work.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/names.h"

#define LEARN_WAIT_MS 20000 /* for the hash of an account local serves */

/* Everything a look-up finds. */
struct found {
    struct login_name login; /* address "" : the name is in no map */
    struct username name;
    struct domain domain;
    struct account account;
    bool has_domain, has_account;
};

static void put_url(json_t *answer, const char *field, const char *url)
{
    if (*url)
        json_object_set_new(answer, field, json_string(url));
}

static json_t *answer_new(int64_t id, enum route_answer answer)
{
    return json_pack("{s:s,s:I,s:s}", "m", "answer", "id", (json_int_t)id,
                     "answer", route_answer_name(answer));
}

static void put_version(const struct state *s, json_t *answer,
                        const char *address)
{
    int64_t version;
    struct err err;

    state_must(
        provision_password_version(s->provision, address, &version, &err),
        &err);
    json_object_set_new(answer, "version", json_integer(version));
}

/* The name on legacy: of the name that he has typed, of his account, or as the
   domain has them. */
static void put_legacy_user(json_t *answer, const struct found *f)
{
    const char *user = f->account.legacy_user;
    char filled[ADDRESS_MAX];
    struct err err;

    if (f->login.legacy_user[0]) {
        user = f->login.legacy_user;
    } else if (!f->has_account) {
        user = filled;
        if (username_fill(f->domain.username_template, &f->name, filled,
                          sizeof(filled), &err) == -1)
            memcpy(filled, f->name.address, sizeof(filled));
    }
    json_object_set_new(answer, "legacy_user", json_string(user));
}

static json_t *answer_from(const struct state *s, int64_t id,
                           enum route_answer decided, const struct found *f)
{
    json_t *answer = answer_new(id, decided);

    json_object_set_new(answer, "address", json_string(f->name.address));
    json_object_set_new(answer, "local_user", json_string(f->name.address));
    if (f->has_account) {
        const struct account *a = &f->account;
        /* once its trail has ended legacy is asked for no password any more */
        enum password_state state =
            a->copy == COPY_DONE ? PASSWORD_CONFIRMED : a->password_state;

        json_object_update_new(
            answer, json_pack("{s:I,s:I,s:s}", "account", (json_int_t)a->id,
                              "epoch", (json_int_t)a->epoch, "password_state",
                              password_state_name(state)));
    }
    if (f->has_account || f->has_domain)
        put_legacy_user(answer, f);
    if (decided == ROUTE_TO_LOCAL)
        put_version(s, answer, f->account.address);
    if (decided == ROUTE_TO_LOCAL &&
        state_credentials_may_learn(&f->account, &f->domain))
        json_object_set_new(answer, "ask_legacy", json_true());
    if (f->has_domain) {
        put_url(answer, "imap", f->domain.imap_url);
        put_url(answer, "pop3", f->domain.pop3_url);
        put_url(answer, "smtp", f->domain.smtp_url);
    }
    return answer;
}

struct only_domain {
    char name[ADDRESS_MAX];
    unsigned count;
};

static int note_domain(void *ctx, const struct domain *d)
{
    struct only_domain *only = ctx;

    snprintf(only->name, sizeof(only->name), "%s", d->name);
    return ++only->count > 1;
}

/* A name without a domain is meant to be of ours, if there is but one: with
   several nobody can say whose password is asked for. */
static int complete_name(struct state *s, struct username *name,
                         struct err *err)
{
    struct only_domain only = {.count = 0};
    char typed[2 * ADDRESS_MAX];

    if (name->domain[0])
        return 0;
    state_must(domain_each(s->db, note_domain, &only, err), err);
    if (only.count != 1)
        return 0;
    snprintf(typed, sizeof(typed), "%s@%s", name->local, only.name);
    return username_parse(typed, strlen(typed), name, err);
}

/* Whose login name it is, if the map knows it. */
static int resolve(struct state *s, const char *typed, struct login_name *out,
                   struct err *err)
{
    char name[ADDRESS_MAX];
    int rc;

    if (username_login_name(typed, strlen(typed), name, err) == -1)
        return -1;
    state_must(rc = name_find(s->db, name, out, err), err);
    if (rc == 0)
        memset(out, 0, sizeof(*out));
    return 0;
}

/* ERR_DENIED if that can be no user. Mail goes by addresses only: what the
   login map knows beside them is no address. */
static int look_up(struct state *s, const char *typed,
                   enum route_service service, struct found *f, struct err *err)
{
    int rc;

    memset(f, 0, sizeof(*f));
    if (!typed)
        return err_set(err, ERR_DENIED, "no name");
    if (service == SERVICE_LOGIN && resolve(s, typed, &f->login, err) == -1)
        return -1;
    if (f->login.address[0])
        typed = f->login.address;
    if (username_parse(typed, strlen(typed), &f->name, err) == -1 ||
        complete_name(s, &f->name, err) == -1)
        return -1;
    if (!f->name.domain[0])
        return 0;
    state_must(rc = domain_find(s->db, f->name.domain, &f->domain, err), err);
    f->has_domain = rc == 1;
    if (!f->has_domain)
        return 0;
    state_must(rc = account_find(s->db, f->name.address, &f->account, err),
               err);
    f->has_account = rc == 1;
    return 0;
}

/* Local serves it already, by an epoch that we know nothing of: the control db
   is an old copy. Legacy would show and take what is there no more. */
static bool is_ahead_of_us(const struct state *s, const struct found *f)
{
    int64_t served;
    struct err err;

    state_must(
        provision_served_epoch(s->provision, f->name.address, &served, &err),
        &err);
    /* served in this very epoch: a hold found at the start was taken back, of
       which there was a flip already */
    if (served < (f->has_account ? f->account.epoch : 1) ||
        (f->has_account && f->account.route == ROUTE_LOCAL &&
         served == f->account.epoch))
        return false;
    log_error("account %s refused: local serves it in epoch %lld, the control "
              "db is older",
              f->name.address, (long long)served);
    return true;
}

/* The journal in the store tells of a change of his route that the db does not
   know of: where his mail is nobody can say. */
static bool is_refused(const struct state *s, const struct found *f)
{
    if (!state_witness_refuses(s, f->name.address))
        return false;
    log_error("account %s refused: he has moved since, the control db is older",
              f->name.address);
    return true;
}

static enum route_answer decide(struct state *s, const struct found *f,
                                enum route_service service)
{
    enum route_answer answer;
    struct route_question q = {
        .service = service,
        .has_domain = f->has_domain,
        .is_domain_enabled = f->has_domain && f->domain.is_enabled,
        .is_domain_closed = f->has_domain && f->domain.closed_at != 0,
        .has_account = f->has_account,
        .is_locked = f->has_account && f->account.is_login_locked,
        .route = f->account.route,
        .is_provisioned = f->account.provisioned_epoch == f->account.epoch};

    if (is_refused(s, f))
        return ROUTE_UNAVAILABLE;
    if (service == SERVICE_LOGIN && f->has_domain && !f->has_account)
        state_brake_ask(s, &f->domain, f->name.address, &q);
    answer = route_decide(&q);
    /* nobody can be taken in without room: legacy serves him as before */
    if (answer == ROUTE_PROVE && s->is_full)
        answer = ROUTE_PASS;
    /* the row says local already, local is being told: the flip's release
       answers */
    if (answer == ROUTE_UNAVAILABLE && f->has_account &&
        state_flip_of(s, f->account.id))
        answer = ROUTE_WAIT;
    if (answer != ROUTE_TO_LOCAL && answer != ROUTE_REFUSE &&
        answer != ROUTE_WAIT && is_ahead_of_us(s, f))
        answer = ROUTE_UNAVAILABLE;
    return answer;
}

static struct state_parked *park(struct state *s, struct state_peer *peer,
                                 const json_t *message, const struct found *f,
                                 int64_t wait_ms)
{
    struct state_parked *p = mem_alloc(sizeof(*p));

    p->peer = peer;
    p->id = wire_int(message, "id", 0);
    p->account_id = f->account.id;
    p->until_ms = loop_now_ms(s->loop) + wait_ms;
    /* as he has typed it: his name decides who he is on legacy */
    memcpy(p->typed, f->login.address[0] ? f->login.name : f->name.address,
           sizeof(p->typed));
    p->next = s->parked;
    s->parked = p;
    return p;
}

void state_routes_ask(struct state *s, struct state_peer *peer,
                      const json_t *message)
{
    int64_t id = wire_int(message, "id", 0);
    const char *word = wire_text(message, "service");
    enum route_service service =
        word && strcmp(word, "mail") == 0 ? SERVICE_MAIL : SERVICE_LOGIN;
    enum route_answer answer;
    struct found f;
    struct err err;

    if (look_up(s, wire_text(message, "name"), service, &f, &err) == -1) {
        state_send(s, peer, answer_new(id, ROUTE_REFUSE));
        return;
    }
    answer = decide(s, &f, service);
    if (answer == ROUTE_WAIT)
        park(s, peer, message, &f, f.domain.hold_seconds * 1000LL)->service =
            service;
    else
        state_send(s, peer, answer_from(s, id, answer, &f));
}

/* --- learning */

static void store_seal(struct state *s, int64_t account_id,
                       const struct seal *seal)
{
    struct account_seal stored = {.wrapped_length = sizeof(seal->wrapped_key),
                                  .blob_length = seal->blob_length};
    struct err err;

    memcpy(stored.wrapped_key, seal->wrapped_key, stored.wrapped_length);
    memcpy(stored.blob, seal->blob, stored.blob_length);
    state_write(s);
    state_must(account_seal_set(s->db, account_id, &stored, &err), &err);
}

static void take_text(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

static bool insert(struct state *s, const json_t *message, struct found *f)
{
    struct account_state first = {ROUTE_LEGACY, COPY_NONE, 1};
    struct account *a = &f->account;
    const char *prefix = wire_text(message, "prefix");
    struct err err;
    int rc;

    memset(a, 0, sizeof(*a));
    if (lifecycle_apply(&first, EVENT_LEARNT, &err) == -1) {
        log_error("account %s: %s", f->name.address, err.text);
        return false;
    }
    memcpy(a->address, f->name.address, sizeof(a->address));
    a->domain_id = f->domain.id;
    take_text(a->legacy_user, sizeof(a->legacy_user),
              wire_text(message, "legacy_user"));
    a->route = first.route;
    a->copy = first.copy;
    a->epoch = first.epoch;
    a->password_state = PASSWORD_LEARNT;
    a->has_prefix = prefix != NULL;
    take_text(a->legacy_prefix, sizeof(a->legacy_prefix), prefix);
    take_text(a->legacy_separator, sizeof(a->legacy_separator),
              wire_text(message, "separator"));
    a->created_at = clock_unix_ms();
    state_write(s);
    state_must(rc = account_insert(s->db, a, &err), &err);
    f->has_account = true;
    if (rc == 0)
        return false;
    log_info("account %s learnt via=%s", a->address,
             log_safe(wire_text(message, "via")));
    state_audit_change(s, NULL, a, "learnt", wire_text(message, "via"));
    return true;
}

/* The password that legacy has just accepted sets going again what a refused
   one has stopped. */
static void set_going(struct state *s, struct found *f)
{
    struct account *a = &f->account;
    enum job_kind kind = JOB_INITIAL;

    if (a->copy == COPY_NONE && /* so far only in a list */
        state_change(s, a, EVENT_LEARNT, "first login")) {
        state_brake_taken_in(s, &f->domain);
        state_jobs_queue(s, a, &f->domain, JOB_INITIAL, clock_unix_ms());
    }
    if (strcmp(a->last_error_kind, err_kind_name(ERR_DENIED)) != 0)
        return;
    a->last_error[0] = a->last_error_kind[0] = '\0';
    a->next_flip_at = 0; /* if a flip was stopped, the password stopped it */
    if (a->copy == COPY_FAILED) {
        if (!state_change(s, a, EVENT_RETRIED, "legacy accepts the password"))
            return;
    } else if (a->copy == COPY_TRAIL) {
        kind = JOB_TRAIL;
    } else if (a->copy == COPY_DELTA) {
        kind = JOB_DELTA;
    } else if (a->copy != COPY_INITIAL) {
        return;
    }
    state_jobs_queue(s, a, &f->domain, kind, clock_unix_ms());
}

/* Who is known from a list only is taken in as somebody who is not known. */
static bool may_begin(struct state *s, const struct found *f)
{
    struct found unknown = *f;

    unknown.has_account = false;
    return f->account.copy != COPY_NONE ||
           decide(s, &unknown, SERVICE_LOGIN) == ROUTE_PROVE;
}

static bool may_learn(struct state *s, const json_t *message,
                      const struct found *f, struct seal *seal)
{
    const char *user = wire_text(message, "legacy_user");
    struct err err;

    if (!f->has_domain || !f->domain.is_enabled || !user || !*user ||
        strlen(user) >= sizeof(f->account.legacy_user))
        return false;
    if (wire_seal(message, seal, &err) == -1) {
        log_error("learn %s: %s", f->name.address, err.text);
        return false;
    }
    if (!state_keys_knows(s, seal)) {
        log_warn("learn %s: sealed to a key that is gone", f->name.address);
        return false;
    }
    return true;
}

/* The password opens a mailbox that is not the one we have copied: the address
   was given to somebody else, who must not read what is here. */
static bool is_of_another(const json_t *message, const struct account *a)
{
    int64_t met = wire_int(message, "uidvalidity", 0);
    uint32_t known = mailbox_id_uidvalidity(a->mailbox_id);

    if (a->route != ROUTE_LOCAL || met == 0 || known == 0 || met == known)
        return false;
    log_warn("account %s password not learnt: INBOX on legacy was made anew, "
             "uidvalidity=%lld known=%u",
             a->address, (long long)met, known);
    return true;
}

void state_routes_learn(struct state *s, struct state_peer *peer,
                        const json_t *message)
{
    int64_t id = wire_int(message, "id", 0);
    struct found f;
    struct seal seal;
    struct err err;

    if (look_up(s, wire_text(message, "name"), SERVICE_LOGIN, &f, &err) == -1) {
        state_send(s, peer, answer_new(id, ROUTE_REFUSE));
        return;
    }
    if (f.has_account && is_of_another(message, &f.account)) {
        state_send(s, peer, answer_new(id, ROUTE_REFUSE));
        return;
    }
    if (!s->is_full && may_learn(s, message, &f, &seal) && !is_refused(s, &f) &&
        !is_ahead_of_us(s, &f)) {
        /* asked once more: he may have been let through to legacy before a
           freeze, or together with more than the rate allows */
        bool is_taken_in =
            !f.has_account && decide(s, &f, SERVICE_LOGIN) == ROUTE_PROVE;

        if (is_taken_in && insert(s, message, &f)) {
            state_brake_taken_in(s, &f.domain);
            store_seal(s, f.account.id, &seal);
            f.account.has_seal = true;
            state_jobs_queue(s, &f.account, &f.domain, JOB_HASH,
                             clock_unix_ms());
            state_jobs_queue(s, &f.account, &f.domain, JOB_INITIAL,
                             clock_unix_ms());
            state_provision_later(s, f.account.id);
        } else if (f.has_account && may_begin(s, &f) &&
                   state_credentials_may_learn(&f.account, &f.domain)) {
            set_going(s, &f);
            if (state_credentials_learn(s, &f.account, &f.domain, &seal,
                                        wire_text(message, "via")) &&
                f.account.route == ROUTE_LOCAL) {
                park(s, peer, message, &f, LEARN_WAIT_MS)->is_learn = true;
                return;
            }
        }
    }
    enum route_answer answer = decide(s, &f, SERVICE_LOGIN);
    /* his session is on legacy already, and the hold cannot wait for itself */
    if (answer == ROUTE_WAIT)
        answer = ROUTE_UNAVAILABLE;
    state_send(s, peer, answer_from(s, id, answer, &f));
}

void state_routes_confirm(struct state *s, int64_t account_id)
{
    struct account account, was;

    if (s->is_full || !state_load(s, account_id, &account, NULL) ||
        account.route != ROUTE_LOCAL ||
        account.password_state != PASSWORD_LEARNT)
        return;
    was = account;
    account.password_state = PASSWORD_CONFIRMED;
    state_store(s, &account);
    state_audit_change(s, &was, &account, "confirmed",
                       "local accepts the password");
}

/* --- what waits */

/* Answer it by a look-up made now, and forget it. */
static void answer_parked(struct state *s, struct state_parked **at,
                          bool is_late)
{
    struct state_parked *p = *at;
    enum route_answer answer = ROUTE_UNAVAILABLE;
    struct found f;
    struct err err;

    if (look_up(s, p->typed, p->service, &f, &err) == 0) {
        answer = decide(s, &f, p->service);
        if (answer == ROUTE_WAIT && !is_late)
            return; /* held again meanwhile */
        if (answer == ROUTE_WAIT || (is_late && p->is_learn))
            answer = ROUTE_UNAVAILABLE;
    }
    *at = p->next;
    state_send(s, p->peer, answer_from(s, p->id, answer, &f));
    free(p);
}

static void answer_account(struct state *s, int64_t account_id, bool is_learn)
{
    struct state_parked **at = &s->parked;

    while (*at) {
        struct state_parked *p = *at;

        if (p->account_id == account_id && p->is_learn == is_learn)
            answer_parked(s, at, false);
        if (*at == p)
            at = &p->next;
    }
}

void state_routes_release(struct state *s, int64_t account_id)
{
    answer_account(s, account_id, false);
}

void state_routes_hashed(struct state *s, int64_t account_id)
{
    answer_account(s, account_id, true);
}

void state_routes_forget_peer(struct state *s, const struct state_peer *peer)
{
    struct state_parked **at = &s->parked;

    while (*at) {
        struct state_parked *p = *at;

        if (p->peer == peer) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

void state_routes_tick(struct state *s)
{
    struct state_parked **at = &s->parked;

    while (*at) {
        struct state_parked *p = *at;

        if (p->until_ms <= loop_now_ms(s->loop))
            answer_parked(s, at, true);
        if (*at == p)
            at = &p->next;
    }
}
