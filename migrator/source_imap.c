#include "migrator/source_imap.h"

#include <ctype.h>
#include <libetpan/libetpan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#define COMMAND_MAX 8192

static void keep_shared(struct source *source,
                        const struct mailimap_namespace_item *item)
{
    clistiter *at;

    if (item == NULL || item->ns_data_list == NULL)
        return;
    for (at = clist_begin(item->ns_data_list); at != NULL;
         at = clist_next(at)) {
        const struct mailimap_namespace_info *one = clist_content(at);

        if (one->ns_prefix[0] != '\0' &&
            source->shared_count < SOURCE_SHARED_MAX)
            source->shared[source->shared_count++] =
                mem_dup_text(one->ns_prefix);
    }
}

/* Some servers drop the connection on NAMESPACE though they do not offer it,
   so only those are asked that do. */
static int ask_namespace(struct source *source, struct err *err)
{
    struct mailimap_namespace_data *spaces = NULL;
    clistiter *at;
    int result;

    if (!session_imap_has(source->session, "NAMESPACE"))
        return 0;
    result = mailimap_namespace(session_imap_library(source->session), &spaces);
    if (result != MAILIMAP_NO_ERROR) {
        session_imap_fail(source->session, result, "NAMESPACE", err);
        return err->kind == ERR_ITEM ? 0 : -1;
    }
    if (spaces->ns_personal != NULL &&
        spaces->ns_personal->ns_data_list != NULL &&
        (at = clist_begin(spaces->ns_personal->ns_data_list)) != NULL) {
        const struct mailimap_namespace_info *mine = clist_content(at);

        source->has_namespace = true;
        source->separator = mine->ns_delimiter;
        snprintf(source->prefix, sizeof(source->prefix), "%s", mine->ns_prefix);
    }
    keep_shared(source, spaces->ns_other);
    keep_shared(source, spaces->ns_shared);
    mailimap_namespace_data_free(spaces);
    return 0;
}

int source_open(const struct migration_job *job, struct source **source_out,
                struct err *err)
{
    struct session_login login = {.url = &job->legacy_imap,
                                  .ca_file = job->ca_file,
                                  .tls_minimum = job->tls_minimum,
                                  .user = job->legacy_user,
                                  .master_user = job->master_user,
                                  .master_login = job->master_login,
                                  .password = &job->password};
    struct source *source = mem_alloc(sizeof(*source));

    if (session_imap_open(&login, &source->session, err) == -1 ||
        ask_namespace(source, err) == -1) {
        source_close(&source);
        return -1;
    }
    *source_out = source;
    return 0;
}

void source_close(struct source **source)
{
    struct source *s = *source;

    *source = NULL;
    if (s == NULL)
        return;
    session_imap_close(&s->session);
    for (unsigned i = 0; i < s->shared_count; i++)
        free(s->shared[i]);
    free(s);
}

bool source_has_qresync(const struct source *source)
{
    return session_imap_has(source->session, "QRESYNC") &&
           session_imap_has(source->session, "ENABLE");
}

bool source_has_condstore(const struct source *source)
{
    return source_has_qresync(source) ||
           session_imap_has(source->session, "CONDSTORE");
}

bool source_namespace(const struct source *source, const char **prefix_out,
                      char *separator_out)
{
    *prefix_out = source->prefix;
    *separator_out = source->separator;
    return source->has_namespace;
}

bool source_is_broken(const struct source *source)
{
    return session_imap_is_broken(source->session);
}

/* ---- folders ---- */

static bool is_unselectable(const struct mailimap_mbx_list_flags *flags)
{
    clistiter *at;

    if (flags == NULL)
        return false;
    if (flags->mbf_type == MAILIMAP_MBX_LIST_FLAGS_SFLAG &&
        flags->mbf_sflag == MAILIMAP_MBX_LIST_SFLAG_NOSELECT)
        return true;
    for (at = clist_begin(flags->mbf_oflags); at != NULL; at = clist_next(at)) {
        const struct mailimap_mbx_list_oflag *flag = clist_content(at);

        if (flag->of_type == MAILIMAP_MBX_LIST_OFLAG_FLAG_EXT &&
            flag->of_flag_ext != NULL &&
            strcasecmp(flag->of_flag_ext, "NonExistent") == 0)
            return true;
    }
    return false;
}

