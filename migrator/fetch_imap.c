/*
 * The reading half of the IMAP source: UIDs, metadata, changes, bodies.
 */
#include <libetpan/libetpan.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrator/source_imap.h"

/* RFC 2683 3.2.1.5: a command line of at most 1,000 octets */
#define SET_MAX_OCTETS   900
#define METADATA_AT_ONCE 2000 /* the library keeps each answer till the end */
#define BODIES_AT_ONCE   1000

static unsigned digits(uint32_t number)
{
    unsigned count = 1;

    while (number >= 10) {
        number /= 10;
        count++;
    }
    return count;
}

/* The longest set of whole runs that one command may have; *used_out UIDs. */
static struct mailimap_set *next_set(const uint32_t *uids, size_t count,
                                     size_t most, size_t *used_out)
{
    struct mailimap_set *set = mailimap_set_new_empty();
    size_t octets = 0, at = 0;

    if (count > most)
        count = most;
    while (at < count && octets < SET_MAX_OCTETS) {
        size_t end = at + 1;

        while (end < count && uids[end] == uids[end - 1] + 1)
            end++;
        mailimap_set_add_interval(set, uids[at], uids[end - 1]);
        octets += digits(uids[at]) + digits(uids[end - 1]) + 2;
        at = end;
    }
    *used_out = at;
    return set;
}

/* ---- one message's answer ---- */

static const struct {
    int library;
    uint8_t ours;
} flag_bits[] = {
    {MAILIMAP_FLAG_ANSWERED, MESSAGE_ANSWERED},
    {MAILIMAP_FLAG_FLAGGED, MESSAGE_FLAGGED},
    {MAILIMAP_FLAG_DELETED, MESSAGE_DELETED},
    {MAILIMAP_FLAG_SEEN, MESSAGE_SEEN},
    {MAILIMAP_FLAG_DRAFT, MESSAGE_DRAFT},
};

static void read_flags(const struct mailimap_msg_att_dynamic *dynamic,
                       struct source_message *out)
{
    clistiter *at;

    out->has_flags = true;
    if (dynamic == NULL || dynamic->att_list == NULL)
        return;
    for (at = clist_begin(dynamic->att_list); at != NULL; at = clist_next(at)) {
        const struct mailimap_flag_fetch *one = clist_content(at);

        if (one->fl_type != MAILIMAP_FLAG_FETCH_OTHER || one->fl_flag == NULL)
            continue;
        if (one->fl_flag->fl_type == MAILIMAP_FLAG_KEYWORD &&
            one->fl_flag->fl_data.fl_keyword != NULL &&
            out->keyword_count < SOURCE_KEYWORDS_MAX)
            out->keywords[out->keyword_count++] =
                one->fl_flag->fl_data.fl_keyword;
        for (size_t i = 0; i < sizeof(flag_bits) / sizeof(flag_bits[0]); i++)
            if (one->fl_flag->fl_type == flag_bits[i].library)
                out->flags |= flag_bits[i].ours;
    }
}

static void read_date(const struct mailimap_date_time *date,
                      struct source_message *out)
{
    struct tm tm = {.tm_mday = date->dt_day,
                    .tm_mon = date->dt_month - 1,
                    .tm_year = date->dt_year - 1900,
                    .tm_hour = date->dt_hour,
                    .tm_min = date->dt_min,
                    .tm_sec = date->dt_sec};

    out->zone_minutes = date->dt_zone / 100 * 60 + date->dt_zone % 100;
    out->date = timegm(&tm) - (int64_t)out->zone_minutes * 60;
}

/* What is in the answer; the body section, if there is one, is returned. */
static const struct mailimap_msg_att_body_section *
read_answer(const struct mailimap_msg_att *answer, struct source_message *out)
{
    const struct mailimap_msg_att_body_section *body = NULL;
    clistiter *at;

    *out = (struct source_message){0};
    for (at = clist_begin(answer->att_list); at != NULL; at = clist_next(at)) {
        const struct mailimap_msg_att_item *item = clist_content(at);
        const struct mailimap_msg_att_static *fixed = item->att_data.att_static;

        if (item->att_type == MAILIMAP_MSG_ATT_ITEM_DYNAMIC)
            read_flags(item->att_data.att_dyn, out);
        if (item->att_type != MAILIMAP_MSG_ATT_ITEM_STATIC || fixed == NULL)
            continue;
        if (fixed->att_type == MAILIMAP_MSG_ATT_UID)
            out->uid = fixed->att_data.att_uid;
        else if (fixed->att_type == MAILIMAP_MSG_ATT_RFC822_SIZE)
            out->size = fixed->att_data.att_rfc822_size;
        else if (fixed->att_type == MAILIMAP_MSG_ATT_INTERNALDATE &&
                 fixed->att_data.att_internal_date != NULL)
            read_date(fixed->att_data.att_internal_date, out);
        else if (fixed->att_type == MAILIMAP_MSG_ATT_BODY_SECTION)
            body = fixed->att_data.att_body_section;
    }
    return body;
}

