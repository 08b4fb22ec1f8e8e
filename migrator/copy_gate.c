/*
 * The end of a pass as the gate before the flip wants it: both sides compared
 * (verify_quick.h), and local asked whether it serves the mailbox.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/copy_parts.h"
#include "migrator/local_ask.h"
#include "migrator/verify_quick.h"

/* In the last pass users wait: of a large folder, UIDs and sizes on disk. */
#define LAST_METADATA_MAX 2000

/* What is set aside, of all folders. */
struct asides {
    struct ledger_aside *items; /* owned; their names are not kept */
    size_t count, size;
};

static int on_aside(void *ctx, const struct ledger_aside *row, struct err *err)
{
    struct asides *all = ctx;

    (void)err;
    if (all->count == all->size) {
        all->size = all->size * 2 + 64;
        all->items = mem_grow(all->items, all->size * sizeof(*all->items));
    }
    all->items[all->count++] =
        (struct ledger_aside){.folder = row->folder, .uid = row->uid};
    return 0;
}

/* The UIDs of one folder, ascending as the ledger tells them. */
static size_t of_folder(const struct asides *all, int64_t folder,
                        uint32_t **out)
{
    size_t count = 0;

    *out = mem_alloc((all->count + 1) * sizeof(**out));
    for (size_t i = 0; i < all->count; i++)
        if (all->items[i].folder == folder)
            (*out)[count++] = all->items[i].uid;
    return count;
}

/* The next pass goes through files and lists again. */
static int distrust(struct copy *c, struct ledger_folder *f, struct err *err)
{
    f->is_complete = false;
    f->lifted_modseq = 0;
    return ledger_folder_save(c->ledger, f, err);
}

static int verify_task(struct verify *v, struct copy *c,
                       const struct copy_task *task,
                       const struct asides *asides, unsigned *bodies,
                       struct err *err)
{
    struct ledger_folder *f = &c->folders[task->folder];
    int64_t before = v->report->differences;
    struct verify_quick q = {
        .name = f->name,
        .directory = f->directory,
        .uidnext =
            task->status.uidnext != 0 ? task->status.uidnext : f->uidnext,
        .with_metadata = c->job->kind != JOB_FINAL ||
                         task->status.messages <= LAST_METADATA_MAX,
    };
    uint32_t *aside;
    int rc;

    q.aside_count = of_folder(asides, f->id, &aside);
    q.aside = aside;
    rc = verify_quick_folder(v, &q, bodies, err);
    free(aside);
    if (rc == 0 && v->report->differences > before)
        rc = distrust(c, f, err);
    return rc;
}

static int verify_tasks(struct verify *v, struct copy *c,
                        const struct copy_tasks *tasks, struct err *err)
{
    struct asides asides = {0};
    unsigned bodies = 0;
    int rc = 0;

    if (c->report->set_aside > 0 &&
        ledger_each_aside(c->ledger, on_aside, &asides, err) == -1)
        rc = -1;
    for (size_t i = 0; i < tasks->count && rc == 0; i++) {
        const struct copy_task *task = &tasks->items[i];

        /* both sides were the same once, and legacy's numbers and the mark of
           our files say that neither has changed since */
        if (task->way == PLAN_REFUSE || (c->was_verified && !task->is_touched))
            continue;
        rc = verify_task(v, c, task, &asides, &bodies, err);
    }
    free(asides.items);
    return rc == 0 ? verify_lists(v, &c->listed, err) : -1;
}

/* Counted and told with those that the pass itself has found. */
static void take_differences(struct copy *c, struct migration_report *found)
{
    c->report->differences += found->differences;
    if (found->details == NULL)
        return;
    if (c->report->details == NULL)
        c->report->details = json_array();
    json_array_extend(c->report->details, found->details);
}

static int verify_both(struct copy *c, const struct copy_tasks *tasks,
                       struct err *err)
{
    struct migration_report found = {0};
    struct verify v = {.job = c->job,
                       .progress = c->progress,
                       .report = &found,
                       .source = c->source,
                       .prefix = c->report->prefix};
    int64_t began_ms = clock_unix_ms();
    int rc = verify_tasks(&v, c, tasks, err);

    if (rc == 0) {
        take_differences(c, &found);
        c->report->is_verified = true;
        log_info("%s verified differences=%lld after_ms=%lld", c->job->address,
                 (long long)found.differences,
                 (long long)(clock_unix_ms() - began_ms));
        if (c->report->differences > 0)
            rc = ledger_put(c->ledger, "verified", "0", err);
        else if (!c->was_verified || c->touched > 0)
            rc = ledger_put(c->ledger, "verified", "1", err);
    }
    migration_report_release(&found);
    return rc;
}

int copy_gate(struct copy *c, const struct copy_tasks *tasks, struct err *err)
{
    if (c->job->asks_local)
        local_ask(c->job, c->report);
    if (!c->job->is_verified_too)
        return 0;
    return verify_both(c, tasks, err);
}
