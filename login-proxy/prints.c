#include "login-proxy/prints.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "account/seal.h"
#include "base/mem.h"

#define PRINTS_COUNT 32768u /* a megabyte */

struct prints {
    uint8_t key[SEAL_KEY_SIZE];
    uint8_t slot[PRINTS_COUNT][SEAL_PRINT_SIZE];
};

struct prints *prints_new(void)
{
    struct prints *prints = mem_alloc(sizeof *prints);

    seal_random(prints->key, sizeof prints->key);
    return prints;
}

void prints_free(struct prints **prints)
{
    if (*prints != NULL) {
        explicit_bzero(*prints, sizeof **prints);
        free(*prints);
        *prints = NULL;
    }
}

/* One place an address (FNV-1a), so that a new password replaces the old. */
static unsigned place_of(const char *address)
{
    uint32_t hash = 2166136261u;

    for (; *address != '\0'; address++)
        hash = (hash ^ (unsigned char)*address) * 16777619u;
    return hash % PRINTS_COUNT;
}

bool prints_has(const struct prints *prints, const char *address,
                const struct secret *password)
{
    uint8_t print[SEAL_PRINT_SIZE];

    seal_fingerprint(prints->key, address, password, print);
    return memcmp(print, prints->slot[place_of(address)], sizeof print) == 0;
}

void prints_put(struct prints *prints, const char *address,
                const struct secret *password)
{
    seal_fingerprint(prints->key, address, password,
                     prints->slot[place_of(address)]);
}
