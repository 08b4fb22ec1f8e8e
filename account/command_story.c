/*
 * What `account show` tells of an account beside its row: one sentence of what
 * is going on, and the timeline of what has happened.
 */
#include "account/command_parts.h"

#include <stdio.h>
#include <string.h>

#include "account/freeze.h"
#include "account/story.h"
#include "account/window.h"

#define TIMELINE_MAX 200 /* entries of the audit */

static int read_jobs(struct command *c, const struct account *a,
                     struct story *story, struct err *err)
{
    for (int kind = 0; kind < JOB_KIND_COUNT; kind++) {
        struct story_job *to = &story->jobs[kind];
        struct job job;
        int found = job_find(c->db, a->id, (enum job_kind)kind, &job, err);

        if (found == -1)
            return -1;
        if (!found)
            continue;
        to->is_there = true;
        to->is_running = job.lease_owner[0] != '\0';
        to->due_at = job.due_at;
        to->attempts = job.attempts;
    }
    return 0;
}

static void look_at_clock(struct story *story)
{
    const struct domain *d = story->domain;
    struct window window;
    struct err err;

    story->is_window_open = true;
    if (!d->cutover_window[0] && !d->blackout[0])
        return;
    if (window_parse(d->cutover_window, d->blackout, &window, &err) == -1) {
        story->is_window_open = false; /* its zone is known no more */
        return;
    }
    story->is_window_open = window_is_open(&window, story->now);
    story->is_black_day = window_is_black(&window, story->now);
    if (!story->is_window_open || story->is_black_day)
        story->opens_at = window_next_ms(&window, story->now);
}

static const char *frozen_name(const struct freeze *freeze)
{
    return freeze->kind == FREEZE_ALL ? "everything" : freeze->name;
}

int command_add_sentence(struct command *c, const struct account *a,
                         const struct domain *d, json_t *json, struct err *err)
{
    struct story story = {.account = a, .domain = d, .now = c->now_ms};
    char sentence[STORY_MAX];
    struct freeze freeze;
    int rc = d->is_frozen ? freeze_of_domain(c->db, d, &freeze, err) : 0;

    if (rc == -1 || read_jobs(c, a, &story, err) == -1)
        return -1;
    if (d->is_frozen) {
        story.frozen = rc == 1 ? frozen_name(&freeze) : d->name;
        story.frozen_why = rc == 1 ? freeze.reason : NULL;
    }
    look_at_clock(&story);
    story_tell(&story, sentence);
    return json_object_set_new(json, "sentence", command_text_json(sentence));
}

/* --- the timeline */

/* What an event of the audit is called among people. */
static const struct {
    const char *event;
    const char *words;
} words[] = {
    {"learnt", "taken in at a good login"},
    {"account create", "taken in by an operator"},
    {"copied", "copied"},
    {"hold", "held for the flip"},
    {"flip", "flipped to the new server"},
    {"hold-failed", "given back to the old server"},
    {"broken", "its copying stopped"},
    {"retried", "its copying goes on"},
    {"confirmed", "first good login on the new server"},
    {"back-hold", "held for the way back"},
    {"back", "taken back to the old server"},
    {"back-failed", "left on the new server, the way back failed"},
    {"trail-ended", "its trail ended"},
    {"reopened", "its trail goes on"},
    {"on-flip done", "the on_flip command succeeded"},
    {"on-flip failed", "the on_flip command failed"},
    {"cutover", "its flip was asked for"},
    {"back-refused", "the way back was refused"},
    {"asked", "stopped with a question"},
    {"mailbox-renewed", "its old mailbox was made anew, and is the same"},
    {"account forget-legacy", "its trail was ended by an operator"},
    {"account rename", "renamed"},
    {"account pause", "paused"},
    {"account resume", "set going"},
    {"account password", "a password was set"},
    {"password learnt", "a further password was learnt"},
    {"password refused", "the old server refused a password"},
    {"password given up", "a password was given up"},
    {"account accept", "a message set aside was accepted"},
    {"rollback", "the way back was asked for"},
};

static const char *words_of(const char *event)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i].event, event) == 0)
            return words[i].words;
    return event;
}

static json_t *timeline_entry(int64_t at, const char *event, const char *actor,
                              const char *text, const char *reason)
{
    return json_pack("{s:I,s:s,s:o,s:o,s:o}", "at", (json_int_t)at, "event",
                     event, "actor", command_text_json(actor), "text",
                     command_text_json(text), "reason",
                     command_text_json(reason));
}

/* The audit comes newest first. */
static int prepend(void *ctx, const struct audit_entry *entry)
{
    const char *reason = entry->reason && *entry->reason ? entry->reason
                         : entry->was && *entry->was     ? NULL
                                                         : entry->detail;

    json_array_insert_new(ctx, 0,
                          timeline_entry(entry->at, entry->event, entry->actor,
                                         words_of(entry->event), reason));
    return 0;
}

/* What the row alone knows, put where it belongs in time. */
static void insert_at(json_t *list, int64_t at, const char *event,
                      const char *text, const char *reason)
{
    size_t i = json_array_size(list);

    if (at == 0)
        return;
    while (i > 0 && json_integer_value(json_object_get(
                        json_array_get(list, i - 1), "at")) > at)
        i--;
    json_array_insert_new(list, i,
                          timeline_entry(at, event, NULL, text, reason));
}

int command_add_timeline(struct command *c, const struct account *a,
                         json_t *json, struct err *err)
{
    const struct audit_filter filter = {.account_id = a->id,
                                        .limit = TIMELINE_MAX};
    json_t *list = json_array();

    json_object_set_new(json, "timeline", list);
    if (audit_each(c->db, &filter, prepend, list, err) == -1)
        return -1;
    insert_at(list, a->delta_at, "delta", "last delta",
              a->is_clean ? "clean" : NULL);
    insert_at(list, a->local_ready_at, "local-ready",
              "the new server said that it serves the mailbox", NULL);
    insert_at(list, a->late_mail_at, "late-mail",
              "mail that arrived late on the old server was fetched", NULL);
    insert_at(list, a->last_error_at, "error", "a job failed",
              a->last_error[0] ? a->last_error : "mended since");
    return 0;
}
