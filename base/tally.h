/*
 * Counters of this process, for whoever watches the installation: how many
 * logins, mails, bytes. A series is a name with labels, as the metrics spell it
 * without their prefix: mails_total{side="legacy",answer="2xx"}. What ends in
 * _total only grows; any other is a gauge. Never a label with a user, an
 * address or anything else that a peer may choose: there is room for
 * TALLY_SERIES_MAX series, and later ones are dropped.
 */
#ifndef BASE_TALLY_H
#define BASE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#define TALLY_SERIES_MAX 256
#define TALLY_NAME_MAX   128

/* Add n (a gauge may go down) to the series that format spells. */
void tally_add(int64_t n, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* In no order. */
void tally_each(void (*fn)(void *ctx, const char *series, int64_t value),
                void *ctx);

/* 0 for a series that nobody has counted. */
int64_t tally_value(const char *series);

/* Raised with every tally_add(): whether there is news. */
uint64_t tally_turn(void);

/* Whether the series only grows. */
bool tally_only_grows(const char *series);

#endif
