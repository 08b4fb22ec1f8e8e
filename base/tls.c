/*
 * TLS contexts, and sessions over non-blocking sockets.
 */
#include "base/tls.h"

#include "base/mem.h"
#include "base/tls_session.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_server {
    SSL_CTX *context;
};

struct tls_client {
    SSL_CTX *context;
};

struct tls_session {
    SSL *ssl;
    bool is_client;
    bool has_failed; /* a fatal error: OpenSSL forbids close_notify then */
};

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);

    return reason != NULL ? reason : "unknown reason";
}

static int minimum_version(const char *minimum)
{
    static const struct {
        const char *name;
        int version;
    } known[] = {
        {"1.0", TLS1_VERSION},
        {"1.1", TLS1_1_VERSION},
        {"1.2", TLS1_2_VERSION},
        {"1.3", TLS1_3_VERSION},
    };
    size_t i;

    if (minimum == NULL || *minimum == '\0')
        return TLS1_2_VERSION;
    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(minimum, known[i].name) == 0)
            return known[i].version;
    return -1;
}

static SSL_CTX *context_new(const SSL_METHOD *method, const char *minimum,
                            struct err *err)
{
    int version = minimum_version(minimum);
    SSL_CTX *context;

    if (version == -1) {
        err_set(err, ERR_SETUP, "no TLS version \"%s\"", minimum);
        return NULL;
    }
    /* the socket BIO writes with write(): a peer that has gone must be an
       error, not a signal */
    signal(SIGPIPE, SIG_IGN);
    ERR_clear_error();
    context = SSL_CTX_new(method);
    if (context == NULL)
        abort();
    SSL_CTX_set_min_proto_version(context, version);
    /* Debian's default security level refuses TLS 1.0 and 1.1 altogether; who
       asks for them by name has a server that knows nothing better */
    if (version < TLS1_2_VERSION)
        SSL_CTX_set_cipher_list(context, "DEFAULT:@SECLEVEL=0");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS |
                                  SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* a missing close_notify is an EOF like any other: the dialogues know by
       themselves whether it came too early */
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF |
                                     SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION);
    return context;
}

static int use_certificate(SSL_CTX *context, const char *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    int result = -1;

    if (x509 == NULL || SSL_CTX_use_certificate(context, x509) != 1) {
        err_set(err, ERR_SETUP, "TLS certificate: %s", openssl_reason());
    } else {
        X509 *above;

        result = 0;
        while ((above = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
            SSL_CTX_add0_chain_cert(context, above);
        ERR_clear_error();
    }
    X509_free(x509);
    BIO_free(bio);
    return result;
}

static int use_key(SSL_CTX *context, const char *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    /* an empty passphrase: never ask a terminal for one */
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"");
    int result = 0;

    if (key == NULL || SSL_CTX_use_PrivateKey(context, key) != 1 ||
        SSL_CTX_check_private_key(context) != 1)
        result = err_set(err, ERR_SETUP, "TLS key: %s", openssl_reason());
    EVP_PKEY_free(key);
    BIO_free(bio);
    return result;
}

struct tls_server *tls_server_new(const char *certificate_pem,
                                  const char *key_pem, const char *minimum,
                                  struct err *err)
{
    SSL_CTX *context = context_new(TLS_server_method(), minimum, err);
    struct tls_server *tls;

    if (context == NULL)
        return NULL;
    if (use_certificate(context, certificate_pem, err) == -1 ||
        use_key(context, key_pem, err) == -1) {
        SSL_CTX_free(context);
        return NULL;
    }
    /* tickets resume a session without memory here */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"mailhaul",
                                   8);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    tls = mem_alloc(sizeof *tls);
    tls->context = context;
    return tls;
}

void tls_server_free(struct tls_server **tls)
{
    if (*tls == NULL)
        return;
    SSL_CTX_free((*tls)->context);
    free(*tls);
    *tls = NULL;
}

