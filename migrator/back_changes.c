/*
 * Flags and deletions of the way back. Of what it has itself put on legacy
 * always, of the rest only if the administrator wants that. Legacy is told
 * differences and nothing else.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrator/back_parts.h"

#define SET_MAX   4000 /* bytes of a set of UIDs in one command */
#define WORDS_MAX (2 * (5 + LEDGER_KEYWORDS_MAX + 1))

/* Messages that get, or lose, one word. */
struct word {
    const char *name; /* borrowed */
    bool is_added;
    struct buf uids;
};

struct changes {
    struct back_folder *folder;
    char **keywords; /* owned; the ledger's names by position */
    unsigned keyword_count;
    struct word words[WORDS_MAX];
    size_t word_count;
};

static const struct {
    enum message_flag bit;
    const char *word;
} system_flags[] = {{MESSAGE_DRAFT, "\\Draft"},
                    {MESSAGE_FLAGGED, "\\Flagged"},
                    {MESSAGE_ANSWERED, "\\Answered"},
                    {MESSAGE_SEEN, "\\Seen"},
                    {MESSAGE_DELETED, "\\Deleted"}};

static int send_word(struct changes *c, struct word *w, struct err *err)
{
    struct back_folder *f = c->folder;
    char rest[SET_MAX + 400];
    int result;

    if (w->uids.used == 0)
        return 0;
    snprintf(rest, sizeof rest, "%.*s %sFLAGS.SILENT (%s)", (int)w->uids.used,
             w->uids.bytes, w->is_added ? "+" : "-", w->name);
    result = store_imap_command(f->back->store, f->row->name, "UID STORE ",
                                rest, NULL, err);
    buf_consume(&w->uids, w->uids.used);
    if (result == -1 && err->kind == ERR_ITEM) {
        back_tell(f->back, "%s: %s: %s", f->local_name, w->name, err->text);
        return 0;
    }
    return result;
}

static struct word *word_of(struct changes *c, const char *name, bool is_added)
{
    struct word *w;

    for (size_t i = 0; i < c->word_count; i++)
        if (c->words[i].is_added == is_added &&
            strcasecmp(c->words[i].name, name) == 0)
            return &c->words[i];
    if (c->word_count == WORDS_MAX)
        return NULL;
    w = &c->words[c->word_count++];
    w->name = name;
    w->is_added = is_added;
    buf_init(&w->uids, SET_MAX + 16);
    return w;
}

static int note(struct changes *c, const char *name, bool is_added,
                uint32_t uid, struct err *err)
{
    struct word *w = word_of(c, name, is_added);

    if (w == NULL)
        return 0;
    buf_printf(&w->uids, "%s%u", w->uids.used > 0 ? "," : "", uid);
    return w->uids.used > SET_MAX - 16 ? send_word(c, w, err) : 0;
}

static bool is_wanted(const struct back_folder *f, const struct back_row *row)
{
    return row->state == LEDGER_RETURNED ||
           (f->back->job->with_changes && row->state != LEDGER_INTENT);
}

static int compare_keywords(struct changes *c, const struct back_row *row,
                            uint64_t now, struct err *err)
{
    for (unsigned i = 0; i < c->keyword_count; i++) {
        uint64_t bit = (uint64_t)1 << i;

        if ((now & bit) == (row->keywords & bit) ||
            !message_keyword_can_be_sent(c->keywords[i]))
            continue;
        if (note(c, c->keywords[i], (now & bit) != 0, row->uid, err) == -1)
            return -1;
    }
    return 0;
}

static int on_flags(void *ctx, const struct source_message *m, struct err *err)
{
    struct changes *c = ctx;
    struct back_folder *f = c->folder;
    uint64_t keywords = 0;
    struct back_row *row = NULL;

    for (size_t low = 0, high = f->row_count; low < high;) {
        size_t middle = (low + high) / 2;

        if (f->rows[middle].local_uid == m->uid) {
            row = &f->rows[middle];
            break;
        }
        if (f->rows[middle].local_uid < m->uid)
            low = middle + 1;
        else
            high = middle;
    }
    if (row == NULL || !m->has_flags || !is_wanted(f, row))
        return 0;
    for (unsigned i = 0; i < m->keyword_count; i++) {
        int position = -1;

        for (unsigned k = 0; k < c->keyword_count; k++)
            if (strcasecmp(c->keywords[k], m->keywords[i]) == 0)
                position = (int)k;
        if (position >= 0)
            keywords |= (uint64_t)1 << position;
    }
    for (size_t i = 0; i < sizeof system_flags / sizeof *system_flags; i++) {
        bool is_now = (m->flags & system_flags[i].bit) != 0;

        if (is_now == ((row->flags & system_flags[i].bit) != 0))
            continue;
        if (note(c, system_flags[i].word, is_now, row->uid, err) == -1)
            return -1;
    }
    if (compare_keywords(c, row, keywords, err) == -1)
        return -1;
    row->flags = m->flags;
    row->keywords = keywords;
    return 0;
}

