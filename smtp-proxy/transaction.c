#include "smtp-proxy/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtp-proxy/address.h"
#include "smtp-proxy/backend.h"
#include "smtp-proxy/envelope.h"
#include "smtp-proxy/recipient.h"
#include "smtp-proxy/spool.h"

#define WAITING_MAX ((size_t)256 << 10) /* bytes towards the hop */
#define PLAY_CHUNK  32768
#define HEAD_MAX    4096

/* IDLE -MAIL-> OPEN -RCPT-> ROUTE -> HOP -> OPEN
   OPEN -DATA-> START -> TEXT -> DOT -> IDLE           streaming
   OPEN -DATA-> SPOOL (-> AGAIN) -> RESTART -> PLAY -> DOT -> IDLE
                                                       possibly a repetition
   TEXT, SPOOL, verdict known -> SWALLOW -> IDLE */
enum transaction_state {
    TS_IDLE,
    TS_OPEN,
    TS_ROUTE, /* state is asked who serves the recipient */
    TS_HOP,   /* the hop is asked for it */
    TS_START,
    TS_TEXT,
    TS_SPOOL,
    TS_AGAIN, /* the hop is asked again for those who have not had it */
    TS_RESTART,
    TS_PLAY,
    TS_DOT,
    TS_SWALLOW,
    TS_COUNT
};

static const char *const state_name[] = {"idle",    "open", "route", "hop",
                                         "start",   "text", "spool", "again",
                                         "restart", "play", "dot",   "swallow"};
_Static_assert(sizeof(state_name) / sizeof(state_name[0]) == TS_COUNT,
               "a name for each state");

struct transaction {
    const struct site *site;
    const struct transaction_ops *ops;
    void *ctx;
    char id[40];
    bool is_lmtp; /* the client's side */
    enum transaction_state state;
    struct envelope envelope;
    struct directory_query *query; /* NULL unless ROUTE */
    struct backend *backend;       /* NULL when there is none */
    enum recipient_side side;      /* of the backend */
    bool is_reused;                /* the backend has served a message before */
    bool has_untold;      /* the last 250 may not have reached the client */
    struct address asked; /* the recipient being asked for */
    char asked_path[SMTP_PATH_MAX]; /* as the client said it */
    int64_t asked_account;
    size_t again_at;
    bool has_final; /* the whole of it fails with `final` */
    struct smtp_reply final;
    struct digest *digest;
    struct trace trace;
    struct buf head; /* our lines in front */
    struct spool *spool;
    uint64_t size_bytes;
    int64_t begun_ms;
};

static void finish(struct transaction *t);
static void play(struct transaction *t);
static void ask_again(struct transaction *t);
static const struct backend_ops backend_ops;

static bool passes_text(enum transaction_state state)
{
    return state == TS_TEXT || state == TS_PLAY || state == TS_DOT;
}

/* The only writer of t->state. */
static void transaction_enter(struct transaction *t,
                              enum transaction_state next)
{
    bool has_ended = passes_text(t->state) && !passes_text(next);

    log_debug("smtp %s %s -> %s", t->id, state_name[t->state],
              state_name[next]);
    t->state = next;
    if (has_ended)
        site_message_ended(t->site);
}

struct transaction *transaction_new(const struct site *site, const char *id,
                                    bool is_lmtp,
                                    const struct transaction_ops *ops,
                                    void *ctx)
{
    struct transaction *t = mem_alloc(sizeof(*t));

    t->site = site;
    t->ops = ops;
    t->ctx = ctx;
    snprintf(t->id, sizeof(t->id), "%s", id);
    t->is_lmtp = is_lmtp;
    envelope_init(&t->envelope);
    buf_init(&t->head, HEAD_MAX);
    return t;
}

static void drop_backend(struct transaction *t)
{
    backend_close(&t->backend);
    t->side = SIDE_NONE;
    t->is_reused = false;
}

/* The message is over, whatever became of it. */
static void settle(struct transaction *t)
{
    t->has_final = false;
    spool_free(&t->spool);
    digest_free(&t->digest);
    if (t->query != NULL)
        directory_cancel(&t->query);
    if (t->backend != NULL) {
        backend_reset(t->backend);
        t->is_reused = true;
    }
    transaction_enter(t, TS_IDLE);
}

