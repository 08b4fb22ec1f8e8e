#include "smtp-proxy/envelope.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define VERDICT_TEXT_MAX 500

void envelope_init(struct envelope *e)
{
    memset(e, 0, sizeof(*e));
    e->mail.sender = e->sender;
    e->message.sender = e->sender;
}

static void drop_recipients(struct envelope *e)
{
    for (size_t i = 0; i < e->count; i++) {
        free(e->recipients[i].path);
        free(e->recipients[i].hop_path);
        free(e->recipients[i].stranger);
        free(e->recipients[i].text);
    }
    free(e->recipients);
    e->recipients = NULL;
    e->count = 0;
    e->room = 0;
}

void envelope_release(struct envelope *e)
{
    drop_recipients(e);
}

void envelope_begin(struct envelope *e, const struct smtp_command *mail)
{
    drop_recipients(e);
    memcpy(e->sender, mail->path.text, sizeof(e->sender));
    e->mail.has_size = mail->has_size;
    e->mail.size_bytes = mail->size_bytes;
    e->mail.is_8bit = mail->is_8bit;
    memset(e->message.digest, 0, sizeof(e->message.digest));
}

void envelope_add(struct envelope *e, const char *path, const char *hop_path,
                  int64_t account_id, const char *stranger)
{
    struct recipient *r;

    if (e->count == e->room) {
        e->room = e->room > 0 ? 2 * e->room : 4;
        e->recipients =
            mem_grow(e->recipients, e->room * sizeof(*e->recipients));
    }
    r = &e->recipients[e->count++];
    memset(r, 0, sizeof(*r));
    r->path = mem_dup_text(path);
    r->hop_path = mem_dup_text(hop_path);
    r->account_id = account_id;
    r->stranger = mem_dup_text(stranger);
    r->is_at_hop = true;
}

bool envelope_has_account(const struct envelope *e, int64_t account_id)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->recipients[i].account_id == account_id)
            return true;
    return false;
}

bool envelope_overlaps(const struct envelope *a, const struct envelope *b)
{
    if (strcmp(a->sender, b->sender) != 0 ||
        memcmp(a->message.digest, b->message.digest, DIGEST_SIZE) != 0)
        return false;
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (strcmp(a->recipients[i].path, b->recipients[k].path) == 0)
                return true;
    return false;
}

bool envelope_is_suspect(const struct envelope *e, struct journal *journal)
{
    for (size_t i = 0; i < e->count; i++)
        if (journal_suspects(journal, e->sender, e->recipients[i].path))
            return true;
    return false;
}

size_t envelope_mark_taken(struct envelope *e, struct journal *journal)
{
    size_t count = 0;

    for (size_t i = 0; i < e->count; i++) {
        struct recipient *r = &e->recipients[i];

        r->was_taken = journal_was_taken(journal, &e->message, r->path);
        count += r->was_taken;
    }
    return count;
}

struct recipient *envelope_at_hop(struct envelope *e, size_t n)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->recipients[i].is_at_hop && n-- == 0)
            return &e->recipients[i];
    return NULL;
}

void envelope_judge(struct recipient *r, int code, const char *text)
{
    size_t length = strnlen(text, VERDICT_TEXT_MAX);

    free(r->text);
    r->text = mem_alloc(length + 1);
    memcpy(r->text, text, length);
    r->code = code == 421 ? 451 : code;
}

void envelope_judge_rest(struct envelope *e, int code, const char *text)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->recipients[i].code == 0 && !e->recipients[i].was_taken)
            envelope_judge(&e->recipients[i], code, text);
}

bool recipient_is_taken(const struct recipient *r)
{
    return r->was_taken || r->code / 100 == 2;
}

size_t envelope_taken_count(const struct envelope *e)
{
    size_t count = 0;

    for (size_t i = 0; i < e->count; i++)
        count += recipient_is_taken(&e->recipients[i]);
    return count;
}

void recipient_answer(const struct recipient *r, struct smtp_reply *reply_out)
{
    if (r->code != 0)
        smtp_reply_set(reply_out, r->code, r->text);
    else if (r->was_taken)
        smtp_reply_set(reply_out, 250, "2.0.0 Delivered before");
    else
        smtp_reply_set(reply_out, 451, "4.3.0 No verdict");
}

/* The one whose refusal speaks for all: temporary before permanent, so that no
   recipient is given up who might have been served. */
static const struct recipient *find_refusal(const struct envelope *e)
{
    const struct recipient *found = NULL;

    for (size_t i = 0; i < e->count; i++) {
        const struct recipient *r = &e->recipients[i];

        if (recipient_is_taken(r))
            continue;
        if (found == NULL || (found->code / 100 == 5 && r->code / 100 != 5))
            found = r;
    }
    return found;
}

static const struct recipient *find_taken_now(const struct envelope *e)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->recipients[i].code / 100 == 2)
            return &e->recipients[i];
    return NULL;
}

void envelope_answer(const struct envelope *e, struct smtp_reply *reply_out)
{
    const struct recipient *refusal = find_refusal(e);
    const struct recipient *taken = find_taken_now(e);

    if (refusal != NULL && taken != NULL)
        smtp_reply_set(reply_out, 451,
                       "4.2.0 Delivered to some recipients, send it again");
    else if (refusal != NULL)
        recipient_answer(refusal, reply_out);
    else if (taken != NULL)
        recipient_answer(taken, reply_out);
    else
        smtp_reply_set(reply_out, 250, "2.0.0 Delivered before");
}

void envelope_record_taken(const struct envelope *e, const struct recipient *r,
                           struct journal *journal)
{
    const char *const path = r->path;
    struct err err;

    if (journal_taken(journal, &e->message, &path, 1, &err) == -1)
        log_error("smtp journal record=taken failed=\"%s\"", err.text);
}

void envelope_record_told(const struct envelope *e, struct journal *journal)
{
    const char **paths = mem_alloc((e->count + 1) * sizeof(*paths));
    size_t count = 0;
    struct err err;

    for (size_t i = 0; i < e->count; i++)
        if (recipient_is_taken(&e->recipients[i]))
            paths[count++] = e->recipients[i].path;
    if (count > 0 &&
        journal_told(journal, &e->message, paths, count, &err) == -1)
        log_error("smtp journal record=told failed=\"%s\"", err.text);
    free(paths);
}
