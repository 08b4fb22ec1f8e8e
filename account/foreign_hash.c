#include "account/foreign_hash.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "db/credentials.h"
#include "proto/base64.h"

/* What one wrong login may cost local: a list is no place to stop its server.
 */
#define ROUNDS_MAX   5000000
#define BLF_COST_MIN 4
#define BLF_COST_MAX 15

#define CRYPT_DIGITS                                                           \
    "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

typedef int check_fn(const char *hash, struct err *err);

static size_t scheme_length(const char *text)
{
    size_t length;

    if (text[0] != '{')
        return 0;
    length = strspn(text + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "abcdefghijklmnopqrstuvwxyz0123456789-.");
    return length > 0 && text[1 + length] == '}' && text[2 + length] != '\0'
               ? length + 2
               : 0;
}

bool foreign_hash_is_meant(const char *text)
{
    return scheme_length(text) > 0;
}

static int malformed(struct err *err, const char *scheme)
{
    return err_set(err, ERR_SETUP, "%s: not a hash of that scheme", scheme);
}

/* `count` digits of crypt(3), and nothing behind them. */
static bool is_digest(const char *text, size_t count)
{
    return strspn(text, CRYPT_DIGITS) == count && text[count] == '\0';
}

static int check_ssha(const char *hash, struct err *err)
{
    char bytes[256];
    long length = -1;

    if (strlen(hash) <= BASE64_SIZE(sizeof(bytes)))
        length = base64_decode(hash, strlen(hash), bytes, sizeof(bytes));
    /* 20 bytes of SHA-1, then the salt */
    return length > 20 ? 0 : malformed(err, "{SSHA}");
}

/* "$ID$[rounds=N$]SALT$DIGEST" */
static int check_crypt(const char *hash, const char *id, size_t digest,
                       struct err *err)
{
    const char *at = hash + strlen(id);
    char scheme[16];
    size_t salt;

    snprintf(scheme, sizeof(scheme), "%s", id);
    if (strncmp(hash, id, strlen(id)) != 0)
        return malformed(err, scheme);
    if (strncmp(at, "rounds=", 7) == 0) {
        char *end;
        unsigned long rounds = strtoul(at + 7, &end, 10);

        if (!isdigit((unsigned char)at[7]) || *end != '$')
            return malformed(err, scheme);
        if (rounds > ROUNDS_MAX)
            return err_set(err, ERR_SETUP, "%s: more than %d rounds", scheme,
                           ROUNDS_MAX);
        at = end + 1;
    }
    salt = strcspn(at, "$:\n");
    if (salt == 0 || salt > 16 || at[salt] != '$' ||
        !is_digest(at + salt + 1, digest))
        return malformed(err, scheme);
    return 0;
}

static int check_md5(const char *hash, struct err *err)
{
    return check_crypt(hash, "$1$", 22, err);
}

static int check_sha256(const char *hash, struct err *err)
{
    return check_crypt(hash, "$5$", 43, err);
}

static int check_sha512(const char *hash, struct err *err)
{
    return check_crypt(hash, "$6$", 86, err);
}

/* "$2y$05$" and 53 digits */
static int check_blf(const char *hash, struct err *err)
{
    int cost;

    if (strncmp(hash, "$2", 2) != 0 || !hash[2] || !strchr("aby", hash[2]) ||
        hash[3] != '$' || !isdigit((unsigned char)hash[4]) ||
        !isdigit((unsigned char)hash[5]) || hash[6] != '$' ||
        !is_digest(hash + 7, 53))
        return malformed(err, "{BLF-CRYPT}");
    cost = (hash[4] - '0') * 10 + hash[5] - '0';
    return cost >= BLF_COST_MIN && cost <= BLF_COST_MAX
               ? 0
               : err_set(err, ERR_SETUP, "{BLF-CRYPT}: cost %d is not %d to %d",
                         cost, BLF_COST_MIN, BLF_COST_MAX);
}

/* "$y$j9T$SALT$DIGEST": its cost is a letter, '5' to 'F' are 1 to 11 */
static int check_yescrypt(const char *hash, struct err *err)
{
    const char *at = hash + strlen("$y$j");

    if (strncmp(hash, "$y$j", 4) != 0 || *at < '7' || *at > 'F' ||
        at[1] != 'T' || at[2] != '$' ||
        strspn(at + 3, CRYPT_DIGITS "$") != strlen(at + 3))
        return malformed(err, "{CRYPT}$y$");
    return 0;
}

/* What the system's crypt(3) takes: the same again, or DES of 13 digits. */
static int check_any_crypt(const char *hash, struct err *err)
{
    static const struct {
        const char *start;
        check_fn *check;
    } kinds[] = {{"$1$", check_md5},
                 {"$2", check_blf},
                 {"$5$", check_sha256},
                 {"$6$", check_sha512},
                 {"$y$", check_yescrypt}};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(hash, kinds[i].start, strlen(kinds[i].start)) == 0)
            return kinds[i].check(hash, err);
    return is_digest(hash, 13) ? 0 : malformed(err, "{CRYPT}");
}

int foreign_hash_check(const char *text, char *out, size_t size,
                       struct err *err)
{
    static const struct {
        const char *scheme;
        check_fn *check;
    } schemes[] = {
        {"{SSHA}", check_ssha},           {"{MD5-CRYPT}", check_md5},
        {"{BLF-CRYPT}", check_blf},       {"{SHA256-CRYPT}", check_sha256},
        {"{SHA512-CRYPT}", check_sha512}, {"{CRYPT}", check_any_crypt}};
    size_t length = scheme_length(text);

    if (length == 0)
        return err_set(err, ERR_SETUP, "not a password hash: no {SCHEME}");
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        int written;

        if (strlen(schemes[i].scheme) != length ||
            strncasecmp(text, schemes[i].scheme, length) != 0)
            continue;
        written = snprintf(out, size, "%s%s", schemes[i].scheme, text + length);
        if (written < 0 || (size_t)written >= size)
            return err_set(err, ERR_SETUP, "%s: too long", schemes[i].scheme);
        return schemes[i].check(text + length, err);
    }
    return err_set(err, ERR_SETUP,
                   "password hashes of %.*s are not taken; there are {SSHA}, "
                   "{MD5-CRYPT}, {BLF-CRYPT}, {SHA256-CRYPT}, {SHA512-CRYPT}, "
                   "{CRYPT}",
                   length < 40 ? (int)length : 40, text);
}

int foreign_hash_store(struct db *db, int64_t account_id, const char *text,
                       int64_t now_ms, struct err *err)
{
    struct credential c = {.account_id = account_id,
                           .origin = CREDENTIAL_IMPORTED,
                           .created_at = now_ms};
    struct credential_list all;

    if (foreign_hash_check(text, c.hash, sizeof(c.hash), err) == -1 ||
        credential_list(db, account_id, &all, err) == -1)
        return -1;
    for (size_t i = 0; i < all.count; i++) {
        if (strcmp(all.items[i].hash, c.hash) == 0)
            return 0; /* the same list again */
        /* a list has one hash for a mailbox: a later one replaces it */
        if (all.items[i].origin == CREDENTIAL_IMPORTED &&
            credential_remove(db, all.items[i].id, err) == -1)
            return -1;
    }
    return credential_add(db, &c, NULL, err);
}