static int tell_messages(clist *answers, source_message_fn *fn, void *ctx,
                         struct err *err)
{
    struct source_message message;
    clistiter *at;

    for (at = clist_begin(answers); at != NULL; at = clist_next(at)) {
        read_answer(clist_content(at), &message);
        if (message.uid != 0 && fn(ctx, &message, err) == -1)
            return -1;
    }
    return 0;
}

/* ---- UIDs ---- */

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

int source_uids(struct source *source, uint32_t **uids_out, size_t *count_out,
                struct err *err)
{
    struct mailimap_search_key *all = mailimap_search_key_new_all();
    clist *found = NULL;
    clistiter *at;
    size_t count = 0, kept = 0;
    uint32_t *uids;
    int result = mailimap_uid_search(session_imap_library(source->session),
                                     NULL, all, &found);

    mailimap_search_key_free(all);
    if (result != MAILIMAP_NO_ERROR)
        return session_imap_fail(source->session, result, "UID SEARCH", err);
    uids = mem_alloc((found == NULL ? 0 : (size_t)clist_count(found)) *
                     sizeof(*uids));
    for (at = found == NULL ? NULL : clist_begin(found); at != NULL;
         at = clist_next(at))
        uids[count++] = *(const uint32_t *)clist_content(at);
    if (found != NULL)
        mailimap_search_result_free(found);
    qsort(uids, count, sizeof(*uids), by_number);
    for (size_t i = 0; i < count; i++)
        if (uids[i] != 0 && (kept == 0 || uids[i] != uids[kept - 1]))
            uids[kept++] = uids[i];
    *uids_out = uids;
    *count_out = kept;
    return 0;
}

/* ---- metadata ---- */

static struct mailimap_fetch_type *metadata_type(bool is_whole)
{
    struct mailimap_fetch_type *type =
        mailimap_fetch_type_new_fetch_att_list_empty();

    mailimap_fetch_type_new_fetch_att_list_add(type,
                                               mailimap_fetch_att_new_uid());
    mailimap_fetch_type_new_fetch_att_list_add(type,
                                               mailimap_fetch_att_new_flags());
    if (is_whole) {
        mailimap_fetch_type_new_fetch_att_list_add(
            type, mailimap_fetch_att_new_internaldate());
        mailimap_fetch_type_new_fetch_att_list_add(
            type, mailimap_fetch_att_new_rfc822_size());
    }
    return type;
}

int source_metadata(struct source *source, const uint32_t *uids, size_t count,
                    bool is_whole, source_message_fn *fn, void *ctx,
                    struct err *err)
{
    mailimap *library = session_imap_library(source->session);

    while (count > 0) {
        size_t used;
        struct mailimap_set *set =
            next_set(uids, count, METADATA_AT_ONCE, &used);
        struct mailimap_fetch_type *type = metadata_type(is_whole);
        clist *answers = NULL;
        int result = mailimap_uid_fetch(library, set, type, &answers);
        int rc = 0;

        mailimap_set_free(set);
        mailimap_fetch_type_free(type);
        if (result != MAILIMAP_NO_ERROR)
            return session_imap_fail(source->session, result, "UID FETCH", err);
        rc = tell_messages(answers, fn, ctx, err);
        mailimap_fetch_list_free(answers);
        if (rc == -1)
            return -1;
        uids += used;
        count -= used;
    }
    return 0;
}

/* ---- changes ---- */

static int tell_vanished(const struct mailimap_qresync_vanished *vanished,
                         const struct source_changed *changed, struct err *err)
{
    clistiter *at;

    if (vanished->qr_known_uids == NULL)
        return 0;
    for (at = clist_begin(vanished->qr_known_uids->set_list); at != NULL;
         at = clist_next(at)) {
        const struct mailimap_set_item *run = clist_content(at);
        uint32_t low = run->set_first, high = run->set_last;

        if (low > high) {
            low = run->set_last;
            high = run->set_first;
        }
        if (changed->vanished(changed->ctx, low, high, err) == -1)
            return -1;
    }
    return 0;
}

/* The library hands out only the first VANISHED line; the others lie here. */
static int tell_more_vanished(mailimap *library,
                              const struct source_changed *changed,
                              struct err *err)
{
    clistiter *at;

    if (library->imap_response_info == NULL ||
        library->imap_response_info->rsp_extension_list == NULL)
        return 0;
    for (at = clist_begin(library->imap_response_info->rsp_extension_list);
         at != NULL; at = clist_next(at)) {
        const struct mailimap_extension_data *one = clist_content(at);

        if (one->ext_extension->ext_id == MAILIMAP_EXTENSION_QRESYNC &&
            one->ext_type == MAILIMAP_QRESYNC_TYPE_VANISHED &&
            one->ext_data != NULL &&
            tell_vanished(one->ext_data, changed, err) == -1)
            return -1;
    }
    return 0;
}

