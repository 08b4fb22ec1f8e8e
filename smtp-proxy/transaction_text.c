/*
 * The second half of a transaction: its text from DATA to the verdicts,
 * streamed or by way of a file.
 */
#include "smtp-proxy/transaction_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define WAITING_MAX ((size_t)256 << 10) /* bytes towards the hop */
#define PLAY_CHUNK  32768

static void finish(struct transaction *t);
static void play(struct transaction *t);
static void ask_again(struct transaction *t);

void transaction_refuse_text(struct transaction *t, const char *text)
{
    transaction_log(t, 451);
    transaction_drop_backend(t);
    transaction_settle(t);
    transaction_answer(t, 451, text);
}

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
        transaction_refuse_text(t, "4.3.1 Temporary failure");
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

        transaction_log(t, reply.code);
        transaction_settle(t);
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

void transaction_on_start_text(void *ctx, const struct smtp_reply *reply)
{
    struct transaction *t = ctx;
    struct smtp_reply copy = *reply;
    bool is_good = reply->code / 100 == 3;

    if (t->state == TS_START && !is_good) {
        transaction_log(t, copy.code);
        transaction_settle(t);
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
    transaction_spoil(t, code, text);
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

void transaction_fail_rest(struct transaction *t, const char *text)
{
    transaction_drop_backend(t);
    envelope_judge_rest(&t->envelope, 451, text);
    finish(t);
}

/* The dot goes to the hop, with the intent on record. */
static void commit(struct transaction *t)
{
    struct err err;

    if (journal_dot(t->site->journal, &t->envelope.message, &err) == -1) {
        log_error("smtp %s journal failed=\"%s\"", t->id, err.text);
        transaction_fail_rest(t, "4.3.1 Temporary failure");
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
    transaction_fail_rest(t, "4.3.0 Send it again");
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

void transaction_on_asked_again(struct transaction *t,
                                const struct smtp_reply *reply)
{
    struct recipient *r = &t->envelope.recipients[t->again_at];

    r->is_at_hop = reply->code / 100 == 2;
    if (!r->is_at_hop)
        envelope_judge(r, reply->code, reply->text);
    t->again_at++;
    ask_again(t);
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
            transaction_fail_rest(t, "4.3.1 Temporary failure");
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

        transaction_log(t, reply.code);
        transaction_settle(t);
        for (size_t i = t->is_lmtp ? t->envelope.count : 1; i > 0; i--)
            t->ops->on_reply(t->ctx, &reply, i == 1);
        return;
    }
    digest_take(t->digest, t->envelope.message.digest);
    taken_count = envelope_mark_taken(&t->envelope, t->site->journal);
    if (taken_count < t->envelope.count &&
        (site_is_under_way(t->site, t) ||
         journal_is_under_way(t->site->journal, &t->envelope.message))) {
        transaction_fail_rest(t, "4.3.0 The same message is being delivered");
    } else if (t->state == TS_SPOOL) {
        end_spooling(t, taken_count);
    } else {
        end_streaming(t, taken_count);
    }
}

/* ---- the verdicts ---- */

void transaction_on_verdict(void *ctx, unsigned index,
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
        if (recipient_is_taken(r)) {
            envelope_record_taken(&t->envelope, r, t->site->journal);
            if (r->stranger != NULL)
                strangers_note(t->site->strangers, r->stranger);
        }
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
    transaction_log(t, reply.code);
    if (taken_count > 0 && taken_count < count)
        sync_journal(t);
    /* after a 4xx to all the records must stay open */
    t->has_untold = taken_count > 0 && (t->is_lmtp || taken_count == count);
    transaction_settle(t);
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

void transaction_on_refused(void *ctx, const struct smtp_reply *reply)
{
    struct transaction *t = ctx;

    if (t->state == TS_TEXT) {
        swallow(t, reply->code, reply->text);
        t->ops->on_room(t->ctx);
        return;
    }
    envelope_judge_rest(&t->envelope, reply->code, reply->text);
    transaction_drop_backend(t);
    finish(t);
}

void transaction_on_drained(void *ctx)
{
    struct transaction *t = ctx;

    if (t->state == TS_PLAY)
        play(t);
    else if (t->state == TS_TEXT)
        t->ops->on_room(t->ctx);
}

void transaction_on_lost_text(struct transaction *t)
{
    static const char lost[] = "4.4.2 Lost connection to the mail server";

    if (t->state == TS_START) {
        transaction_refuse_text(t, lost);
    } else if (t->state == TS_TEXT) {
        swallow(t, 451, lost);
        t->ops->on_room(t->ctx);
    } else if (t->state == TS_DOT) {
        log_warn("smtp %s message outcome=unknown from=<%s>", t->id,
                 log_safe(t->envelope.sender));
        transaction_fail_rest(t, "4.4.2 Lost connection, outcome unknown");
    } else {
        transaction_fail_rest(t, lost);
    }
}