void transaction_free(struct transaction **transaction)
{
    struct transaction *t = *transaction;

    if (t == NULL)
        return;
    *transaction = NULL;
    drop_backend(t);
    settle(t);
    envelope_release(&t->envelope);
    buf_release(&t->head);
    free(t);
}

/* ---- what goes wrong ---- */

/* From now on the whole message fails with this; the first reason counts. */
static void spoil(struct transaction *t, int code, const char *text)
{
    drop_backend(t);
    if (t->has_final)
        return;
    t->has_final = true;
    smtp_reply_set(&t->final, code == 421 ? 451 : code, text);
}

static void answer_final(struct transaction *t)
{
    struct smtp_reply reply = t->final;

    t->ops->on_reply(t->ctx, &reply, true);
}

static void answer(struct transaction *t, int code, const char *text)
{
    struct smtp_reply reply;

    smtp_reply_set(&reply, code, text);
    t->ops->on_reply(t->ctx, &reply, true);
}

static void log_message(const struct transaction *t, int code)
{
    const struct mail_url *hop = transaction_hop(t);
    unsigned unknown = 0;

    for (size_t i = 0; i < t->envelope.count; i++)
        unknown += t->envelope.recipients[i].account_id == 0;
    log_info("smtp %s message from=<%s> recipients=%zu taken=%zu unknown=%u "
             "side=%s hop=%s size=%llu code=%d ms=%lld",
             t->id, log_safe(t->envelope.sender), t->envelope.count,
             envelope_taken_count(&t->envelope), unknown,
             recipient_side_name(t->side), hop != NULL ? hop->host : "-",
             (unsigned long long)t->size_bytes, code,
             (long long)(loop_now_ms(t->site->loop) - t->begun_ms));
}

/* The answer to DATA, and the end of the message. */
static void refuse_text(struct transaction *t, const char *text)
{
    log_message(t, 451);
    drop_backend(t);
    settle(t);
    answer(t, 451, text);
}

/* What the client does with a failure before the text is over to it: it may
   ask again. Only accepted recipients are lost with the hop. */
static void lose_before_text(struct transaction *t, int code, const char *text)
{
    if (t->envelope.count > 0)
        spoil(t, code, text);
    else
        drop_backend(t);
}

/* ---- MAIL and RCPT ---- */

bool transaction_has_sender(const struct transaction *t)
{
    return t->state != TS_IDLE;
}

size_t transaction_recipient_count(const struct transaction *t)
{
    return t->state == TS_IDLE ? 0 : t->envelope.count;
}

void transaction_begin(struct transaction *t, const struct smtp_command *mail)
{
    envelope_begin(&t->envelope, mail);
    t->has_untold = false;
    t->size_bytes = 0;
    t->begun_ms = loop_now_ms(t->site->loop);
    transaction_enter(t, TS_OPEN);
}

void transaction_reset(struct transaction *t)
{
    if (t->state != TS_IDLE)
        settle(t);
}

static void answer_recipient(struct transaction *t, int code, const char *text)
{
    transaction_enter(t, TS_OPEN);
    answer(t, code, text);
}

/* Turn to the hop of this recipient, which differs from the last one only while
   that one has accepted nobody. */
static void ask_hop(struct transaction *t, enum recipient_side side,
                    const struct mail_url *hop)
{
    const struct backend_options options = {.loop = t->site->loop,
                                            .dns = t->site->dns,
                                            .tls = t->site->tls_client,
                                            .node = t->site->node,
                                            .ops = &backend_ops,
                                            .ctx = t};

    if (t->backend != NULL &&
        (t->side != side || !recipient_same_hop(backend_url(t->backend), hop)))
        drop_backend(t);
    if (t->backend == NULL && !site_admits(t->site, hop)) {
        answer_recipient(t, 451, "4.3.2 Mail server too busy, try later");
        return;
    }
    if (t->backend == NULL) {
        t->backend = backend_open(&options, hop);
        t->is_reused = false;
    }
    t->side = side;
    transaction_enter(t, TS_HOP);
    backend_recipient(t->backend, &t->envelope.mail, t->asked.hop_path);
}