int source_changes(struct source *source, const struct source_changed *changed,
                   struct err *err)
{
    mailimap *library = session_imap_library(source->session);
    struct mailimap_set *set =
        mailimap_set_new_interval(changed->first, changed->last);
    struct mailimap_fetch_type *type = metadata_type(false);
    struct mailimap_qresync_vanished *vanished = NULL;
    clist *answers = NULL;
    int result =
        changed->vanished != NULL
            ? mailimap_uid_fetch_qresync(library, set, type, changed->since,
                                         &answers, &vanished)
            : mailimap_uid_fetch_changedsince(library, set, type,
                                              changed->since, &answers);
    int rc;

    mailimap_set_free(set);
    mailimap_fetch_type_free(type);
    if (result != MAILIMAP_NO_ERROR)
        return session_imap_fail(source->session, result,
                                 "UID FETCH CHANGEDSINCE", err);
    rc = tell_messages(answers, changed->message, changed->ctx, err);
    mailimap_fetch_list_free(answers);
    if (vanished != NULL) {
        if (rc == 0)
            rc = tell_vanished(vanished, changed, err);
        mailimap_qresync_vanished_free(vanished);
    }
    if (rc == 0 && changed->vanished != NULL)
        rc = tell_more_vanished(library, changed, err);
    return rc;
}

/* ---- bodies ---- */

struct body_stream {
    const struct source_sink *sink;
    void *ctx;
    struct err *err;
    bool is_streaming; /* bytes of the current message were given already */
    bool has_failed;   /* the sink refused: end the command */
};

static bool on_body_bytes(int type, struct mailimap_msg_att_body_section *part,
                          const char *bytes, size_t length, void *ctx)
{
    struct body_stream *b = ctx;

    (void)type;
    (void)part;
    b->is_streaming = true;
    if (b->has_failed || b->sink->piece(b->ctx, bytes, length, b->err) == -1)
        b->has_failed = true;
    return !b->has_failed;
}

static void on_answer(struct mailimap_msg_att *answer, void *ctx)
{
    struct body_stream *b = ctx;
    struct source_message message;
    const struct mailimap_msg_att_body_section *body =
        read_answer(answer, &message);

    if (body == NULL || b->has_failed)
        return; /* flags that somebody changed just now */
    /* a body as quoted string does not come in pieces */
    if (!b->is_streaming && body->sec_body_part != NULL &&
        body->sec_length > 0 &&
        b->sink->piece(b->ctx, body->sec_body_part, body->sec_length, b->err) ==
            -1)
        b->has_failed = true;
    b->is_streaming = false;
    if (!b->has_failed && b->sink->end(b->ctx, &message, b->err) == -1)
        b->has_failed = true;
}

/* The library calls on_answer only if somebody wants to see progress. */
static void on_progress(size_t current, size_t maximum, void *ctx)
{
    (void)current;
    (void)maximum;
    (void)ctx;
}

/* All in one command: the peer opens each message once. */
static struct mailimap_fetch_type *body_type(void)
{
    struct mailimap_fetch_type *type = metadata_type(true);

    mailimap_fetch_type_new_fetch_att_list_add(
        type,
        mailimap_fetch_att_new_body_peek_section(mailimap_section_new(NULL)));
    return type;
}

static int fetch_set(struct source *source, struct mailimap_set *set,
                     struct body_stream *b)
{
    mailimap *library = session_imap_library(source->session);
    struct mailimap_fetch_type *type = body_type();
    clist *answers = NULL;
    int result;

    mailimap_set_progress_callback(library, on_progress, on_progress, b);
    mailimap_set_msg_att_handler(library, on_answer, b);
    mailimap_set_msg_body_handler(library, on_body_bytes, b);
    result = mailimap_uid_fetch(library, set, type, &answers);
    mailimap_set_msg_body_handler(library, NULL, NULL);
    mailimap_set_msg_att_handler(library, NULL, NULL);
    mailimap_set_progress_callback(library, NULL, NULL, NULL);
    mailimap_fetch_type_free(type);
    if (result == MAILIMAP_NO_ERROR)
        mailimap_fetch_list_free(answers);
    if (b->has_failed) { /* *err is the sink's; the rest stays unread */
        session_imap_fail(source->session, MAILIMAP_ERROR_MEMORY, "", NULL);
        return -1;
    }
    if (result != MAILIMAP_NO_ERROR)
        return session_imap_fail(source->session, result, "UID FETCH BODY",
                                 b->err);
    return 0;
}

int source_bodies(struct source *source, const uint32_t *uids, size_t count,
                  const struct source_sink *sink, void *ctx, struct err *err)
{
    struct body_stream b = {.sink = sink, .ctx = ctx, .err = err};

    while (count > 0) {
        size_t used;
        struct mailimap_set *set = next_set(uids, count, BODIES_AT_ONCE, &used);
        int rc = fetch_set(source, set, &b);

        mailimap_set_free(set);
        if (rc == -1)
            return -1;
        uids += used;
        count -= used;
    }
    return 0;
}
