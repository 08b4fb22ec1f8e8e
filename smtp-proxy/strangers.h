/*
 * Who has been sent mail that legacy took, and is no account of ours: counted
 * here and told to state once a second. Mail never waits for it: what finds no
 * room is not counted. Owns what waits to be told.
 */
#ifndef SMTP_PROXY_STRANGERS_H
#define SMTP_PROXY_STRANGERS_H

#include <stdbool.h>

#include "account/directory.h"
#include "base/loop.h"

struct strangers;

/* Both are borrowed until strangers_free; the directory may be NULL: nothing
   is told. */
struct strangers *strangers_new(struct loop *loop, struct directory *directory);
void strangers_free(struct strangers **strangers);

/* One more mail for this canonical address. False if it is not counted: too
   many wait, because state is away. */
bool strangers_note(struct strangers *strangers, const char *address);
/* State has taken what it was told last: it may be told more. */
void strangers_counted(struct strangers *strangers);

#endif
