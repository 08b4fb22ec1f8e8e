/*
 * POP3 as its clients would see it: legacy's list of ids against the records of
 * local's INBOX, in the order in which local will list them.
 */
#include "migrator/verify_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/pop3_client.h"
#include "migrator/uidl.h"

#define LISTED_MAX 1000000

struct ids {
    char **items; /* owned */
    size_t count;
};

static int on_uidl(void *ctx, uint32_t number, const char *rest,
                   struct err *err)
{
    struct ids *ids = ctx;

    (void)number;
    (void)err;
    if (!uidl_is_valid(rest) || ids->count == LISTED_MAX)
        return 0;
    if ((ids->count & (ids->count + 1)) == 0) /* 0, 1, 3, 7, ... */
        ids->items =
            mem_grow(ids->items, (2 * ids->count + 2) * sizeof *ids->items);
    ids->items[ids->count++] = mem_dup_text(rest);
    return 0;
}

static int list_legacy(const struct verify *v, struct ids *ids, struct err *err)
{
    struct pop3_client *client;
    int result;

    if (pop3_client_open(v->job, &client, err) == -1)
        return -1;
    result = pop3_client_list(client, "UIDL", on_uidl, ids, err);
    pop3_client_close(&client);
    return result == -1 && err->kind == ERR_ITEM ? 0 : result;
}

/* Dovecot lists those with an order first, then the others by UID. */
static int compare_pop3(const void *a, const void *b)
{
    const struct maildir_message *const *x = a, *const *y = b;
    uint32_t first = (*x)->order != 0 ? (*x)->order : UINT32_MAX;
    uint32_t second = (*y)->order != 0 ? (*y)->order : UINT32_MAX;

    if (first != second)
        return first < second ? -1 : 1;
    return (*x)->uid < (*y)->uid ? -1 : (*x)->uid > (*y)->uid;
}

static size_t local_order(const struct maildir_folder *local,
                          const struct maildir_message ***out)
{
    size_t count = 0;

    *out = mem_alloc((local->count + 1) * sizeof **out);
    for (size_t i = 0; i < local->count; i++)
        if (local->messages[i].uid != 0 && local->messages[i].uidl != NULL)
            (*out)[count++] = &local->messages[i];
    qsort(*out, count, sizeof **out, compare_pop3);
    return count;
}

struct place {
    const char *uidl;
    size_t index;
    bool is_used;
};

static int compare_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = strcmp(x->uidl, y->uidl);

    return order != 0 ? order : x->index < y->index ? -1 : x->index > y->index;
}

/* The first unused place of an id; ids need not be unique. */
static struct place *find_place(struct place *places, size_t count,
                                const char *uidl)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(places[middle].uidl, uidl) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < count && strcmp(places[low].uidl, uidl) == 0) {
        if (!places[low].is_used)
            return &places[low];
        low++;
    }
    return NULL;
}

static void compare_lists(struct verify *v, const struct ids *legacy,
                          const struct maildir_message **local, size_t count)
{
    struct place *places = mem_alloc((count + 1) * sizeof *places);
    size_t last = 0;
    bool is_ordered = true;

    for (size_t i = 0; i < count; i++)
        places[i] = (struct place){local[i]->uidl, i, false};
    qsort(places, count, sizeof *places, compare_place);
    for (size_t i = 0; i < legacy->count; i++) {
        struct place *found = find_place(places, count, legacy->items[i]);

        if (found == NULL) {
            if (!v->is_flipped)
                verify_differs(v, "INBOX: POP3 id %s is missing locally",
                               log_safe(legacy->items[i]));
            continue;
        }
        found->is_used = true;
        is_ordered = is_ordered && found->index + 1 > last;
        last = found->index + 1;
    }
    if (!is_ordered)
        verify_differs(v, "INBOX: POP3 order differs");
    for (size_t i = 0; i < count; i++)
        if (!places[i].is_used && !v->is_flipped)
            verify_differs(v, "INBOX: POP3 id %s is only local",
                           log_safe(places[i].uidl));
    free(places);
}

int verify_uidls(struct verify *v, struct err *err)
{
    const struct maildir_message **order;
    struct maildir_folder local;
    struct ids legacy = {0};
    int result;

    if (maildir_read(v->job->maildir, "", &local, err) == -1)
        return err->kind == ERR_ITEM ? 0 : -1;
    result = list_legacy(v, &legacy, err);
    if (result == 0) {
        size_t count = local_order(&local, &order);

        compare_lists(v, &legacy, order, count);
        free(order);
    }
    for (size_t i = 0; i < legacy.count; i++)
        free(legacy.items[i]);
    free(legacy.items);
    maildir_folder_release(&local);
    return result;
}
