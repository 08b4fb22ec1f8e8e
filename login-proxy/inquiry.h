/*
 * What legacy is asked after local's refusal, and how often: a flood of wrong
 * passwords on local must not become one on legacy. Remembers, for a while and
 * as keyed fingerprints in memory of a fixed size, which pairs legacy has
 * refused and how much was asked for an address. Pure but for its key; the
 * caller brings the time.
 */
#ifndef LOGIN_PROXY_INQUIRY_H
#define LOGIN_PROXY_INQUIRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"

#define INQUIRY_REFUSED_MS                                                     \
    30000 /* so long a refused pair is not asked again                         \
           */
#define INQUIRY_MINUTE_MS  60000
#define INQUIRY_PER_MINUTE 10 /* questions for one address */

struct inquiries;

enum inquiry {
    INQUIRY_ASK,     /* begun: inquiry_end() is owed */
    INQUIRY_WAIT,    /* another one for this address is under way */
    INQUIRY_REFUSED, /* legacy has refused this pair a moment ago */
    INQUIRY_LATER    /* too many for this address */
};

struct inquiries *inquiries_new(void);
void inquiries_free(struct inquiries **q);

enum inquiry inquiry_begin(struct inquiries *q, const char *address,
                           const struct secret *password, int64_t now_ms);
void inquiry_end(struct inquiries *q, const char *address,
                 const struct secret *password, bool is_refused,
                 int64_t now_ms);

#endif
