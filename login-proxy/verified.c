#include "login-proxy/verified.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define WAYS       8u
#define BUCKETS    131072u /* accounts are numbered: few touch few pages */
#define ANEW_S     3600u   /* then local is asked again in any case */
#define TABLE_SIZE (sizeof(struct slot) * WAYS * BUCKETS)

struct slot {
    _Atomic uint64_t account_id; /* 0: free */
    _Atomic uint32_t until_s;    /* since boot */
    _Atomic uint32_t born_s;
    _Atomic uint64_t print[2];
};

_Static_assert(sizeof(struct slot) == 32, "layout shared by generations");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared between processes");

struct verified {
    struct slot *slots;
    uint8_t key[SEAL_KEY_SIZE];
    uint32_t keep_s, anew_s;
};

int verified_make_fd(struct err *err)
{
    int fd = memfd_create("verified", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd != -1 && ftruncate(fd, TABLE_SIZE) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    err_set(err, ERR_SETUP, "memory for logins: %s", strerror(errno));
    if (fd != -1)
        close(fd);
    return -1;
}

struct verified *verified_open(int fd, const uint8_t key[SEAL_KEY_SIZE],
                               unsigned minutes, struct err *err)
{
    struct verified *v;
    struct stat st;
    void *memory = MAP_FAILED;

    if (fstat(fd, &st) == 0 && st.st_size == (off_t)TABLE_SIZE)
        memory =
            mmap(NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        err_set(err, ERR_SETUP, "memory for logins: not to be had");
        return NULL;
    }
    madvise(memory, TABLE_SIZE, MADV_DONTDUMP);
    v = mem_alloc(sizeof *v);
    v->slots = memory;
    memcpy(v->key, key, sizeof v->key);
    v->keep_s = minutes * 60;
    v->anew_s = v->keep_s > ANEW_S ? v->keep_s : ANEW_S;
    return v;
}

void verified_close(struct verified **verified)
{
    struct verified *v = *verified;

    *verified = NULL;
    if (v == NULL)
        return;
    munmap(v->slots, TABLE_SIZE);
    explicit_bzero(v, sizeof *v);
    free(v);
}

static struct slot *bucket_of(struct verified *v, int64_t account_id)
{
    return &v->slots[((uint64_t)account_id % BUCKETS) * WAYS];
}

static uint32_t now_s(void)
{
    return (uint32_t)(clock_boot_ms() / 1000);
}

/* Half of a fingerprint is enough of one: it is looked for, not broken. */
void verified_print(const struct verified *v, const struct verified_pair *pair,
                    struct verified_print *out)
{
    uint8_t print[SEAL_PRINT_SIZE];
    char label[512];

    snprintf(label, sizeof label, "%lld %lld %lld %s",
             (long long)pair->account_id, (long long)pair->epoch,
             (long long)pair->version, pair->address);
    seal_fingerprint(v->key, label, pair->password, print);
    memcpy(out, print, sizeof *out);
}

static bool holds(struct slot *slot, int64_t account_id,
                  const struct verified_print *print)
{
    return slot->account_id == (uint64_t)account_id &&
           slot->print[0] == print->words[0] &&
           slot->print[1] == print->words[1];
}

static struct slot *find(struct verified *v, int64_t account_id,
                         const struct verified_print *print)
{
    struct slot *slot = bucket_of(v, account_id);

    for (unsigned i = 0; i < WAYS; i++, slot++)
        if (holds(slot, account_id, print))
            return slot;
    return NULL;
}

bool verified_has(struct verified *v, const struct verified_pair *pair)
{
    uint32_t now = now_s();
    struct verified_print print;
    struct slot *slot;

    if (pair->version == 0 || pair->account_id == 0)
        return false;
    verified_print(v, pair, &print);
    slot = find(v, pair->account_id, &print);
    if (slot == NULL || slot->until_s <= now || now - slot->born_s >= v->anew_s)
        return false;
    slot->until_s = now + v->keep_s;
    return true;
}

/* A free one, else the one that was not used for the longest time. */
static struct slot *choose(struct verified *v, int64_t account_id)
{
    struct slot *slot = bucket_of(v, account_id), *oldest = slot;

    for (unsigned i = 0; i < WAYS; i++, slot++) {
        if (slot->account_id == 0)
            return slot;
        if (slot->until_s < oldest->until_s)
            oldest = slot;
    }
    return oldest;
}

void verified_put(struct verified *v, const struct verified_pair *pair)
{
    uint32_t now = now_s();
    struct verified_print print;
    struct slot *slot;

    if (pair->version == 0 || pair->account_id == 0 || v->keep_s == 0)
        return;
    verified_print(v, pair, &print);
    slot = find(v, pair->account_id, &print);
    if (slot == NULL)
        slot = choose(v, pair->account_id);
    slot->account_id = 0;
    slot->born_s = now;
    slot->until_s = now + v->keep_s;
    slot->print[0] = print.words[0];
    slot->print[1] = print.words[1];
    slot->account_id = (uint64_t)pair->account_id;
}

void verified_forget(struct verified *v, int64_t account_id)
{
    struct slot *slot = bucket_of(v, account_id);

    for (unsigned i = 0; i < WAYS; i++, slot++) {
        if (slot->account_id != (uint64_t)account_id)
            continue;
        slot->account_id = 0;
        slot->print[0] = slot->print[1] = 0;
    }
}
