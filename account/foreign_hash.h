/*
 * Password hashes that another system has made, "{SCHEME}hash" as a list brings
 * them: which of them local can verify as they are. Pure, but for the last.
 */
#ifndef ACCOUNT_FOREIGN_HASH_H
#define ACCOUNT_FOREIGN_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "db/db.h"

/* Whether a text that stands for a password is meant as a hash: "{", a word of
   capitals, digits, '-' and '.', "}", and something behind it. */
bool foreign_hash_is_meant(const char *text);

/* Check form and cost of {SSHA}, {MD5-CRYPT}, {BLF-CRYPT}, {SHA256-CRYPT},
   {SHA512-CRYPT} and {CRYPT}; the scheme may be in any case and is written in
   capitals. ERR_SETUP names another scheme, or what is wrong; never the hash.
 */
int foreign_hash_check(const char *text, char *out, size_t size,
                       struct err *err);

/* Check it and store it as a further password of the account. */
int foreign_hash_store(struct db *db, int64_t account_id, const char *text,
                       int64_t now_ms, struct err *err);

#endif
