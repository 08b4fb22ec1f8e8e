#include "migrator/folder_choice.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/folder_rules.h"
#include "base/log.h"
#include "migrator/folder_name.h"

/* A server that does not tell its namespace may have everything below INBOX. */
static const char *prefix_of(const struct source_folder *f, const char *prefix,
                             char below_inbox[8])
{
    if (prefix != NULL || f->separator == '\0')
        return prefix != NULL ? prefix : "";
    memcpy(below_inbox, "INBOX", 5);
    below_inbox[5] = f->separator;
    below_inbox[6] = '\0';
    return strncasecmp(f->name, below_inbox, 6) == 0 ? below_inbox : "";
}

static bool is_left_out(const struct migration_job *job, const char *prefix,
                        const struct source_folder *f)
{
    char path[1024], below_inbox[8];

    folder_path(f->name, f->separator, prefix_of(f, prefix, below_inbox), path,
                sizeof(path));
    return folder_rules_leave_out(job->exclude, path);
}

int folder_choice_list(const struct migration_job *job, struct source *source,
                       struct source_folder_list *out, struct err *err)
{
    const char *prefix = job->has_prefix ? job->prefix : NULL, *told;
    size_t kept = 0;
    char separator;

    if (source_list(source, out, err) == -1)
        return -1;
    if (job->exclude[0] == '\0')
        return 0;
    if (source_namespace(source, &told, &separator))
        prefix = told;
    for (size_t i = 0; i < out->count; i++) {
        if (is_left_out(job, prefix, &out->items[i])) {
            log_debug("%s left-out folder=%s", job->address,
                      log_safe(out->items[i].name));
            free(out->items[i].name);
            continue;
        }
        out->items[kept++] = out->items[i];
    }
    out->count = kept;
    return 0;
}
