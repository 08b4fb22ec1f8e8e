#include "account/seal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define VERSION      2 /* of wrapped keys */
#define BLOB_VERSION 1
#define NONCE_SIZE   12
#define TAG_SIZE     16
#define CIPHER_EXTRA (1 + NONCE_SIZE + TAG_SIZE) /* version, nonce, tag */
#define WRAP_INFO    "mailhaul seal 1"

/* wrapped_key: version, id of the public key, ephemeral public key, then nonce,
   data key under the wrapping key, tag. blob: version, nonce, password under
   the data key, tag. */
#define EPHEMERAL_AT (1 + SEAL_ID_SIZE)
_Static_assert(SEAL_WRAPPED_SIZE ==
                   SEAL_ID_SIZE + SEAL_KEY_SIZE + SEAL_KEY_SIZE + CIPHER_EXTRA,
               "layout of a wrapped key");
_Static_assert(SEAL_BLOB_MAX == SEAL_SECRET_MAX + CIPHER_EXTRA,
               "layout of a blob");

/* One AES-256-GCM message: nonce, text, tag at `sealed`. */
struct gcm {
    const uint8_t *key;
    const char *address; /* associated data */
    uint8_t *sealed;
    uint8_t *plain;
    size_t plain_length;
};

static int gcm_begin(EVP_CIPHER_CTX *c, const struct gcm *g, int encrypt)
{
    int done = 0;

    return EVP_CipherInit_ex2(c, EVP_aes_256_gcm(), g->key, g->sealed, encrypt,
                              NULL) == 1 &&
           EVP_CipherUpdate(c, NULL, &done, (const uint8_t *)g->address,
                            (int)strlen(g->address)) == 1;
}

static int gcm_close(const struct gcm *g)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *text = g->sealed + NONCE_SIZE;
    int done = 0, last = 0, is_good;

    seal_random(g->sealed, NONCE_SIZE);
    is_good =
        c != NULL && gcm_begin(c, g, 1) &&
        EVP_CipherUpdate(c, text, &done, g->plain, (int)g->plain_length) == 1 &&
        EVP_CipherFinal_ex(c, text + done, &last) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_SIZE,
                            text + g->plain_length) == 1;
    EVP_CIPHER_CTX_free(c);
    return is_good ? 0 : -1;
}

static int gcm_open(const struct gcm *g)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *text = g->sealed + NONCE_SIZE;
    int done = 0, last = 0, is_good;

    is_good =
        c != NULL && gcm_begin(c, g, 0) &&
        EVP_CipherUpdate(c, g->plain, &done, text, (int)g->plain_length) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_SIZE,
                            text + g->plain_length) == 1 &&
        EVP_CipherFinal_ex(c, g->plain + done, &last) == 1;
    EVP_CIPHER_CTX_free(c);
    /* what was decrypted before the tag was refused must not be used */
    if (!is_good)
        OPENSSL_cleanse(g->plain, g->plain_length);
    return is_good ? 0 : -1;
}

static EVP_PKEY *private_pkey(const struct secret *key)
{
    if (key->length != SEAL_KEY_SIZE)
        return NULL;
    return EVP_PKEY_new_raw_private_key(
        EVP_PKEY_X25519, NULL, (const uint8_t *)key->bytes, key->length);
}

/* The Diffie-Hellman result; refused when it is all zero (a public key of small
   order, RFC 7748 6.1), which OpenSSL checks. */
static int agree(EVP_PKEY *own, const uint8_t *peer_public,
                 uint8_t shared[SEAL_KEY_SIZE])
{
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL,
                                                 peer_public, SEAL_KEY_SIZE);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(own, NULL);
    size_t length = SEAL_KEY_SIZE;
    int is_good = peer != NULL && c != NULL && EVP_PKEY_derive_init(c) == 1 &&
                  EVP_PKEY_derive_set_peer(c, peer) == 1 &&
                  EVP_PKEY_derive(c, shared, &length) == 1 &&
                  length == SEAL_KEY_SIZE;

    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(peer);
    return is_good ? 0 : -1;
}

/* HKDF-SHA256 (RFC 5869) over the shared secret; both public keys are the salt,
   so that the wrapping key belongs to this pair alone. */
static int derive(uint8_t *shared, const uint8_t *ephemeral,
                  const uint8_t *public_key, uint8_t key_out[SEAL_KEY_SIZE])
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *c = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    uint8_t salt[2 * SEAL_KEY_SIZE];
    char digest[] = "SHA256";
    char wrap_info[] = WRAP_INFO;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, shared,
                                          SEAL_KEY_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt,
                                          sizeof(salt)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, wrap_info,
                                          sizeof(wrap_info) - 1),
        OSSL_PARAM_construct_end()};
    int is_good;

    memcpy(salt, ephemeral, SEAL_KEY_SIZE);
    memcpy(salt + SEAL_KEY_SIZE, public_key, SEAL_KEY_SIZE);
    is_good =
        c != NULL && EVP_KDF_derive(c, key_out, SEAL_KEY_SIZE, params) == 1;
    EVP_KDF_CTX_free(c);
    EVP_KDF_free(kdf);
    return is_good ? 0 : -1;
}

