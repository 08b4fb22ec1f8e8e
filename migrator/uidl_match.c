/*
 * The pure half of migrator/uidl.h: which message of POP3's list is which
 * message of INBOX. Knows sizes and positions, no contents.
 */
#include "migrator/uidl.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MATCH_WINDOW 32 /* messages that one side may lack in a row */

struct sized {
    int64_t size;
    size_t index;
};

/* Both lists while they are matched. */
struct match {
    const struct uidl_listed *listed;
    size_t listed_count;
    struct uidl_message *messages;
    size_t message_count;
    bool *is_taken; /* owned: of the listed */
};

/* A pair of positions; listed counts from the other end in a backward list. */
struct anchor {
    size_t message, listed;
};

bool uidl_is_valid(const char *text)
{
    size_t length = strlen(text);

    if (length < 1 || length > 70)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    return true;
}

bool uidl_is_reordered(const struct uidl_message *messages, size_t count)
{
    int64_t last = -1;

    for (size_t i = 0; i < count; i++) {
        if (messages[i].matched == -1)
            continue;
        if (messages[i].matched < last)
            return true;
        last = messages[i].matched;
    }
    return false;
}

static void pair(struct match *m, size_t message, size_t listed)
{
    m->messages[message].matched = (int64_t)listed;
    m->is_taken[listed] = true;
}

