#include "smtp-proxy/transaction_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/tally.h"

#define HEAD_MAX 4096

static const char *const state_name[] = {"idle",    "open", "route", "hop",
                                         "start",   "text", "spool", "again",
                                         "restart", "play", "dot",   "swallow"};
_Static_assert(sizeof(state_name) / sizeof(state_name[0]) == TS_COUNT,
               "a name for each state");

static const struct backend_ops backend_ops;

/* Is text on its way to the hop, or its verdict due? */
static bool passes_text(enum transaction_state state)
{
    return state == TS_TEXT || state == TS_PLAY || state == TS_DOT;
}

void transaction_enter(struct transaction *t, enum transaction_state next)
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

void transaction_drop_backend(struct transaction *t)
{
    backend_close(&t->backend);
    t->side = SIDE_NONE;
    t->is_reused = false;
}

void transaction_settle(struct transaction *t)
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
    transaction_drop_backend(t);
    transaction_settle(t);
    envelope_release(&t->envelope);
    buf_release(&t->head);
    free(t);
}

/* ---- what goes wrong ---- */

void transaction_spoil(struct transaction *t, int code, const char *text)
{
    transaction_drop_backend(t);
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

void transaction_answer(struct transaction *t, int code, const char *text)
{
    struct smtp_reply reply;

    smtp_reply_set(&reply, code, text);
    t->ops->on_reply(t->ctx, &reply, true);
}

/* One that the hop had accepted at RCPT, and what became of it. */
static void log_recipient(const struct transaction *t,
                          const struct recipient *r, int code)
{
    bool has_own = r->code != 0;

    tally_add(1, "recipients_total{side=\"%s\",answer=\"%dxx\"}",
              recipient_side_name(t->side),
              (has_own        ? r->code
               : r->was_taken ? 250
                              : code) /
                  100);
    log_info(
        "smtp %s recipient mail=%u to=<%s> side=%s code=%d "
        "answer=\"%s\"%s",
        t->id, t->mail_number, log_safe(r->path), recipient_side_name(t->side),
        has_own        ? r->code
        : r->was_taken ? 250
                       : code,
        log_safe(has_own ? r->text : ""), r->was_taken ? " repeated=yes" : "");
}

void transaction_log(const struct transaction *t, int code)
{
    const struct mail_url *hop = transaction_hop(t);
    unsigned unknown = 0;

    for (size_t i = 0; i < t->envelope.count; i++)
        unknown += t->envelope.recipients[i].account_id == 0;
    log_info("smtp %s message mail=%u from=<%s> message_id=%s recipients=%zu "
             "taken=%zu unknown=%u side=%s hop=%s size=%llu code=%d ms=%lld",
             t->id, t->mail_number, log_safe(t->envelope.sender),
             t->trace.message_id[0] ? log_safe(t->trace.message_id) : "-",
             t->envelope.count, envelope_taken_count(&t->envelope), unknown,
             recipient_side_name(t->side), hop != NULL ? hop->host : "-",
             (unsigned long long)t->size_bytes, code,
             (long long)(loop_now_ms(t->site->loop) - t->begun_ms));
    for (size_t i = 0; i < t->envelope.count; i++)
        log_recipient(t, &t->envelope.recipients[i], code);
    tally_add(1, "mails_total{side=\"%s\",answer=\"%dxx\"}",
              recipient_side_name(t->side), code / 100);
    tally_add((int64_t)t->size_bytes, "mail_bytes_total{side=\"%s\"}",
              recipient_side_name(t->side));
}

/* A recipient that was asked for and not accepted; nothing else tells of it. */
static void log_refusal(const struct transaction *t, int code, const char *text)
{
    log_info("smtp %s refused mail=%u from=<%s> to=<%s> side=%s code=%d "
             "answer=\"%s\"",
             t->id, t->mail_number, log_safe(t->envelope.sender),
             log_safe(t->asked_path), recipient_side_name(t->side), code,
             log_safe(text));
    tally_add(1, "recipients_total{side=\"%s\",answer=\"%dxx\"}",
              recipient_side_name(t->side), code / 100);
}

/* What the client does with a failure before the text is over to it: it may
   ask again. Only accepted recipients are lost with the hop. */
static void lose_before_text(struct transaction *t, int code, const char *text)
{
    if (t->envelope.count > 0)
        transaction_spoil(t, code, text);
    else
        transaction_drop_backend(t);
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
    t->trace.message_id[0] = '\0';
    t->mail_number++;
    t->begun_ms = loop_now_ms(t->site->loop);
    transaction_enter(t, TS_OPEN);
}

void transaction_reset(struct transaction *t)
{
    if (t->state != TS_IDLE)
        transaction_settle(t);
}

static void answer_recipient(struct transaction *t, int code, const char *text)
{
    if (code / 100 != 2)
        log_refusal(t, code, text);
    transaction_enter(t, TS_OPEN);
    transaction_answer(t, code, text);
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
        transaction_drop_backend(t);
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
        transaction_answer(t, 452, "4.5.3 Too many recipients");
        return;
    }
    if (!address_read(path, t->site->node, &t->asked)) {
        transaction_answer(t, 550, "5.1.3 No such address here");
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

    if (t->state == TS_AGAIN) {
        transaction_on_asked_again(t, reply);
        return;
    }
    if (t->state != TS_HOP)
        return;
    if (reply->code / 100 == 2)
        envelope_add(
            &t->envelope, t->asked_path, t->asked.hop_path, t->asked_account,
            t->asked_account == 0 && t->side == SIDE_LEGACY ? t->asked.canonical
                                                            : NULL);
    else
        log_refusal(t, reply->code, reply->text);
    transaction_enter(t, TS_OPEN);
    t->ops->on_reply(t->ctx, &copy, true);
}

/* The hop was lost while it was asked for a recipient. One that had been idle
   since the last message may have closed by right: it gets a second chance. */
static void on_lost_asking(struct transaction *t)
{
    bool may_retry = t->is_reused && t->envelope.count == 0;
    enum recipient_side side = t->side;
    struct mail_url hop = *backend_url(t->backend);

    if (may_retry) {
        transaction_drop_backend(t);
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
    case TS_IDLE: transaction_drop_backend(t); return;
    case TS_OPEN:
    case TS_ROUTE:
    case TS_SPOOL:
        lose_before_text(t, 451, "4.4.2 Lost connection to the mail server");
        return;
    case TS_HOP: on_lost_asking(t); return;
    case TS_START:
    case TS_TEXT:
    case TS_AGAIN:
    case TS_RESTART:
    case TS_PLAY:
    case TS_DOT: transaction_on_lost_text(t); return;
    case TS_SWALLOW: /* its backend was closed */
    case TS_COUNT: break;
    }
    transaction_drop_backend(t);
}

static const struct backend_ops backend_ops = {
    .on_recipient = on_recipient,
    .on_start_text = transaction_on_start_text,
    .on_drained = transaction_on_drained,
    .on_refused = transaction_on_refused,
    .on_verdict = transaction_on_verdict,
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
        transaction_spoil(t, 451, text);
        answer_recipient(t, 451, text);
        return;
    case TS_START: transaction_refuse_text(t, text); return;
    case TS_AGAIN:
    case TS_RESTART: transaction_fail_rest(t, text); return;
    case TS_OPEN:
    case TS_ROUTE:
    case TS_SPOOL: transaction_spoil(t, 451, text); return;
    case TS_IDLE:
    case TS_TEXT:
    case TS_PLAY:
    case TS_DOT:
    case TS_SWALLOW:
    case TS_COUNT: break;
    }
}

static bool concerns(const struct transaction *t, int64_t account_id,
                     enum hold_side held)
{
    if (t->state == TS_IDLE ||
        t->side != (held == HOLD_LOCAL ? SIDE_LOCAL : SIDE_LEGACY))
        return false;
    return envelope_has_account(&t->envelope, account_id) ||
           (t->state == TS_HOP && t->asked_account == account_id);
}

bool transaction_runs_for(const struct transaction *t, int64_t account_id,
                          enum hold_side side)
{
    return concerns(t, account_id, side) && passes_text(t->state);
}

bool transaction_runs_for_nobody(const struct transaction *t)
{
    return transaction_runs_for(t, 0, HOLD_LEGACY);
}

bool transaction_hold(struct transaction *t, int64_t account_id,
                      enum hold_side side)
{
    /* nobody we knew at RCPT may have become this account since */
    if (!passes_text(t->state) &&
        (concerns(t, account_id, side) || concerns(t, 0, HOLD_LEGACY)))
        break_off(t);
    return transaction_runs_for(t, account_id, side);
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