static void on_route(void *ctx, const struct directory_answer *a,
                     const struct err *err)
{
    struct transaction *t = ctx;
    struct recipient_question q = {.side = t->side,
                                   .accepted_count =
                                       (unsigned)t->envelope.count,
                                   .bound = transaction_hop(t),
                                   .answer = a->answer,
                                   .legacy = &a->legacy_smtp,
                                   .local = &t->site->local_lmtp};
    enum recipient_verdict verdict = recipient_decide(&q);
    const char *text;
    int code = recipient_reply(verdict, &text);

    t->query = NULL;
    if (err != NULL && err->kind != ERR_NONE)
        log_warn("smtp %s route failed=\"%s\"", t->id, err->text);
    if (t->has_final) {
        transaction_enter(t, TS_OPEN);
        answer_final(t);
        return;
    }
    if (code != 0) {
        answer_recipient(t, code, text);
        return;
    }
    t->asked_account = a->account_id;
    if (verdict == RECIPIENT_ASK_LEGACY) {
        ask_hop(t, SIDE_LEGACY, &a->legacy_smtp);
        return;
    }
    /* another name of the mailbox: local knows only the one */
    if (a->address[0] != '\0' && strcmp(a->address, t->asked.canonical) != 0)
        snprintf(t->asked.hop_path, sizeof(t->asked.hop_path), "%s",
                 a->address);
    ask_hop(t, SIDE_LOCAL, &t->site->local_lmtp);
}

void transaction_recipient(struct transaction *t, const struct smtp_path *path)
{
    if (t->has_final) {
        answer_final(t);
        return;
    }
    if (t->envelope.count >= ENVELOPE_RECIPIENTS_MAX) {
        answer(t, 452, "4.5.3 Too many recipients");
        return;
    }
    if (!address_read(path, t->site->node, &t->asked)) {
        answer(t, 550, "5.1.3 No such address here");
        return;
    }
    memcpy(t->asked_path, path->text, sizeof(t->asked_path));
    t->asked_account = 0;
    transaction_enter(t, TS_ROUTE);
    t->query = directory_ask(t->site->directory, SERVICE_MAIL, t->asked.typed,
                             on_route, t);
}

static void on_recipient(void *ctx, const struct smtp_reply *reply)
{
    struct transaction *t = ctx;
    struct smtp_reply copy = *reply;
    struct recipient *r;

    if (t->state == TS_AGAIN) {
        r = &t->envelope.recipients[t->again_at];
        r->is_at_hop = reply->code / 100 == 2;
        if (!r->is_at_hop)
            envelope_judge(r, reply->code, reply->text);
        t->again_at++;
        ask_again(t);
        return;
    }
    if (t->state != TS_HOP)
        return;
    if (reply->code / 100 == 2)
        envelope_add(&t->envelope, t->asked_path, t->asked.hop_path,
                     t->asked_account);
    transaction_enter(t, TS_OPEN);
    t->ops->on_reply(t->ctx, &copy, true);
}

/* ---- the text ---- */

static void start_streaming(struct transaction *t)
{
    transaction_enter(t, TS_START);
    backend_start_text(t->backend);
}

static void start_spooling(struct transaction *t)
{
    struct err err;

    t->spool = spool_new(journal_folder(t->site->journal), &err);
    if (t->spool == NULL) {
        log_error("smtp %s spool failed=\"%s\"", t->id, err.text);
        refuse_text(t, "4.3.1 Temporary failure");
        return;
    }
    transaction_enter(t, TS_SPOOL);
    t->ops->on_start_text(t->ctx);
}

void transaction_start_text(struct transaction *t,
                            const struct trace_origin *origin)
{
    if (t->has_final) {
        struct smtp_reply reply = t->final;

        log_message(t, reply.code);
        settle(t);
        t->ops->on_reply(t->ctx, &reply, true);
        return;
    }
    trace_init(&t->trace, t->site->node);
    buf_clear(&t->head);
    trace_write(&t->trace, origin, &t->head);
    t->digest = digest_new();
    digest_add(t->digest, t->envelope.sender, strlen(t->envelope.sender) + 1);
    t->size_bytes = 0;
    if (envelope_is_suspect(&t->envelope, t->site->journal))
        start_spooling(t);
    else
        start_streaming(t);
}