/* Keywords that local has and the ledger has not heard of yet. */
static int on_new_keywords(void *ctx, const struct source_message *m,
                           struct err *err)
{
    struct back_folder *f = ctx;
    int unused;

    for (unsigned i = 0; i < m->keyword_count; i++)
        if (ledger_keyword(f->back->ledger, f->row->id, m->keywords[i], &unused,
                           err) == -1)
            return -1;
    return 0;
}

static int send_flags(struct back_folder *f, struct err *err)
{
    struct changes *c = mem_alloc(sizeof *c);
    struct back *b = f->back;
    int result;

    c->folder = f;
    result = source_metadata(b->local, f->local_uids, f->local_count, false,
                             on_new_keywords, f, err);
    if (result == 0)
        result = ledger_keywords(b->ledger, f->row->id, &c->keywords,
                                 &c->keyword_count, err);
    if (result == 0)
        result = source_metadata(b->local, f->local_uids, f->local_count, false,
                                 on_flags, c, err);
    for (size_t i = 0; i < c->word_count; i++) {
        if (result == 0)
            result = send_word(c, &c->words[i], err);
        buf_release(&c->words[i].uids);
    }
    free(c->keywords);
    free(c);
    return result;
}

/* ---- deletions ---- */

static int expunge(struct back_folder *f, struct buf *set, struct err *err)
{
    struct back *b = f->back;
    char rest[SET_MAX + 64];
    int result;

    if (set->used == 0)
        return 0;
    snprintf(rest, sizeof rest, "%.*s +FLAGS.SILENT (\\Deleted)",
             (int)set->used, set->bytes);
    result = store_imap_command(b->store, f->row->name, "UID STORE ", rest,
                                NULL, err);
    rest[set->used] = '\0';
    if (result == 0 && store_imap_has(b->store, "UIDPLUS"))
        result = store_imap_command(b->store, f->row->name, "UID EXPUNGE ",
                                    rest, NULL, err);
    else if (result == 0) /* EXPUNGE would take what others have marked */
        back_tell(b, "%s: only marked as deleted on the old server: UIDs %s",
                  f->local_name, rest);
    buf_consume(set, set->used);
    if (result == -1 && err->kind == ERR_ITEM) {
        back_tell(b, "%s: deletions: %s", f->local_name, err->text);
        return 0;
    }
    return result;
}

/* All that was copied, gone at once: rather a store that is not there. */
static bool looks_lost(const struct back_folder *f)
{
    size_t gone = 0, all = 0;

    for (size_t i = 0; i < f->row_count; i++) {
        all += f->rows[i].state == LEDGER_STORED;
        gone += f->rows[i].state == LEDGER_STORED && !f->rows[i].is_found;
    }
    return strcmp(f->row->name, "INBOX") == 0 && all > 100 && gone == all &&
           f->local_count == 0;
}

static int send_deletions(struct back_folder *f, struct err *err)
{
    struct back *b = f->back;
    struct buf set;
    int result = 0;

    if (b->refused > 0 && b->job->with_changes) {
        back_tell(b, "%s: deletions, since messages were not taken back",
                  f->local_name);
        return 0;
    }
    if (looks_lost(f)) {
        back_tell(b, "%s: deletions: nothing at all is left of it",
                  f->local_name);
        return 0;
    }
    buf_init(&set, SET_MAX + 16);
    for (size_t i = 0; i < f->row_count && result == 0; i++) {
        const struct back_row *row = &f->rows[i];

        if (row->is_found || row->local_uid == 0 || !is_wanted(f, row))
            continue;
        if (row->state == LEDGER_RETURNED && !b->job->with_changes &&
            !store_imap_has(b->store, "UIDPLUS"))
            continue;
        buf_printf(&set, "%s%u", set.used > 0 ? "," : "", row->uid);
        if (set.used > SET_MAX - 16)
            result = expunge(f, &set, err);
    }
    if (result == 0)
        result = expunge(f, &set, err);
    buf_release(&set);
    return result;
}

int back_changes(struct back_folder *f, struct err *err)
{
    if (send_flags(f, err) == -1)
        return -1;
    return f->back->job->is_last ? send_deletions(f, err) : 0;
}
