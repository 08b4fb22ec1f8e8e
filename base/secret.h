/*
 * Passwords and keys in memory: kept out of cores and swap where the system
 * lets us, overwritten when let go.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

struct secret {
    char *bytes; /* owned, terminated; NULL when empty */
    size_t length;
};

void secret_init(struct secret *s);

/* Take a copy of the bytes; what was held before is wiped. */
void secret_set(struct secret *s, const void *bytes, size_t length);

/* Overwrite and free; the secret is empty afterwards. */
void secret_wipe(struct secret *s);

/* Compare in constant time. */
bool secret_equal(const struct secret *a, const struct secret *b);

/* Forbid core dumps and ptrace by others; call once at the start of a process
   that sees secrets. */
void secret_guard_process(void);

#endif