static int compare_sized(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;

    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* What is unmatched, by size and then by position. */
static struct sized *open_messages(const struct match *m, size_t *count_out)
{
    struct sized *open = mem_alloc((m->message_count + 1) * sizeof *open);
    size_t count = 0;

    for (size_t i = 0; i < m->message_count; i++)
        if (m->messages[i].matched == -1)
            open[count++] = (struct sized){m->messages[i].size_bytes, i};
    qsort(open, count, sizeof *open, compare_sized);
    *count_out = count;
    return open;
}

static struct sized *open_listed(const struct match *m, size_t *count_out)
{
    struct sized *open = mem_alloc((m->listed_count + 1) * sizeof *open);
    size_t count = 0;

    for (size_t i = 0; i < m->listed_count; i++)
        if (!m->is_taken[i] && m->listed[i].size_bytes >= 0)
            open[count++] = (struct sized){m->listed[i].size_bytes, i};
    qsort(open, count, sizeof *open, compare_sized);
    *count_out = count;
    return open;
}

static size_t run_length(const struct sized *open, size_t at, size_t count)
{
    size_t end = at;

    while (end < count && open[end].size == open[at].size)
        end++;
    return end - at;
}

/* Pair sizes that both sides have equally often, at most `often` times. */
static void pair_equal_counts(struct match *m, size_t often)
{
    size_t message_count, listed_count, i = 0, j = 0;
    struct sized *messages = open_messages(m, &message_count);
    struct sized *listed = open_listed(m, &listed_count);

    while (i < message_count && j < listed_count) {
        size_t a = run_length(messages, i, message_count);
        size_t b = run_length(listed, j, listed_count);

        if (messages[i].size < listed[j].size) {
            i += a;
        } else if (messages[i].size > listed[j].size) {
            j += b;
        } else {
            for (size_t k = 0; a == b && a <= often && k < a; k++)
                pair(m, messages[i + k].index, listed[j + k].index);
            i += a;
            j += b;
        }
    }
    free(messages);
    free(listed);
}

/* Keep the longest run of anchors whose listed positions rise (patience:
   tails[k] ends the best run of length k + 1). Returns its length, with the run
   moved to the front of anchors. */
static size_t longest_rise(struct anchor *anchors, size_t count)
{
    size_t *tails = mem_alloc((count + 1) * sizeof *tails);
    size_t *before = mem_alloc((count + 1) * sizeof *before);
    struct anchor *kept;
    size_t length = 0, at;

    for (size_t i = 0; i < count; i++) {
        size_t low = 0, high = length;

        while (low < high) {
            size_t middle = (low + high) / 2;

            if (anchors[tails[middle]].listed < anchors[i].listed)
                low = middle + 1;
            else
                high = middle;
        }
        before[i] = low > 0 ? tails[low - 1] : 0;
        tails[low] = i;
        if (low == length)
            length++;
    }
    kept = mem_alloc((length + 1) * sizeof *kept);
    at = length > 0 ? tails[length - 1] : 0;
    for (size_t k = length; k > 0; k--) {
        kept[k - 1] = anchors[at];
        at = before[at];
    }
    memcpy(anchors, kept, length * sizeof *kept);
    free(kept);
    free(tails);
    free(before);
    return length;
}

static struct anchor *collect_anchors(const struct match *m, bool is_backward,
                                      size_t *count_out)
{
    struct anchor *anchors =
        mem_alloc((m->message_count + 1) * sizeof *anchors);
    size_t count = 0;

    for (size_t i = 0; i < m->message_count; i++) {
        size_t listed = (size_t)m->messages[i].matched;

        if (m->messages[i].matched == -1)
            continue;
        anchors[count++] = (struct anchor){
            i, is_backward ? m->listed_count - 1 - listed : listed};
    }
    *count_out = count;
    return anchors;
}

/* A stretch between two anchors; bounds are exclusive at the end. */
struct gap {
    size_t message, message_end, listed, listed_end;
    bool is_backward;
    bool is_closed; /* an anchor stands behind it */
};

static size_t listed_at(const struct match *m, const struct gap *g,
                        size_t position)
{
    return g->is_backward ? m->listed_count - 1 - position : position;
}

static bool fits(const struct match *m, const struct gap *g, size_t message,
                 size_t position)
{
    size_t listed = listed_at(m, g, position);

    return m->messages[message].matched == -1 && !m->is_taken[listed] &&
           m->messages[message].size_bytes == m->listed[listed].size_bytes;
}

/* The nearest place ahead where both sides fit again. */
static bool resynchronise(const struct match *m, const struct gap *g,
                          size_t *message, size_t *position)
{
    for (size_t distance = 1; distance <= MATCH_WINDOW; distance++) {
        for (size_t skip = 0; skip <= distance; skip++) {
            size_t i = *message + skip, j = *position + distance - skip;

            if (i < g->message_end && j < g->listed_end && fits(m, g, i, j)) {
                *message = i;
                *position = j;
                return true;
            }
        }
    }
    return false;
}

static void fill_gap(struct match *m, const struct gap *g)
{
    size_t i = g->message, j = g->listed;

    while (i < g->message_end && j < g->listed_end) {
        if (!fits(m, g, i, j) && !resynchronise(m, g, &i, &j)) {
            i++;
            j++;
            continue;
        }
        pair(m, i++, listed_at(m, g, j++));
    }
}

/* As many on both sides: POP3 counts some octets otherwise (line ends), the
   order still tells. Not behind the last anchor, where new mail arrives. */
static bool pair_by_position(struct match *m, const struct gap *g)
{
    size_t count = g->message_end - g->message;

    if (!g->is_closed || count != g->listed_end - g->listed)
        return false;
    for (size_t k = 0; k < count; k++)
        if (m->messages[g->message + k].matched != -1 ||
            m->is_taken[listed_at(m, g, g->listed + k)])
            return false;
    for (size_t k = 0; k < count; k++)
        pair(m, g->message + k, listed_at(m, g, g->listed + k));
    return true;
}

static void fill_gaps(struct match *m, const struct anchor *anchors,
                      size_t count, bool is_backward)
{
    struct gap g = {.is_backward = is_backward};

    for (size_t k = 0; k <= count; k++) {
        g.is_closed = k < count;
        g.message_end = g.is_closed ? anchors[k].message : m->message_count;
        g.listed_end = g.is_closed ? anchors[k].listed : m->listed_count;
        if (!pair_by_position(m, &g))
            fill_gap(m, &g);
        if (g.is_closed) {
            g.message = anchors[k].message + 1;
            g.listed = anchors[k].listed + 1;
        }
    }
}

/* Find in which direction the list runs, and fill the gaps along it; leaves a
   shuffled one alone. With nothing to go by, POP3 lists in the order of UIDs.
 */
static void match_in_order(struct match *m)
{
    for (int is_backward = 0; is_backward <= 1; is_backward++) {
        size_t count, rise;
        struct anchor *anchors = collect_anchors(m, is_backward, &count);

        rise = longest_rise(anchors, count);
        if (rise >= count - count / 8 && !(is_backward && count == 0)) {
            fill_gaps(m, anchors, rise, is_backward);
            free(anchors);
            return;
        }
        free(anchors);
    }
}

size_t uidl_match(const struct uidl_listed *listed, size_t listed_count,
                  struct uidl_message *messages, size_t message_count)
{
    struct match m = {listed, listed_count, messages, message_count,
                      mem_alloc(listed_count + 1)};
    size_t matched = 0;

    for (size_t i = 0; i < message_count; i++)
        if (messages[i].matched != -1)
            m.is_taken[messages[i].matched] = true;
    pair_equal_counts(&m, 1);
    /* in order but for a few, in some servers' lists (Courier's goes by file
       names): those are left, and in a shuffled list all */
    match_in_order(&m);
    pair_equal_counts(&m, SIZE_MAX);
    for (size_t i = 0; i < message_count; i++)
        matched += messages[i].matched != -1;
    free(m.is_taken);
    return matched;
}
