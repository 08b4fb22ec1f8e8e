/*
 * What is counted, as Prometheus reads it (text format 0.0.4). Pure.
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include <jansson.h>

#include "base/buf.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* series: {"name{labels}": number}; each family once, with its HELP and TYPE,
   names with the prefix mailhaul_. A series that is no metric is left out. */
void metrics_write(const json_t *series, struct buf *out);

#endif