static void on_start_text(void *ctx, const struct smtp_reply *reply)
{
    struct transaction *t = ctx;
    struct smtp_reply copy = *reply;
    bool is_good = reply->code / 100 == 3;

    if (t->state == TS_START && !is_good) {
        log_message(t, copy.code);
        settle(t);
        t->ops->on_reply(t->ctx, &copy, true);
        return;
    }
    if (t->state == TS_RESTART && !is_good) {
        envelope_judge_rest(&t->envelope, reply->code, reply->text);
        finish(t);
        return;
    }
    backend_text(t->backend, t->head.bytes, t->head.used);
    if (t->state == TS_RESTART) {
        transaction_enter(t, TS_PLAY);
        play(t);
        return;
    }
    transaction_enter(t, TS_TEXT);
    t->ops->on_start_text(t->ctx);
}

/* The rest of the text is read and thrown away. */
static void swallow(struct transaction *t, int code, const char *text)
{
    spoil(t, code, text);
    spool_free(&t->spool);
    transaction_enter(t, TS_SWALLOW);
}

void transaction_text(struct transaction *t, const char *bytes, size_t length)
{
    struct err err;

    t->size_bytes += length;
    if (t->state == TS_SWALLOW)
        return;
    digest_add(t->digest, bytes, length);
    trace_read(&t->trace, bytes, length);
    if (t->size_bytes > t->site->size_max_bytes) {
        swallow(t, 552, "5.3.4 Message too big");
    } else if (trace_is_loop(&t->trace)) {
        log_warn("smtp %s loop received=%u hops=%u", t->id,
                 t->trace.received_count, t->trace.hop_count);
        swallow(t, 554, "5.4.6 Routing loop detected");
    } else if (t->state == TS_TEXT) {
        backend_text(t->backend, bytes, length);
    } else if (t->state == TS_SPOOL &&
               spool_write(t->spool, bytes, length, &err) == -1) {
        log_error("smtp %s spool failed=\"%s\"", t->id, err.text);
        swallow(t, 451, "4.3.1 Temporary failure");
    }
}

bool transaction_has_room(const struct transaction *t)
{
    return t->state != TS_TEXT ||
           backend_waiting_bytes(t->backend) < WAITING_MAX;
}

/* Cut the hop off; who has not had the message gets a 451. */
static void fail_rest(struct transaction *t, const char *text)
{
    drop_backend(t);
    envelope_judge_rest(&t->envelope, 451, text);
    finish(t);
}

/* The dot goes to the hop, with the intent on record. */
static void commit(struct transaction *t)
{
    struct err err;

    if (journal_dot(t->site->journal, &t->envelope.message, &err) == -1) {
        log_error("smtp %s journal failed=\"%s\"", t->id, err.text);
        fail_rest(t, "4.3.1 Temporary failure");
        return;
    }
    transaction_enter(t, TS_DOT);
    backend_end_text(t->backend);
}

/* All but the dot has been passed on. */
static void end_streaming(struct transaction *t, size_t taken_count)
{
    if (taken_count == 0) {
        commit(t);
        return;
    }
    fail_rest(t, "4.3.0 Send it again");
}

static void end_spooling(struct transaction *t, size_t taken_count)
{
    if (taken_count == t->envelope.count) {
        finish(t);
    } else if (t->has_final) {
        envelope_judge_rest(&t->envelope, t->final.code, t->final.text);
        finish(t);
    } else if (taken_count > 0) {
        backend_reset(t->backend);
        t->again_at = 0;
        transaction_enter(t, TS_AGAIN);
        ask_again(t);
    } else {
        transaction_enter(t, TS_RESTART);
        backend_start_text(t->backend);
    }
}

static void ask_again(struct transaction *t)
{
    struct envelope *e = &t->envelope;

    for (; t->again_at < e->count; t->again_at++) {
        struct recipient *r = &e->recipients[t->again_at];

        if (!r->was_taken) {
            backend_recipient(t->backend, &e->mail, r->hop_path);
            return;
        }
        r->is_at_hop = false;
    }
    if (envelope_at_hop(e, 0) == NULL) {
        finish(t);
        return;
    }
    transaction_enter(t, TS_RESTART);
    backend_start_text(t->backend);
}

