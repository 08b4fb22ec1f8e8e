/*
 * The administrator's commands over HTTP: a request becomes one of the table
 * in account/command.h, run by state under the uid of whoever connected.
 */
#ifndef ADMIN_API_H
#define ADMIN_API_H

#include "admin/state_link.h"
#include "base/http.h"

/* r has come over the Unix socket, its path begins with /v1/; it is answered in
   any case. */
void api_take(struct state_link *link, struct http_request *r);

#endif