static bool is_shared(const struct source *source, const char *name)
{
    for (unsigned i = 0; i < source->shared_count; i++)
        if (strncmp(name, source->shared[i], strlen(source->shared[i])) == 0)
            return true;
    return false;
}

static struct source_folder *find_folder(struct source_folder_list *list,
                                         const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    return NULL;
}

static struct source_folder *put_folder(struct source_folder_list *list,
                                        const char *name, char separator)
{
    struct source_folder *folder;

    if (strcasecmp(name, "INBOX") == 0)
        name = "INBOX"; /* RFC 3501 5.1: in any case */
    folder = find_folder(list, name);
    if (folder != NULL)
        return folder;
    list->items =
        mem_grow(list->items, (list->count + 1) * sizeof(*list->items));
    folder = &list->items[list->count++];
    *folder = (struct source_folder){.name = mem_dup_text(name),
                                     .separator = separator};
    return folder;
}

static int by_name(const void *a, const void *b)
{
    const char *x = ((const struct source_folder *)a)->name;
    const char *y = ((const struct source_folder *)b)->name;
    bool x_first = strcmp(x, "INBOX") == 0, y_first = strcmp(y, "INBOX") == 0;

    if (x_first != y_first)
        return x_first ? -1 : 1;
    return strcmp(x, y);
}

static int ask_list(struct source *source, bool is_lsub,
                    struct source_folder_list *list, struct err *err)
{
    mailimap *library = session_imap_library(source->session);
    const char *what = is_lsub ? "LSUB" : "LIST";
    clist *found = NULL;
    clistiter *at;
    int result = is_lsub ? mailimap_lsub(library, "", "*", &found)
                         : mailimap_list(library, "", "*", &found);

    if (result != MAILIMAP_NO_ERROR)
        return session_imap_fail(source->session, result, what, err);
    for (at = clist_begin(found); at != NULL; at = clist_next(at)) {
        const struct mailimap_mailbox_list *one = clist_content(at);
        struct source_folder *folder;

        if (one->mb_name[0] == '\0' || is_shared(source, one->mb_name))
            continue;
        if (is_lsub && is_unselectable(one->mb_flag))
            continue; /* only a parent of what is subscribed */
        folder = put_folder(list, one->mb_name, one->mb_delimiter);
        if (is_lsub) {
            folder->is_subscribed = true;
            continue;
        }
        folder->exists = true;
        folder->is_selectable = !is_unselectable(one->mb_flag);
    }
    mailimap_list_result_free(found);
    return 0;
}

int source_list(struct source *source, struct source_folder_list *out,
                struct err *err)
{
    *out = (struct source_folder_list){0};
    if (ask_list(source, false, out, err) == -1) {
        source_folder_list_release(out);
        /* one broken mount makes some servers refuse LIST */
        if (err->kind == ERR_ITEM)
            err->kind = ERR_RETRY;
        return -1;
    }
    if (out->count == 0)
        return err_set(err, ERR_RETRY, "LIST names no folder at all");
    if (ask_list(source, true, out, err) == -1 && err->kind != ERR_ITEM) {
        source_folder_list_release(out);
        return -1;
    }
    qsort(out->items, out->count, sizeof(*out->items), by_name);
    return 0;
}

void source_folder_list_release(struct source_folder_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].name);
    free(list->items);
    *list = (struct source_folder_list){0};
}

/* ---- one folder ---- */