static void play(struct transaction *t)
{
    char chunk[PLAY_CHUNK];
    struct err err;

    while (backend_waiting_bytes(t->backend) < WAITING_MAX) {
        ssize_t count = spool_read(t->spool, chunk, sizeof(chunk), &err);

        if (count == 0) {
            commit(t);
            return;
        }
        if (count == -1) {
            log_error("smtp %s spool failed=\"%s\"", t->id, err.text);
            fail_rest(t, "4.3.1 Temporary failure");
            return;
        }
        backend_text(t->backend, chunk, (size_t)count);
    }
}

void transaction_end_text(struct transaction *t)
{
    size_t taken_count;

    if (t->state == TS_SWALLOW) {
        struct smtp_reply reply = t->final;

        log_message(t, reply.code);
        settle(t);
        for (size_t i = t->is_lmtp ? t->envelope.count : 1; i > 0; i--)
            t->ops->on_reply(t->ctx, &reply, i == 1);
        return;
    }
    digest_take(t->digest, t->envelope.message.digest);
    taken_count = envelope_mark_taken(&t->envelope, t->site->journal);
    if (taken_count < t->envelope.count && site_is_under_way(t->site, t)) {
        fail_rest(t, "4.3.0 The same message is being delivered");
    } else if (t->state == TS_SPOOL) {
        end_spooling(t, taken_count);
    } else {
        end_streaming(t, taken_count);
    }
}

/* ---- the verdicts ---- */

static void on_verdict(void *ctx, unsigned index,
                       const struct smtp_reply *reply)
{
    struct transaction *t = ctx;
    bool is_for_all = backend_url(t->backend)->protocol != MAIL_LMTP;
    bool is_last =
        is_for_all || envelope_at_hop(&t->envelope, index + 1) == NULL;
    struct recipient *r;

    for (unsigned i = index; (r = envelope_at_hop(&t->envelope, i)) != NULL;
         i++) {
        envelope_judge(r, reply->code, reply->text);
        if (recipient_is_taken(r))
            envelope_record_taken(&t->envelope, r, t->site->journal);
        if (!is_for_all)
            break;
    }
    if (is_last)
        finish(t);
}

static void sync_journal(const struct transaction *t)
{
    struct err err;

    if (journal_sync(t->site->journal, &err) == -1)
        log_error("smtp %s journal failed=\"%s\"", t->id, err.text);
}

/* Every recipient has a verdict or was served before: the client hears it. */
static void finish(struct transaction *t)
{
    struct smtp_reply reply;
    size_t taken_count = envelope_taken_count(&t->envelope);
    size_t count = t->envelope.count;

    envelope_answer(&t->envelope, &reply);
    log_message(t, reply.code);
    if (taken_count > 0 && taken_count < count)
        sync_journal(t);
    /* after a 4xx to all the records must stay open */
    t->has_untold = taken_count > 0 && (t->is_lmtp || taken_count == count);
    settle(t);
    if (!t->is_lmtp) {
        t->ops->on_reply(t->ctx, &reply, true);
        return;
    }
    /* the last on_reply may begin the next message, or free t */
    for (size_t i = 0; i < count; i++) {
        recipient_answer(&t->envelope.recipients[i], &reply);
        t->ops->on_reply(t->ctx, &reply, i + 1 == count);
    }
}

void transaction_told(struct transaction *t)
{
    if (!t->has_untold || t->state != TS_IDLE)
        return;
    t->has_untold = false;
    envelope_record_told(&t->envelope, t->site->journal);
}

static void on_refused(void *ctx, const struct smtp_reply *reply)
{
    struct transaction *t = ctx;

    if (t->state == TS_TEXT) {
        swallow(t, reply->code, reply->text);
        t->ops->on_room(t->ctx);
        return;
    }
    envelope_judge_rest(&t->envelope, reply->code, reply->text);
    drop_backend(t);
    finish(t);
}

static void on_drained(void *ctx)
{
    struct transaction *t = ctx;

    if (t->state == TS_PLAY)
        play(t);
    else if (t->state == TS_TEXT)
        t->ops->on_room(t->ctx);
}

/* The hop was lost while it was asked for a recipient. One that had been idle
   since the last message may have closed by right: it gets a second chance. */
