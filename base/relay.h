/*
 * Splices a client and a backend: bytes both ways, back-pressure, half-close.
 * An idle relay holds no buffers. It also watches what a hold needs to know:
 * whether the last byte was the backend's LF and how long ago it came.
 */
#ifndef BASE_RELAY_H
#define BASE_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conn.h"

struct relay;

enum relay_end {
    RELAY_CLIENT_CLOSED,
    RELAY_BACKEND_CLOSED,
    RELAY_CLIENT_FAILED,
    RELAY_BACKEND_FAILED
};

/* Called once, from the loop; both conns are closed by then (what the closed
   side had sent has reached the other), and when it was the client that closed
   or failed, the backend has ended its session. The user then calls
   relay_free. */
typedef void relay_fn(void *ctx, enum relay_end end);

/* Owns both conns from now on and sets them to NULL. What their input buffers
   hold is forwarded first. */
struct relay *relay_start_take(struct loop *loop, struct conn **client,
                               struct conn **backend, relay_fn *fn, void *ctx);
void relay_free(struct relay **relay); /* closes at once if it still runs */

/* The last byte of all was the backend's and LF (or none was sent), and at
   least quiet_ms have passed since; nothing is buffered either way. */
bool relay_is_quiet(const struct relay *relay, int64_t quiet_ms);

/* End it for a hold: stop reading the client, send what is queued, half-close
   the backend, wait for its EOF (at most wait_ms; what it still sends goes to
   the client), then send `farewell` to the client if not NULL and if what came
   before it ended with LF, and close it.
   relay_fn follows with RELAY_BACKEND_CLOSED. */
void relay_drain(struct relay *relay, const char *farewell, int64_t wait_ms);

/* End it at once: the backend is closed without another word; `farewell` goes
   to the client if not NULL, if what came before it ended with LF, and if
   nothing waits before it. relay_fn is not called any more; relay_free()
   follows. */
void relay_cut(struct relay *relay, const char *farewell);

/* Payload bytes forwarded so far. */
uint64_t relay_bytes_to_client(const struct relay *relay);
uint64_t relay_bytes_to_backend(const struct relay *relay);

#endif
