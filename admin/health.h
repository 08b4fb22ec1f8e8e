/*
 * Whether all is well, and if not why, in plain words. Pure.
 */
#ifndef ADMIN_HEALTH_H
#define ADMIN_HEALTH_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

/* answer: what state says of itself (account/wire.h, "metrics"), NULL if it
   does not answer. Appends one line a reason to out; true, with none, if all is
   well. */
bool health_judge(const json_t *answer, struct buf *out);

#endif
