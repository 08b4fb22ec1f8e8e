/*
 * A page of accounts: what a command on a whole domain does at once. Between
 * two of them others are answered, however many accounts there are.
 */
#include "account/command_parts.h"

#include <stdlib.h>
#include <string.h>

#include "account/wire.h"
#include "base/mem.h"
#include "db/counts.h"
#include "db/refused.h"

#define PAGE_MAX 500 /* accounts */

static int collect(void *ctx, const struct account *a)
{
    struct account_page *page = ctx;

    page->accounts[page->count++] = *a;
    return 0;
}

int command_page(struct command *c, const json_t *args, int64_t domain_id,
                 struct account_page *page, json_t *result, struct err *err)
{
    const char *after = wire_text(args, "after");
    int64_t total;

    page->count = 0;
    page->accounts = mem_alloc(PAGE_MAX * sizeof(*page->accounts));
    if (account_page(c->db, domain_id, after ? after : "", PAGE_MAX, collect,
                     page, err) == -1 ||
        account_counts_sum(c->db, domain_id, &total, err) == -1) {
        command_page_release(page);
        return -1;
    }
    json_object_set_new(result, "total", json_integer(total));
    json_object_set_new(
        result, "next",
        page->count == PAGE_MAX
            ? json_string(page->accounts[page->count - 1].address)
            : json_null());
    return 0;
}

void command_page_release(struct account_page *page)
{
    free(page->accounts);
    page->accounts = NULL;
    page->count = 0;
}

int command_is_refused(struct command *c, const struct account *a,
                       struct err *err)
{
    int64_t generation;

    return refused_find(c->db, a->address, &generation, err);
}
