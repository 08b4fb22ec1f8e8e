#include "migrator/set_aside.h"

#include <stdio.h>

#include "base/log.h"
#include "db/set_aside.h"
#include "migrator/folder_name.h"

/* A name or a server's words need not be UTF-8, which JSON insists on. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);

    return json != NULL ? json : json_string(log_safe(text));
}

void set_aside_name(struct migration_report *report,
                    const struct ledger_aside *row)
{
    char shown[SET_ASIDE_ITEM_SIZE - 32], item[SET_ASIDE_ITEM_SIZE];
    char reason[SET_ASIDE_REASON_SIZE];

    if (report->items == NULL)
        report->items = json_array();
    if (json_array_size(report->items) >= SET_ASIDE_LISTED_MAX)
        return;
    folder_shown(row->name, shown, sizeof(shown));
    snprintf(item, sizeof(item), "%s/%u/%u", shown, row->uidvalidity, row->uid);
    snprintf(reason, sizeof(reason), "%s", row->error);
    json_array_append_new(report->items,
                          json_pack("{s:o, s:o}", "item", text_json(item),
                                    "reason", text_json(reason)));
}

static int on_aside(void *ctx, const struct ledger_aside *row, struct err *err)
{
    (void)err;
    set_aside_name(ctx, row);
    return 0;
}

int set_aside_name_all(struct migration_report *report, struct ledger *ledger,
                       struct err *err)
{
    return ledger_each_aside(ledger, on_aside, report, err);
}
