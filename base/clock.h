/*
 * The time of day. Deadlines inside a process go by loop_now_ms() instead.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_unix_ms(void); /* milliseconds since 1970, UTC */
/* Milliseconds since the machine started: the same in all its processes, and
   nobody sets it. */
int64_t clock_boot_ms(void);

#endif