static int public_of(EVP_PKEY *key, uint8_t public_key[SEAL_KEY_SIZE])
{
    size_t length = SEAL_KEY_SIZE;

    return key != NULL &&
                   EVP_PKEY_get_raw_public_key(key, public_key, &length) == 1 &&
                   length == SEAL_KEY_SIZE
               ? 0
               : -1;
}

int seal_make_keys(uint8_t public_key[SEAL_KEY_SIZE],
                   struct secret *private_key_out, struct err *err)
{
    uint8_t bytes[SEAL_KEY_SIZE];

    seal_random(bytes, sizeof(bytes));
    secret_set(private_key_out, bytes, sizeof(bytes));
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return seal_public_of(private_key_out, public_key, err);
}

int seal_public_of(const struct secret *private_key,
                   uint8_t public_key[SEAL_KEY_SIZE], struct err *err)
{
    EVP_PKEY *key = private_pkey(private_key);
    int result = public_of(key, public_key);

    EVP_PKEY_free(key);
    return result == 0 ? 0 : err_set(err, ERR_SETUP, "bad sealing key");
}

/* The key that only the owners of `own` and of `peer` can come to. */
static int find_wrapping_key(EVP_PKEY *own, const uint8_t *peer,
                             const uint8_t *ephemeral,
                             const uint8_t *public_key,
                             uint8_t key_out[SEAL_KEY_SIZE])
{
    uint8_t shared[SEAL_KEY_SIZE];
    int result = agree(own, peer, shared);

    if (result == 0)
        result = derive(shared, ephemeral, public_key, key_out);
    OPENSSL_cleanse(shared, sizeof(shared));
    return result;
}

/* Wrap the data key to the node's public key. */
static int wrap(const uint8_t *public_key, const char *address,
                uint8_t data_key[SEAL_KEY_SIZE],
                uint8_t wrapped[SEAL_WRAPPED_SIZE])
{
    EVP_PKEY *own = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    uint8_t *ephemeral = wrapped + EPHEMERAL_AT;
    uint8_t wrapping_key[SEAL_KEY_SIZE];
    const struct gcm g = {.key = wrapping_key,
                          .address = address,
                          .sealed = ephemeral + SEAL_KEY_SIZE,
                          .plain = data_key,
                          .plain_length = SEAL_KEY_SIZE};
    int result = -1;

    wrapped[0] = VERSION;
    seal_key_id(public_key, wrapped + 1);
    if (own != NULL && public_of(own, ephemeral) == 0 &&
        find_wrapping_key(own, public_key, ephemeral, public_key,
                          wrapping_key) == 0)
        result = gcm_close(&g);
    OPENSSL_cleanse(wrapping_key, sizeof(wrapping_key));
    EVP_PKEY_free(own);
    return result;
}

static bool is_key_id(const uint8_t *public_key, const uint8_t *id)
{
    uint8_t own[SEAL_ID_SIZE];

    seal_key_id(public_key, own);
    return memcmp(own, id, sizeof(own)) == 0;
}

static int unwrap(const struct secret *private_key, const char *address,
                  const uint8_t wrapped[SEAL_WRAPPED_SIZE],
                  uint8_t data_key[SEAL_KEY_SIZE])
{
    EVP_PKEY *own = private_pkey(private_key);
    uint8_t copy[SEAL_WRAPPED_SIZE];
    uint8_t *ephemeral = copy + EPHEMERAL_AT;
    uint8_t public_key[SEAL_KEY_SIZE];
    uint8_t wrapping_key[SEAL_KEY_SIZE];
    const struct gcm g = {.key = wrapping_key,
                          .address = address,
                          .sealed = ephemeral + SEAL_KEY_SIZE,
                          .plain = data_key,
                          .plain_length = SEAL_KEY_SIZE};
    int result = -1;

    memcpy(copy, wrapped, sizeof(copy));
    if (own != NULL && copy[0] == VERSION && public_of(own, public_key) == 0 &&
        is_key_id(public_key, copy + 1) &&
        find_wrapping_key(own, ephemeral, ephemeral, public_key,
                          wrapping_key) == 0)
        result = gcm_open(&g);
    OPENSSL_cleanse(wrapping_key, sizeof(wrapping_key));
    EVP_PKEY_free(own);
    return result;
}

