#include "account/admission.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define MILLION   1000000u
#define ONE       60000LL /* an account: what a rate of 1/min adds in 60000 ms */
#define BURST_MS  6000
#define RATE_MOST 1000000

unsigned admission_place(const char *address)
{
    struct digest *d = digest_new();
    uint8_t value[DIGEST_SIZE];
    uint64_t first = 0;

    digest_add(d, address, strlen(address));
    digest_take(d, value);
    digest_free(&d);
    for (int i = 0; i < 8; i++)
        first = first << 8 | value[i];
    return (unsigned)(first % MILLION);
}

bool admission_is_in_share(const char *address, unsigned share)
{
    return share >= MILLION || (share > 0 && admission_place(address) < share);
}

/* The digits behind a point as ten-thousandths: "5" is 5000. */
static int parse_fraction(const char **at, unsigned *out)
{
    unsigned unit = 1000;

    *out = 0;
    if (**at < '0' || **at > '9')
        return -1;
    for (; **at >= '0' && **at <= '9'; (*at)++, unit /= 10) {
        if (unit == 0 && **at != '0')
            return -1; /* finer than a millionth */
        *out += (unsigned)(**at - '0') * unit;
    }
    return 0;
}

int admission_parse_share(const char *text, unsigned *share_out,
                          struct err *err)
{
    const char *at = text;
    unsigned whole = 0, fraction = 0;
    bool is_good;

    if (strcmp(text, "all") == 0) {
        *share_out = MILLION;
        return 0;
    }
    is_good = *at >= '0' && *at <= '9';
    for (; *at >= '0' && *at <= '9' && whole <= 100; at++)
        whole = whole * 10 + (unsigned)(*at - '0');
    if (is_good && *at == '.') {
        at++;
        is_good = parse_fraction(&at, &fraction) == 0;
    }
    if (!is_good || strcmp(at, "%") != 0 || whole * 10000 + fraction > MILLION)
        return err_set(err, ERR_SETUP,
                       "not a share: \"%.64s\"; 0%% to 100%%, such as 0.1%%, "
                       "or all, or list",
                       text);
    *share_out = whole * 10000 + fraction;
    return 0;
}

const char *admission_share_text(unsigned share, char *out, size_t size)
{
    int length = snprintf(out, size, "%u.%04u", share / 10000, share % 10000);

    while (length > 0 && (size_t)length < size && out[length - 1] == '0')
        out[--length] = '\0';
    if (length > 0 && (size_t)length < size && out[length - 1] == '.')
        length--;
    if (length > 0 && (size_t)length + 1 < size)
        memcpy(out + length, "%", 2);
    return out;
}

int admission_parse_rate(const char *text, unsigned *rate_out, struct err *err)
{
    unsigned long value;
    char *end;

    if (strcmp(text, "none") == 0 || strcmp(text, "0") == 0) {
        *rate_out = 0;
        return 0;
    }
    errno = 0;
    value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || errno != 0 || value < 1 ||
        value > RATE_MOST || strcmp(end, "/min") != 0)
        return err_set(err, ERR_SETUP,
                       "not a rate: \"%.64s\"; such as 30/min, or none", text);
    *rate_out = (unsigned)value;
    return 0;
}

static int64_t level_now(const struct admission_bucket *b, unsigned rate,
                         int64_t now_ms)
{
    int64_t most =
        (int64_t)rate * BURST_MS > ONE ? (int64_t)rate * BURST_MS : ONE;
    int64_t passed = now_ms - b->at_ms;

    if (!b->is_used || passed >= most / rate + 1)
        return most;
    if (passed < 0)
        passed = 0;
    return b->level + passed * rate < most ? b->level + passed * rate : most;
}

bool admission_has_room(const struct admission_bucket *b, unsigned rate,
                        int64_t now_ms)
{
    return rate == 0 || level_now(b, rate, now_ms) >= ONE;
}

void admission_take(struct admission_bucket *b, unsigned rate, int64_t now_ms)
{
    if (rate == 0)
        return;
    b->level = level_now(b, rate, now_ms) - ONE;
    b->at_ms = now_ms;
    b->is_used = true;
}
