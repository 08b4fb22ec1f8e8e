#include "login-proxy/inquiry.h"

#include <stdlib.h>
#include <string.h>

#include "account/seal.h"
#include "base/mem.h"

#define PAIRS     8192u
#define ADDRESSES 16384u

struct pair {
    uint8_t print[SEAL_PRINT_SIZE];
    int64_t until_ms; /* 0: none */
};

/* Addresses that share a place share their share: they wait for each other. */
struct place {
    int64_t since_ms; /* of the count */
    unsigned count;
    bool is_asking;
};

struct inquiries {
    uint8_t key[SEAL_KEY_SIZE];
    struct pair pairs[PAIRS];
    struct place places[ADDRESSES];
};

struct inquiries *inquiries_new(void)
{
    struct inquiries *q = mem_alloc(sizeof *q);

    seal_random(q->key, sizeof q->key);
    return q;
}

void inquiries_free(struct inquiries **q)
{
    if (*q != NULL) {
        explicit_bzero(*q, sizeof **q);
        free(*q);
        *q = NULL;
    }
}

static uint32_t number_of(const uint8_t print[SEAL_PRINT_SIZE])
{
    uint32_t number;

    memcpy(&number, print, sizeof number);
    return number;
}

/* By a keyed hash: nobody chooses names that share the place of another. */
static struct place *place_of(struct inquiries *q, const char *address)
{
    const struct secret nothing = {(char *)"", 0};
    uint8_t print[SEAL_PRINT_SIZE];

    seal_fingerprint(q->key, address, &nothing, print);
    return &q->places[number_of(print) % ADDRESSES];
}

static struct pair *pair_of(struct inquiries *q, const char *address,
                            const struct secret *password,
                            uint8_t print[SEAL_PRINT_SIZE])
{
    seal_fingerprint(q->key, address, password, print);
    return &q->pairs[number_of(print) % PAIRS];
}

enum inquiry inquiry_begin(struct inquiries *q, const char *address,
                           const struct secret *password, int64_t now_ms)
{
    struct place *place = place_of(q, address);
    uint8_t print[SEAL_PRINT_SIZE];
    const struct pair *pair = pair_of(q, address, password, print);

    if (pair->until_ms > now_ms &&
        memcmp(pair->print, print, sizeof print) == 0)
        return INQUIRY_REFUSED;
    if (place->is_asking)
        return INQUIRY_WAIT;
    if (place->since_ms == 0 || now_ms - place->since_ms >= INQUIRY_MINUTE_MS) {
        place->since_ms = now_ms;
        place->count = 0;
    }
    if (place->count >= INQUIRY_PER_MINUTE)
        return INQUIRY_LATER;
    place->count++;
    place->is_asking = true;
    return INQUIRY_ASK;
}

void inquiry_end(struct inquiries *q, const char *address,
                 const struct secret *password, bool is_refused, int64_t now_ms)
{
    uint8_t print[SEAL_PRINT_SIZE];
    struct pair *pair = pair_of(q, address, password, print);

    place_of(q, address)->is_asking = false;
    if (!is_refused)
        return;
    memcpy(pair->print, print, sizeof print);
    pair->until_ms = now_ms + INQUIRY_REFUSED_MS;
}
