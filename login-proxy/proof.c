/*
 * NAMESPACE -> (LIST if it has none) -> EXAMINE -> CLOSE -> END
 */
#include "login-proxy/proof.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"

enum proof_state {
    PS_NAMESPACE,
    PS_LIST,
    PS_EXAMINE,
    PS_CLOSE,
    PS_END,
    PS_COUNT
};

static const char *const state_names[] = {"namespace", "list", "examine",
                                          "close", "end"};
_Static_assert(sizeof state_names / sizeof state_names[0] == PS_COUNT,
               "a name for each state");

struct proof {
    struct loop *loop; /* borrowed */
    struct conn *conn; /* owned until answered */
    int64_t answer_ms;
    proof_fn *fn; /* NULL: answered or cancelled */
    void *ctx;
    enum proof_state state;
    struct imap_resp resp;
    bool has_prefix;
    bool has_separator;
    uint32_t uidvalidity;
    char prefix[PROOF_PREFIX_MAX];
    char separator[2];
};

static void proof_delete(void *ctx)
{
    struct proof *p = ctx;

    imap_resp_release(&p->resp);
    free(p);
}

/* The only exit: answers once, frees later. */
static void proof_finish(struct proof *p, enum proof_outcome outcome,
                         enum err_kind kind, const char *what)
{
    struct proof_answer answer = {.outcome = outcome};
    struct err err;
    proof_fn *fn = p->fn;

    if (fn == NULL)
        return;
    p->fn = NULL;
    p->state = PS_END;
    err_set(&err, kind, "proof: %s", what);
    answer.err = &err;
    answer.conn_take = &p->conn;
    answer.prefix = p->has_prefix ? p->prefix : NULL;
    answer.separator = p->has_separator ? p->separator : NULL;
    answer.uidvalidity = p->uidvalidity;
    conn_set_deadline_ms(p->conn, 0);
    fn(p->ctx, &answer);
    if (p->conn != NULL)
        conn_free(&p->conn);
    loop_defer(p->loop, proof_delete, p);
}

/* The only writer of p->state: say our line, set the deadline. */
static void proof_enter(struct proof *p, enum proof_state next)
{
    log_debug("proof %s -> %s", state_names[p->state], state_names[next]);
    p->state = next;
    conn_set_deadline_ms(p->conn, p->answer_ms);
    switch (next) {
    case PS_NAMESPACE: conn_printf(p->conn, "P1 NAMESPACE\r\n"); break;
    case PS_LIST: conn_printf(p->conn, "P2 LIST \"\" \"\"\r\n"); break;
    case PS_EXAMINE: conn_printf(p->conn, "P3 EXAMINE INBOX\r\n"); break;
    case PS_CLOSE: conn_printf(p->conn, "P4 CLOSE\r\n"); break;
    case PS_END:
    case PS_COUNT: break;
    }
}

static void on_tagged(struct proof *p)
{
    char text[128] = "";
    size_t length = p->resp.rest.length;

    switch (p->state) {
    case PS_NAMESPACE:
        proof_enter(p, p->has_prefix ? PS_EXAMINE : PS_LIST);
        break;
    case PS_LIST: proof_enter(p, PS_EXAMINE); break;
    case PS_EXAMINE:
        if (p->resp.status == IMAP_OK) {
            proof_enter(p, PS_CLOSE);
            break;
        }
        memcpy(text, p->resp.rest.bytes, length < 127 ? length : 127);
        proof_finish(p, PROOF_REFUSED, ERR_DENIED, log_safe(text));
        break;
    case PS_CLOSE:
        if (p->resp.status == IMAP_OK)
            proof_finish(p, PROOF_GOOD, ERR_NONE, "good");
        else
            proof_finish(p, PROOF_BROKEN, ERR_PEER, "CLOSE failed");
        break;
    case PS_END:
    case PS_COUNT: break;
    }
}

/* "UIDVALIDITY 1700000000" */
static uint32_t read_uidvalidity(struct slice code)
{
    static const char word[] = "UIDVALIDITY ";
    size_t at = sizeof word - 1;
    uint64_t value = 0;

    if (code.length <= at || strncasecmp(code.bytes, word, at) != 0)
        return 0;
    for (; at < code.length && value <= UINT32_MAX; at++) {
        if (code.bytes[at] < '0' || code.bytes[at] > '9')
            return 0;
        value = value * 10 + (uint64_t)(code.bytes[at] - '0');
    }
    return value <= UINT32_MAX ? (uint32_t)value : 0;
}

static void on_untagged(struct proof *p)
{
    if (p->resp.status == IMAP_BYE) {
        proof_finish(p, PROOF_BROKEN, ERR_RETRY, "server said BYE");
    } else if (p->state == PS_NAMESPACE && p->resp.skipped == 0 &&
               slice_is(p->resp.name, "NAMESPACE")) {
        if (imap_namespace_read(p->resp.text_after, p->prefix, sizeof p->prefix,
                                p->separator) == 0)
            p->has_prefix = p->has_separator = true;
    } else if (p->state == PS_EXAMINE && p->resp.status == IMAP_OK &&
               p->uidvalidity == 0) {
        p->uidvalidity = read_uidvalidity(p->resp.code);
    } else if (p->state == PS_LIST && p->resp.skipped == 0 &&
               slice_is(p->resp.name, "LIST")) {
        if (imap_list_separator(p->resp.text_after, p->separator) == 0)
            p->has_separator = true;
    }
}

static void proof_on_input(void *ctx)
{
    struct proof *p = ctx;

    while (p->fn != NULL && conn_input(p->conn)->used > 0) {
        struct buf *input = conn_input(p->conn);
        enum parse_result result;
        size_t used;

        result = imap_resp_feed(&p->resp, input->bytes, input->used, &used);
        buf_consume(input, used);
        if (result == PARSE_BAD ||
            (result == PARSE_DONE && p->resp.kind == IMAP_GO_AHEAD))
            proof_finish(p, PROOF_BROKEN, ERR_PEER, "does not speak IMAP");
        else if (result == PARSE_DONE && p->resp.kind == IMAP_TAGGED)
            on_tagged(p);
        else if (result == PARSE_DONE)
            on_untagged(p);
    }
    if (p->fn != NULL && conn_is_eof(p->conn))
        proof_finish(p, PROOF_BROKEN, ERR_RETRY, "closed by the server");
}

static void proof_on_end(void *ctx, const struct err *err)
{
    proof_finish(ctx, PROOF_BROKEN, err->kind, err->text);
}

static const struct conn_ops proof_ops = {
    .on_input = proof_on_input,
    .on_end = proof_on_end,
};

struct proof *proof_start_take(struct loop *loop, struct conn **conn,
                               int64_t answer_ms, proof_fn *fn, void *ctx)
{
    struct proof *p = mem_alloc(sizeof *p);

    p->loop = loop;
    p->conn = *conn;
    *conn = NULL;
    p->answer_ms = answer_ms;
    p->fn = fn;
    p->ctx = ctx;
    imap_resp_init(&p->resp);
    conn_set_user(p->conn, &proof_ops, p);
    proof_enter(p, PS_NAMESPACE);
    return p;
}

void proof_cancel(struct proof **proof)
{
    struct proof *p = *proof;

    *proof = NULL;
    if (p == NULL || p->fn == NULL)
        return;
    p->fn = NULL;
    conn_free(&p->conn);
    loop_defer(p->loop, proof_delete, p);
}
