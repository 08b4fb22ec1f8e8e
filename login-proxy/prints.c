#include "login-proxy/prints.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "account/seal.h"
#include "base/mem.h"

#define PRINTS_COUNT 8192u /* of addresses; a megabyte in all */
#define PRINTS_WAYS  4u    /* passwords of one */

struct prints {
    uint8_t key[SEAL_KEY_SIZE];
    struct {
        uint8_t way[PRINTS_WAYS][SEAL_PRINT_SIZE];
        unsigned next; /* to be written over */
    } slot[PRINTS_COUNT];
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

/* One place an address (FNV-1a), where the newest passwords stand. */
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
    unsigned place = place_of(address);
    uint8_t print[SEAL_PRINT_SIZE];

    seal_fingerprint(prints->key, address, password, print);
    for (unsigned i = 0; i < PRINTS_WAYS; i++)
        if (memcmp(print, prints->slot[place].way[i], sizeof print) == 0)
            return true;
    return false;
}

void prints_put(struct prints *prints, const char *address,
                const struct secret *password)
{
    unsigned place = place_of(address);

    if (prints_has(prints, address, password))
        return;
    seal_fingerprint(prints->key, address, password,
                     prints->slot[place].way[prints->slot[place].next]);
    prints->slot[place].next = (prints->slot[place].next + 1) % PRINTS_WAYS;
}

void prints_forget(struct prints *prints, const char *address)
{
    explicit_bzero(&prints->slot[place_of(address)],
                   sizeof prints->slot[place_of(address)]);
}