/* "MESSAGES 3 UIDNEXT 7 ..." */
static void read_status(struct slice items, struct source_status *out)
{
    struct slice word, number;

    while ((word = slice_next_word(&items)).length > 0) {
        char text[24];
        uint64_t value;

        number = slice_next_word(&items);
        snprintf(text, sizeof(text), "%.*s", (int)number.length, number.bytes);
        value = strtoull(text, NULL, 10);
        if (slice_is(word, "HIGHESTMODSEQ"))
            out->modseq = value;
        else if (value > UINT32_MAX)
            continue;
        else if (slice_is(word, "UIDNEXT"))
            out->uidnext = (uint32_t)value;
        else if (slice_is(word, "UIDVALIDITY"))
            out->uidvalidity = (uint32_t)value;
        else if (slice_is(word, "MESSAGES")) {
            out->messages = (uint32_t)value;
            out->has_messages = true;
        }
    }
}

/* What stands in the last parentheses: there is only one folder asked for, and
   some servers write its name as it is, with blanks and quotes. */
static void on_status(void *ctx, const struct imap_resp *response)
{
    struct slice items = response->text_after;
    size_t start;

    if (!slice_is(response->name, "STATUS"))
        return;
    while (items.length > 0 && items.bytes[items.length - 1] != ')')
        items.length--;
    if (items.length == 0)
        return;
    items.length--;
    for (start = items.length; start > 0; start--)
        if (items.bytes[start - 1] == '(')
            break;
    items.bytes += start;
    items.length -= start;
    read_status(items, ctx);
}

static bool is_atom(const char *name)
{
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && strchr("-_./&+", *name) == NULL)
            return false;
    return true;
}

/* As an atom, or quoted. -1: it cannot be either. */
static int append_name(struct buf *command, const char *name)
{
    bool is_quoted = !is_atom(name);

    if (strpbrk(name, "\r\n") != NULL ||
        (is_quoted && buf_append(command, "\"", 1) == -1))
        return -1;
    for (; *name != '\0'; name++) {
        if ((*name == '"' || *name == '\\') &&
            buf_append(command, "\\", 1) == -1)
            return -1;
        if (buf_append(command, name, 1) == -1)
            return -1;
    }
    return is_quoted ? buf_append(command, "\"", 1) : 0;
}

int source_status(struct source *source, const char *folder,
                  struct source_status *out, struct err *err)
{
    struct buf command;
    int rc = 0;

    *out = (struct source_status){0};
    buf_init(&command, COMMAND_MAX);
    if (buf_append_text(&command, "STATUS ") == -1 ||
        append_name(&command, folder) == -1 ||
        buf_printf(&command, " (MESSAGES UIDNEXT UIDVALIDITY%s)",
                   source_has_condstore(source) ? " HIGHESTMODSEQ" : "") == -1)
        rc = err_set(err, ERR_ITEM, "STATUS: a name that cannot be said");
    else if (session_imap_ask(source->session, command.bytes, on_status, out,
                              err) == -1)
        rc = err_prefix(err, "STATUS");
    buf_release(&command);
    return rc;
}

int source_examine(struct source *source, const char *folder,
                   struct source_status *out, struct err *err)
{
    mailimap *library = session_imap_library(source->session);
    uint64_t modseq = 0;
    int result = source_has_condstore(source)
                     ? mailimap_examine_condstore(library, folder, &modseq)
                     : mailimap_examine(library, folder);

    *out = (struct source_status){0};
    if (result != MAILIMAP_NO_ERROR)
        return session_imap_fail(source->session, result, "EXAMINE", err);
    out->modseq = modseq;
    if (library->imap_selection_info == NULL)
        return 0;
    out->uidvalidity = library->imap_selection_info->sel_uidvalidity;
    out->uidnext = library->imap_selection_info->sel_uidnext;
    out->messages = library->imap_selection_info->sel_exists;
    out->has_messages = library->imap_selection_info->sel_has_exists;
    out->recent = library->imap_selection_info->sel_recent;
    return 0;
}