static void on_lost_asking(struct transaction *t)
{
    bool may_retry = t->is_reused && t->envelope.count == 0;
    enum recipient_side side = t->side;
    struct mail_url hop = *backend_url(t->backend);

    if (may_retry) {
        drop_backend(t);
        ask_hop(t, side, &hop);
        return;
    }
    lose_before_text(t, 451, "4.4.2 Lost connection to the mail server");
    answer_recipient(t, 451, "4.4.1 No answer from the mail server");
}

static void on_lost(void *ctx, const struct err *err)
{
    struct transaction *t = ctx;

    log_line(err->kind == ERR_SETUP ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN,
             "smtp %s hop state=%s lost=\"%s\"", t->id, state_name[t->state],
             log_safe(err->text));
    switch (t->state) {
    case TS_IDLE: drop_backend(t); return;
    case TS_OPEN:
    case TS_ROUTE:
    case TS_SPOOL:
        lose_before_text(t, 451, "4.4.2 Lost connection to the mail server");
        return;
    case TS_HOP: on_lost_asking(t); return;
    case TS_START:
        refuse_text(t, "4.4.2 Lost connection to the mail server");
        return;
    case TS_TEXT:
        swallow(t, 451, "4.4.2 Lost connection to the mail server");
        t->ops->on_room(t->ctx);
        return;
    case TS_AGAIN:
    case TS_RESTART:
    case TS_PLAY:
        fail_rest(t, "4.4.2 Lost connection to the mail server");
        return;
    case TS_DOT:
        log_warn("smtp %s message outcome=unknown from=<%s>", t->id,
                 log_safe(t->envelope.sender));
        fail_rest(t, "4.4.2 Lost connection, outcome unknown");
        return;
    case TS_SWALLOW: /* its backend was closed */
    case TS_COUNT: break;
    }
    drop_backend(t);
}

static const struct backend_ops backend_ops = {
    .on_recipient = on_recipient,
    .on_start_text = on_start_text,
    .on_drained = on_drained,
    .on_refused = on_refused,
    .on_verdict = on_verdict,
    .on_lost = on_lost,
};

/* ---- holds ---- */

/* Break off what has not sent its text yet. Whatever waits for the hop gets its
   answer now, since the hop will give none. */
static void break_off(struct transaction *t)
{
    static const char text[] = "4.3.2 Mailbox is being moved, try again";

    log_debug("smtp %s held in %s", t->id, state_name[t->state]);
    switch (t->state) {
    case TS_HOP:
        spoil(t, 451, text);
        answer_recipient(t, 451, text);
        return;
    case TS_START: refuse_text(t, text); return;
    case TS_AGAIN:
    case TS_RESTART: fail_rest(t, text); return;
    case TS_OPEN:
    case TS_ROUTE:
    case TS_SPOOL: spoil(t, 451, text); return;
    case TS_IDLE:
    case TS_TEXT:
    case TS_PLAY:
    case TS_DOT:
    case TS_SWALLOW:
    case TS_COUNT: break;
    }
}

static bool concerns(const struct transaction *t, int64_t account_id)
{
    if (t->state == TS_IDLE || t->side != SIDE_LEGACY)
        return false;
    return envelope_has_account(&t->envelope, account_id) ||
           (t->state == TS_HOP && t->asked_account == account_id);
}

bool transaction_runs_for(const struct transaction *t, int64_t account_id)
{
    return concerns(t, account_id) && passes_text(t->state);
}

bool transaction_runs_for_nobody(const struct transaction *t)
{
    return transaction_runs_for(t, 0);
}

bool transaction_hold(struct transaction *t, int64_t account_id)
{
    /* nobody we knew at RCPT may have become this account since */
    if (!passes_text(t->state) && (concerns(t, account_id) || concerns(t, 0)))
        break_off(t);
    return transaction_runs_for(t, account_id);
}

const struct mail_url *transaction_hop(const struct transaction *t)
{
    return t->backend != NULL ? backend_url(t->backend) : NULL;
}

bool transaction_meets(const struct transaction *t,
                       const struct transaction *other)
{
    return t != other && other->state == TS_DOT &&
           envelope_overlaps(&t->envelope, &other->envelope);
}
