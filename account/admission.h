/*
 * Who of a domain is taken in at a login, and how fast. Pure: the table of
 * those who are named is looked up by the caller.
 */
#ifndef ACCOUNT_ADMISSION_H
#define ACCOUNT_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Where a canonical address stands among a million: the first 64 bits of its
   SHA-256, modulo 1000000. The same for ever: a share that grows only adds
   people. */
unsigned admission_place(const char *address);
/* share: millionths. */
bool admission_is_in_share(const char *address, unsigned share);

/* "1%", "0.1%", "100%", "all" -> millionths. ERR_SETUP for anything else. */
int admission_parse_share(const char *text, unsigned *share_out,
                          struct err *err);
/* "2.5%". Returns out. */
const char *admission_share_text(unsigned share, char *out, size_t size);
/* "30/min" -> 30; "none" and "0" -> 0: any number. ERR_SETUP. */
int admission_parse_rate(const char *text, unsigned *rate_out, struct err *err);

/* What may still be taken in of a domain now: a bucket that holds six seconds'
   worth of its rate, one at least, and is full at first. Zeroed: a new one. */
struct admission_bucket {
    bool is_used;
    int64_t level; /* in 60000ths of an account */
    int64_t at_ms; /* of the level */
};
/* rate: accounts a minute; 0: always. now_ms of any clock that does not go
   back; when it does, nothing is added. */
bool admission_has_room(const struct admission_bucket *b, unsigned rate,
                        int64_t now_ms);
/* One account has been taken in. */
void admission_take(struct admission_bucket *b, unsigned rate, int64_t now_ms);

#endif
