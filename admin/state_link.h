/*
 * The admin role's connection to the state process: questions with a deadline,
 * answered in any order, connected again by itself. Owns the channel.
 */
#ifndef ADMIN_STATE_LINK_H
#define ADMIN_STATE_LINK_H

#include <jansson.h>
#include <stdint.h>

#include "base/loop.h"

struct state_link;

/* socket_path is copied. */
struct state_link *state_link_new(struct loop *loop, const char *socket_path);
/* What is under way is not answered. */
void state_link_free(struct state_link **link);

/* answer: borrowed; NULL if state could not be asked or did not answer in time.
   Called once, never from inside state_link_ask(). */
typedef void state_link_fn(void *ctx, const json_t *answer);

/* question is taken; its "id" is set here. wait_ms: at most so long. */
void state_link_ask(struct state_link *link, json_t *question, int64_t wait_ms,
                    state_link_fn *fn, void *ctx);

#endif