int seal_close(const uint8_t public_key[SEAL_KEY_SIZE], const char *address,
               const struct secret *password, struct seal *out, struct err *err)
{
    uint8_t data_key[SEAL_KEY_SIZE];
    const struct gcm g = {.key = data_key,
                          .address = address,
                          .sealed = out->blob + 1,
                          .plain = (uint8_t *)password->bytes,
                          .plain_length = password->length};
    int result;

    memset(out, 0, sizeof(*out));
    if (password->length == 0 || password->length > SEAL_SECRET_MAX)
        return err_set(err, ERR_DENIED, "password is empty or too long");
    seal_random(data_key, sizeof(data_key));
    out->blob[0] = BLOB_VERSION;
    out->blob_length = password->length + CIPHER_EXTRA;
    result = wrap(public_key, address, data_key, out->wrapped_key);
    if (result == 0)
        result = gcm_close(&g);
    OPENSSL_cleanse(data_key, sizeof(data_key));
    if (result == -1) {
        memset(out, 0, sizeof(*out));
        return err_set(err, ERR_SETUP, "%s: cannot seal the password", address);
    }
    return 0;
}

void seal_key_id(const uint8_t public_key[SEAL_KEY_SIZE],
                 uint8_t id[SEAL_ID_SIZE])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t length = 0;

    if (EVP_Q_digest(NULL, "SHA256", NULL, public_key, SEAL_KEY_SIZE, digest,
                     &length) != 1 ||
        length < SEAL_ID_SIZE)
        abort();
    memcpy(id, digest, SEAL_ID_SIZE);
}

bool seal_wrapped_to(const struct seal *seal, uint8_t id[SEAL_ID_SIZE])
{
    memcpy(id, seal->wrapped_key + 1, SEAL_ID_SIZE);
    return seal->wrapped_key[0] == VERSION;
}

int seal_rewrap(const struct secret *private_key,
                const uint8_t public_key[SEAL_KEY_SIZE], const char *address,
                struct seal *seal, struct err *err)
{
    uint8_t data_key[SEAL_KEY_SIZE];
    uint8_t wrapped[SEAL_WRAPPED_SIZE];
    int result = unwrap(private_key, address, seal->wrapped_key, data_key);

    if (result == 0)
        result = wrap(public_key, address, data_key, wrapped);
    OPENSSL_cleanse(data_key, sizeof(data_key));
    if (result == -1)
        return err_set(err, ERR_SETUP, "%s: the seal cannot be wrapped anew",
                       address);
    memcpy(seal->wrapped_key, wrapped, sizeof(wrapped));
    return 0;
}

int seal_open(const struct secret *private_key, const char *address,
              const struct seal *seal, struct secret *password_out,
              struct err *err)
{
    uint8_t data_key[SEAL_KEY_SIZE];
    uint8_t plain[SEAL_SECRET_MAX];
    uint8_t blob[SEAL_BLOB_MAX];
    struct gcm g = {.key = data_key,
                    .address = address,
                    .sealed = blob + 1,
                    .plain = plain};
    int result = -1;

    secret_wipe(password_out);
    if (seal->blob_length > CIPHER_EXTRA &&
        seal->blob_length <= SEAL_BLOB_MAX && seal->blob[0] == BLOB_VERSION) {
        memcpy(blob, seal->blob, seal->blob_length);
        g.plain_length = seal->blob_length - CIPHER_EXTRA;
        result = unwrap(private_key, address, seal->wrapped_key, data_key);
    }
    if (result == 0)
        result = gcm_open(&g);
    if (result == 0)
        secret_set(password_out, plain, g.plain_length);
    OPENSSL_cleanse(data_key, sizeof(data_key));
    OPENSSL_cleanse(plain, sizeof(plain));
    if (result == -1)
        return err_set(err, ERR_SETUP,
                       "%s: the sealed password does not open with this key",
                       address);
    return 0;
}

void seal_fingerprint(const uint8_t key[SEAL_KEY_SIZE], const char *address,
                      const struct secret *password,
                      uint8_t print[SEAL_PRINT_SIZE])
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *c = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    size_t length = 0;

    /* the address goes in with its NUL: "a" + "bc" is not "ab" + "c" */
    if (c == NULL || EVP_MAC_init(c, key, SEAL_KEY_SIZE, params) != 1 ||
        EVP_MAC_update(c, (const uint8_t *)address, strlen(address) + 1) != 1 ||
        EVP_MAC_update(c, (const uint8_t *)password->bytes, password->length) !=
            1 ||
        EVP_MAC_final(c, print, &length, SEAL_PRINT_SIZE) != 1 ||
        length != SEAL_PRINT_SIZE)
        abort();
    EVP_MAC_CTX_free(c);
    EVP_MAC_free(mac);
}

void seal_random(void *bytes, size_t length)
{
    if (RAND_bytes(bytes, (int)length) != 1)
        abort(); /* nothing is safe without chance */
}
