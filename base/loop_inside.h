/*
 * What the files of base/ that wrap a part of libevent themselves need of a
 * loop. Nobody outside base/ includes it.
 */
#ifndef BASE_LOOP_INSIDE_H
#define BASE_LOOP_INSIDE_H

struct event_base;
struct loop;

/* Borrowed. */
struct event_base *loop_event_base(struct loop *loop);

#endif
