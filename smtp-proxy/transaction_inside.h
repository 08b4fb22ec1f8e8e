/*
 * What the two halves of a transaction share: transaction.c (life, recipients,
 * holds) and transaction_text.c (the text and its verdicts). Nobody else
 * includes it.
 */
#ifndef SMTP_PROXY_TRANSACTION_INSIDE_H
#define SMTP_PROXY_TRANSACTION_INSIDE_H

#include "smtp-proxy/transaction.h"

#include "base/buf.h"
#include "base/digest.h"
#include "smtp-proxy/address.h"
#include "smtp-proxy/backend.h"
#include "smtp-proxy/envelope.h"
#include "smtp-proxy/recipient.h"
#include "smtp-proxy/spool.h"

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
    unsigned mail_number; /* of this session's messages */
};

/* The only writer of t->state. */
void transaction_enter(struct transaction *t, enum transaction_state next);

void transaction_drop_backend(struct transaction *t);
/* The message is over, whatever became of it. */
void transaction_settle(struct transaction *t);
/* From now on the whole message fails with this; the first reason counts. */
void transaction_spoil(struct transaction *t, int code, const char *text);
void transaction_answer(struct transaction *t, int code, const char *text);
/* The one line of a message that is over. */
void transaction_log(const struct transaction *t, int code);

/* The answer to DATA, and the end of the message. */
void transaction_refuse_text(struct transaction *t, const char *text);
/* Cut the hop off; who has not had the message gets a 451. */
void transaction_fail_rest(struct transaction *t, const char *text);

/* What the hop says, or does, once DATA has been passed on (backend.h). */
void transaction_on_asked_again(struct transaction *t,
                                const struct smtp_reply *reply);
void transaction_on_start_text(void *ctx, const struct smtp_reply *reply);
void transaction_on_drained(void *ctx);
void transaction_on_refused(void *ctx, const struct smtp_reply *reply);
void transaction_on_verdict(void *ctx, unsigned index,
                            const struct smtp_reply *reply);
void transaction_on_lost_text(struct transaction *t);

#endif
