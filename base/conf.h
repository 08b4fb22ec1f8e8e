/*
 * The configuration file of a node, read by a schema table (libcyaml). Knows
 * the keys and their bounds; what they mean is for the others.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tls.h"

enum conf_protocol {
    CONF_IMAP,
    CONF_POP3,
    CONF_SUBMISSION, /* these two are not served yet */
    CONF_SIEVE,
    CONF_SMTP,
    CONF_LMTP
};

struct conf_listen {
    enum conf_protocol protocol;
    char *address;
    uint16_t port;
    enum tls_mode tls;
    bool plain_auth; /* key "plain_auth": login allowed before TLS */
    char *group;     /* not served yet */
};

struct conf_strings { /* a YAML sequence of strings */
    char **items;
    unsigned count;
};

struct conf {
    char *path;      /* of this file */
    char *node;      /* default: the host's name */
    char *state_dir; /* default /var/lib/mailhaul */
    char *user;      /* NULL: stay who we are */
    char *database;  /* "sqlite:control.db" */
    struct conf_strings roles;
    struct {
        char *level;             /* "info" */
        char *to;                /* "stderr" */
        unsigned keep_days;      /* of what `mailhaul trace` reads: 7 */
        unsigned keep_megabytes; /* 1024 */
    } log;
    struct {
        char *certificate; /* path; NULL: no TLS offered */
        char *key;
        char *minimum; /* "1.2" */
        char *ca_file; /* trusted besides: for legacy and local; NULL: system */
    } tls;
    struct conf_listen *listen;
    unsigned listen_count;
    struct { /* URLs as in proto/mail_url.h; NULL when absent */
        char *imap;
        char *pop3;
        char *submission; /* not served yet, nor is sieve */
        char *sieve;
        char *lmtp;
        char *master_user;          /* may log in as anybody; NULL: none */
        char *master_password_file; /* path; given with it */
    } local;
    struct {
        char *type;  /* "maildir" */
        char *path;  /* template with {domain} {local} {address} */
        char *owner; /* user name; NULL: stay who we are */
        struct {     /* what copying leaves free there for live mail */
            char *bytes, *inodes; /* "10G", "10000" */
            uint64_t bytes_kept, inodes_kept;
        } reserve;
    } store;
    struct {
        char *dovecot; /* auth.db, in state_dir if relative; NULL: none */
        char *group;   /* that may write it, default "dovecot" if it exists */
        struct conf_strings doveadm; /* asks local before a flip */
        struct conf_strings command; /* refused by state so far */
    } provision;
    struct {
        unsigned workers;             /* default 4 */
        unsigned per_host;            /* default 8 */
        unsigned delta_seconds;       /* between deltas before the flip: 300 */
        unsigned trail_inbox_seconds; /* 300 */
        unsigned trail_seconds;       /* 900 */
        unsigned retry_seconds;       /* first back-off after RETRY: 30 */
        unsigned on_flip_seconds;     /* a command may take: 60 */
    } jobs;
    struct {
        unsigned processes;     /* login processes; 0: one a core */
        unsigned hold_quiet_ms; /* default 300 */
        unsigned hold_force_ms; /* default 5000 */
        /* so long a pair that local has accepted is remembered; default 10, 0:
           not at all */
        unsigned remember_minutes;
    } login;
    struct {
        char *key; /* path of the sealing keys, outside of state_dir; NULL:
                      see conf_key_path() */
    } secrets;
    struct {
        char *scheme;  /* "SHA512-CRYPT" (default) or "YESCRYPT", "BCRYPT" */
        unsigned cost; /* rounds or log2 cost; 0: libcrypt's default */
    } hash;
    struct {           /* role admin; port 0: only the socket */
        char *address; /* "127.0.0.1" */
        uint16_t port;
        char *socket; /* in state_dir if relative: "admin.sock" */
    } admin;
};

/* Read and check a file; what is wrong is said with "file:line: ...", kind
   ERR_SETUP. On success *conf_out is for conf_free. */
int conf_load(const char *path, struct conf **conf_out, struct err *err);
void conf_free(struct conf **conf);

/* What is set though nothing serves it yet, in words for the log: keys has room
   for CONF_UNSERVED_MAX. Returns how many. */
#define CONF_UNSERVED_MAX 5
unsigned conf_unserved(const struct conf *conf, const char **keys);

/* What is wrong with a template for mailboxes: a {word} that is none, or two
   users who would share one; NULL for a good one. */
const char *conf_store_fault(const char *path);

/* "10G" as 10737418240: a whole number, and K, M, G or T for powers of 1024.
   False: it is none, or too large. */
bool conf_parse_size(const char *text, uint64_t *out);

/* The file of the sealing keys: secrets.key, or the systemd credential
   "mailhaul.key" where there is one, or /etc/mailhaul/mailhaul.key; heap
   string. */
char *conf_key_path(const struct conf *conf);

/* state_dir joined with a relative path (absolute ones stay); heap string. */
char *conf_state_path(const struct conf *conf, const char *name);

#endif
