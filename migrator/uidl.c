/*
 * Learning UIDLs: reads INBOX's rows, lists them over POP3 in one short
 * session, matches (uidl_match.c) and writes the rows. Owns both lists.
 */
#include "migrator/uidl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/pop3_client.h"

#define UIDL_MESSAGES_MAX 1000000 /* of a box; more would eat the worker */

struct uidl_work {
    struct uidl_listed *listed; /* owned */
    size_t listed_count, listed_size;
    struct uidl_message *messages; /* owned */
    char **known;                  /* owned: their UIDLs, NULL: none yet */
    uint32_t *orders;              /* owned: their POP3 order */
    size_t message_count, message_size;
    size_t lacking; /* rows without UIDL */
};

static void work_release(struct uidl_work *w)
{
    for (size_t i = 0; i < w->listed_count; i++)
        free(w->listed[i].uidl);
    for (size_t i = 0; i < w->message_count; i++)
        free(w->known[i]);
    free(w->listed);
    free(w->messages);
    free(w->known);
    free(w->orders);
}

static int take_row(void *ctx, const struct ledger_message *row,
                    struct err *err)
{
    struct uidl_work *w = ctx;
    size_t at = w->message_count;

    (void)err;
    if (row->state != LEDGER_STORED || at == UIDL_MESSAGES_MAX)
        return 0;
    if (at == w->message_size) {
        w->message_size = at * 2 + 256;
        w->messages =
            mem_grow(w->messages, w->message_size * sizeof *w->messages);
        w->known = mem_grow(w->known, w->message_size * sizeof *w->known);
        w->orders = mem_grow(w->orders, w->message_size * sizeof *w->orders);
    }
    w->messages[at] = (struct uidl_message){row->uid, row->vsize, -1};
    w->known[at] = mem_dup_text(row->uidl);
    w->orders[at] = row->pop3_order;
    w->lacking += row->uidl == NULL;
    w->message_count++;
    return 0;
}

/* Room for POP3's message `number`; NULL past the ceiling. */
static struct uidl_listed *listed_slot(struct uidl_work *w, uint32_t number)
{
    if (number > UIDL_MESSAGES_MAX)
        return NULL;
    if (number > w->listed_size) {
        w->listed_size = number * 2 + 256;
        w->listed = mem_grow(w->listed, w->listed_size * sizeof *w->listed);
    }
    while (w->listed_count < number)
        w->listed[w->listed_count++] = (struct uidl_listed){NULL, -1};
    return &w->listed[number - 1];
}

static int take_uidl(void *ctx, uint32_t number, const char *rest,
                     struct err *err)
{
    struct uidl_listed *listed = listed_slot(ctx, number);

    (void)err;
    if (listed == NULL || listed->uidl != NULL)
        return 0;
    if (uidl_is_valid(rest))
        listed->uidl = mem_dup_text(rest);
    else
        log_warn("uidl number=%u refused=\"%s\"", number, log_safe(rest));
    return 0;
}

static int take_size(void *ctx, uint32_t number, const char *rest,
                     struct err *err)
{
    struct uidl_listed *listed = listed_slot(ctx, number);
    char *end;
    long long size;

    (void)err;
    if (listed == NULL)
        return 0;
    size = strtoll(rest, &end, 10);
    if (end != rest && size >= 0)
        listed->size_bytes = size;
    return 0;
}

static int list_box(const struct migration_job *job, struct uidl_work *w,
                    struct err *err)
{
    struct pop3_client *client;
    int result;

    if (pop3_client_open(job, &client, err) == -1)
        return -1;
    result = pop3_client_list(client, "UIDL", take_uidl, w, err);
    if (result == 0)
        result = pop3_client_list(client, "LIST", take_size, w, err);
    else if (err->kind == ERR_ITEM) /* optional in RFC 1939 */
        log_warn("uidl: the server has none: %s", err->text);
    pop3_client_close(&client);
    return result;
}

struct named {
    const char *uidl;
    int64_t index;
};

static int compare_named(const void *a, const void *b)
{
    const struct named *x = a, *y = b;

    return strcmp(x->uidl, y->uidl);
}

/* Rows that have a UIDL already, where POP3 lists it exactly once. */
static void match_known(struct uidl_work *w)
{
    struct named *names = mem_alloc((w->listed_count + 1) * sizeof *names);
    size_t count = 0;

    for (size_t i = 0; i < w->listed_count; i++)
        if (w->listed[i].uidl != NULL)
            names[count++] = (struct named){w->listed[i].uidl, (int64_t)i};
    qsort(names, count, sizeof *names, compare_named);
    for (size_t i = 0; i < w->message_count; i++) {
        struct named key = {w->known[i], 0}, *found;

        if (w->known[i] == NULL || count == 0)
            continue;
        found = bsearch(&key, names, count, sizeof *names, compare_named);
        if (found == NULL ||
            (found > names && compare_named(found - 1, found) == 0) ||
            (found + 1 < names + count && compare_named(found, found + 1) == 0))
            continue;
        w->messages[i].matched = found->index;
        found->index = -1; /* of two rows with one UIDL the first has it */
    }
    free(names);
}

static int write_rows(const struct uidl_work *w, struct ledger *ledger,
                      int64_t inbox, struct err *err)
{
    bool is_reordered = uidl_is_reordered(w->messages, w->message_count);

    for (size_t i = 0; i < w->message_count; i++) {
        int64_t at = w->messages[i].matched;
        const char *uidl = w->known[i];
        uint32_t order = is_reordered ? (uint32_t)at + 1 : 0;

        if (at == -1)
            continue;
        if (uidl == NULL)
            uidl = w->listed[at].uidl;
        if (uidl == NULL || (w->known[i] != NULL && order == w->orders[i]))
            continue;
        if (ledger_message_set_uidl(ledger, inbox, w->messages[i].uid, uidl,
                                    order, err) == -1)
            return -1;
    }
    return 0;
}

static bool has_known(const struct uidl_work *w)
{
    for (size_t i = 0; i < w->message_count; i++)
        if (w->known[i] != NULL)
            return true;
    return false;
}

static int learn(const struct migration_job *job, struct ledger *ledger,
                 int64_t inbox, struct uidl_work *w, struct err *err)
{
    size_t matched;

    if (ledger_messages(ledger, inbox, take_row, w, err) == -1)
        return -1;
    if (w->lacking == 0)
        return 0;
    if (list_box(job, w, err) == -1) {
        if (err->kind != ERR_ITEM)
            return -1;
        if (has_known(w)) { /* it has told them before */
            err->kind = ERR_RETRY;
            return -1;
        }
        err_clear(err); /* a server without UIDL: nothing to keep */
        return 0;
    }
    match_known(w);
    matched =
        uidl_match(w->listed, w->listed_count, w->messages, w->message_count);
    log_info("uidl messages=%zu listed=%zu matched=%zu", w->message_count,
             w->listed_count, matched);
    if (ledger_begin(ledger, err) == -1)
        return -1;
    if (write_rows(w, ledger, inbox, err) == -1) {
        ledger_rollback(ledger);
        return -1;
    }
    return ledger_commit(ledger, err);
}

int uidl_learn(const struct migration_job *job, struct ledger *ledger,
               int64_t inbox, struct err *err)
{
    struct uidl_work w = {0};
    int result;

    result = learn(job, ledger, inbox, &w, err);
    work_release(&w);
    return result;
}