/* Certificates in files named by the hashes of their subjects? */
static bool is_hashed(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    bool found = false;

    if (dir == NULL)
        return false;
    while (!found && (entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');

        found = dot != NULL && strcmp(dot, ".0") == 0;
    }
    closedir(dir);
    return found;
}

/* Is the file the directory's own bundle, or not there at all? */
static bool is_bundle_of(const char *file, const char *directory)
{
    char *real_file = realpath(file, NULL);
    char *real_directory = realpath(directory, NULL);
    size_t length = real_directory != NULL ? strlen(real_directory) : 0;
    bool is_inside =
        real_file == NULL ||
        (length > 0 && strncmp(real_file, real_directory, length) == 0 &&
         strrchr(real_file, '/') == real_file + length);

    free(real_file);
    free(real_directory);
    return is_inside;
}

/* Its directory is read as far as it is needed; the bundle is parsed whole, for
   some 35 ms a context: more than a worker spends on a quiet mailbox. */
static int trust_system(SSL_CTX *context)
{
    const char *directory = getenv(X509_get_default_cert_dir_env());
    const char *file = getenv(X509_get_default_cert_file_env());

    if (directory == NULL)
        directory = X509_get_default_cert_dir();
    if (file == NULL)
        file = X509_get_default_cert_file();
    if (is_bundle_of(file, directory) && is_hashed(directory))
        return SSL_CTX_set_default_verify_dir(context);
    return SSL_CTX_set_default_verify_paths(context);
}

struct tls_client *tls_client_new(const char *ca_file, const char *minimum,
                                  struct err *err)
{
    SSL_CTX *context = context_new(TLS_client_method(), minimum, err);
    struct tls_client *tls;

    if (context == NULL)
        return NULL;
    if (trust_system(context) != 1 ||
        (ca_file != NULL && *ca_file != '\0' &&
         SSL_CTX_load_verify_file(context, ca_file) != 1)) {
        err_set(err, ERR_SETUP, "CA file %s: %s",
                ca_file == NULL ? "of the system" : ca_file, openssl_reason());
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    tls = mem_alloc(sizeof *tls);
    tls->context = context;
    return tls;
}

void tls_client_free(struct tls_client **tls)
{
    if (*tls == NULL)
        return;
    SSL_CTX_free((*tls)->context);
    free(*tls);
    *tls = NULL;
}

static struct tls_session *session_new(SSL_CTX *context, int fd)
{
    struct tls_session *session = mem_alloc(sizeof *session);

    ERR_clear_error();
    session->ssl = SSL_new(context);
    if (session->ssl == NULL || SSL_set_fd(session->ssl, fd) != 1)
        abort();
    return session;
}

struct tls_session *tls_session_new_server(struct tls_server *server, int fd,
                                           struct err *err)
{
    struct tls_session *session;

    if (server == NULL) {
        err_set(err, ERR_SETUP, "no TLS certificate is configured");
        return NULL;
    }
    session = session_new(server->context, fd);
    SSL_set_accept_state(session->ssl);
    return session;
}

static bool is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1;
}

static int expect_host(SSL *ssl, const char *host)
{
    if (is_numeric(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 &&
           SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct tls_session *tls_session_new_client(struct tls_client *client,
                                           const char *host, int fd,
                                           struct err *err)
{
    struct tls_session *session;

    if (client == NULL) {
        err_set(err, ERR_SETUP, "TLS to %s: nothing is trusted", host);
        return NULL;
    }
    session = session_new(client->context, fd);
    session->is_client = true;
    SSL_set_connect_state(session->ssl);
    /* an empty name would switch the check off */
    if (*host == '\0' || expect_host(session->ssl, host) != 1) {
        tls_session_free(&session);
        err_set(err, ERR_SETUP, "TLS to \"%s\": not a host name", host);
    }
    return session;
}

void tls_session_free(struct tls_session **session)
{
    if (*session == NULL)
        return;
    SSL_free((*session)->ssl);
    free(*session);
    *session = NULL;
}

static enum tls_progress fail(struct tls_session *session, struct err *err)
{
    long verified = SSL_get_verify_result(session->ssl);

    session->has_failed = true;
    if (session->is_client && verified != X509_V_OK)
        err_set(err, ERR_SETUP, "certificate refused: %s",
                X509_verify_cert_error_string(verified));
    else
        err_set(err, ERR_PEER, "TLS: %s", openssl_reason());
    ERR_clear_error();
    return TLS_PROGRESS_FAILED;
}

/* What the result of an SSL_ call means. */
static enum tls_progress judge(struct tls_session *session, int result,
                               struct err *err)
{
    int saved_errno = errno;

    switch (SSL_get_error(session->ssl, result)) {
    case SSL_ERROR_NONE: return TLS_PROGRESS_DONE;
    case SSL_ERROR_WANT_READ: return TLS_PROGRESS_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return TLS_PROGRESS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return TLS_PROGRESS_EOF;
    case SSL_ERROR_SYSCALL:
        session->has_failed = true;
        ERR_clear_error();
        err_set(err, ERR_RETRY, "%s",
                saved_errno != 0 ? strerror(saved_errno) : "connection lost");
        return TLS_PROGRESS_FAILED;
    default: return fail(session, err);
    }
}

enum tls_progress tls_session_handshake(struct tls_session *session,
                                        struct err *err)
{
    enum tls_progress progress;

    ERR_clear_error();
    errno = 0;
    progress = judge(session, SSL_do_handshake(session->ssl), err);
    if (progress != TLS_PROGRESS_EOF)
        return progress;
    session->has_failed = true;
    err_set(err, ERR_RETRY, "closed by the peer during the TLS handshake");
    return TLS_PROGRESS_FAILED;
}

enum tls_progress tls_session_read(struct tls_session *session, void *bytes,
                                   size_t size, size_t *done_out,
                                   struct err *err)
{
    *done_out = 0;
    ERR_clear_error();
    errno = 0;
    return judge(session, SSL_read_ex(session->ssl, bytes, size, done_out),
                 err);
}

enum tls_progress tls_session_write(struct tls_session *session,
                                    const void *bytes, size_t length,
                                    size_t *done_out, struct err *err)
{
    enum tls_progress progress;

    *done_out = 0;
    ERR_clear_error();
    errno = 0;
    progress = judge(session,
                     SSL_write_ex(session->ssl, bytes, length, done_out), err);
    if (progress != TLS_PROGRESS_EOF)
        return progress;
    err_set(err, ERR_RETRY, "closed by the peer");
    return TLS_PROGRESS_FAILED;
}

enum tls_progress tls_session_close_notify(struct tls_session *session)
{
    int result;

    if (session->has_failed || SSL_in_init(session->ssl))
        return TLS_PROGRESS_DONE;
    ERR_clear_error();
    errno = 0;
    result = SSL_shutdown(session->ssl);
    if (result >= 0) /* 0: the peer's own is still to come */
        return TLS_PROGRESS_DONE;
    return judge(session, result, NULL);
}

bool tls_session_has_pending(const struct tls_session *session)
{
    /* SSL_has_pending() would count half a record, for which one has to wait */
    return SSL_pending(session->ssl) > 0;
}

const char *tls_session_version(const struct tls_session *session)
{
    return SSL_get_version(session->ssl);
}

const char *tls_session_cipher(const struct tls_session *session)
{
    return SSL_get_cipher_name(session->ssl);
}

const char *tls_session_name(const struct tls_session *session)
{
    return SSL_get_servername(session->ssl, TLSEXT_NAMETYPE_host_name);
}
