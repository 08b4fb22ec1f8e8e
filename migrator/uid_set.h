/*
 * A set of UIDs as a server writes it ("4:6,9"), before it is believed.
 */
#ifndef MIGRATOR_UID_SET_H
#define MIGRATOR_UID_SET_H

#include <stddef.h>
#include <stdint.h>

/* How many UIDs it names; 0 if it is anything but numbers and ranges of
   numbers, ascending within a range, all of them `least` or higher. */
uint64_t uid_set_count(const char *text, size_t length, uint32_t least);

#endif
