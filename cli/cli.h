/*
 * mailhaul: what its subcommands share. Each is a line of the table in main.c:
 * its options become fields of the request, its function asks and prints.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "account/keyring.h"
#include "account/seal.h"
#include "base/conf.h"
#include "base/err.h"
#include "db/db.h"

struct cli {
    const char *conf_path;
    uid_t caller; /* who called, also after cli_become_user() */
    bool is_json;
    struct conf *conf; /* owned */
    int fd;            /* to state; -1: not connected */
    bool is_direct;    /* no daemon runs: we have opened the db ourselves */
    struct db *db;     /* owned */
};

enum { CLI_GOOD = 0, CLI_BAD = 1, CLI_USAGE = 2 };

/* --- control.c */
/* Ask state, or run the command here if no daemon runs. 0 with a new reference
   in *result_out; or -1 with what the other side said. */
int cli_call(struct cli *cli, const json_t *request, json_t **result_out,
             struct err *err);
/* The same, and what is wrong is printed; NULL then. */
json_t *cli_ask(struct cli *cli, const json_t *request);
/* Ask, and print the result as JSON or by print(). An exit status. */
int cli_ask_and_print(struct cli *cli, const json_t *request,
                      void (*print)(const json_t *result));
/* False if it cannot be read. */
bool cli_read_public_key(const struct conf *conf, uint8_t key[SEAL_KEY_SIZE]);
void cli_close(struct cli *cli);
/* Become the user that owns the database, for good; nothing if we may not. */
int cli_become_user(const struct conf *conf, struct err *err);

/* --- pages.c */
/* Ask a command that goes page by page ("next" in its answer), as often as it
   takes; fn is lent each page, without "next" and "total". Changes request.
   CLI_BAD after a complaint. */
typedef void cli_page_fn(void *ctx, json_t *page);
int cli_each_page(struct cli *cli, json_t *request, cli_page_fn *fn, void *ctx);
/* All pages as one document; NULL after a complaint. Shows how far it is on a
   terminal. */
json_t *cli_ask_pages(struct cli *cli, json_t *request);

/* --- secret.c */
/* Read a secret (path: a file's first line, "-": standard input's, NULL: typed
   twice), seal it for that name and put it into the object as "key", "blob". */
int cli_seal_secret(const struct cli *cli, const char *path, const char *name,
                    json_t *object, struct err *err);

/* --- key.c */
/* Write the public half of the newest key to where commands and roles find it:
   state_dir/seal.pub. */
int cli_publish_key(const struct conf *conf, const struct keyring *ring,
                    struct err *err);
/* See to it that the key of that id goes: if it is the newest, there is a new
   one, and the daemon, if one runs, has taken it; it wraps every seal anew and
   then drops the others. *is_going_out: it is still there, but not for long. */
int cli_retire_key(struct cli *cli, const char *id, bool *is_going_out,
                   struct err *err);

/* --- print.c */
/* What is wrong: to stderr, or as the document {"error", "kind"}. Returns
   CLI_BAD. */
int cli_complain(const struct cli *cli, const struct err *err);
/* The one document of --json. */
void cli_print_json(const json_t *document);

/* What is not text in the document's texts, as \\xNN: names of folders and what
   servers say are strangers' words, and a terminal obeys some of them. */
void cli_make_plain(json_t *document);

const char *cli_text(const json_t *object, const char *field);
/* "1.2 GB". The text lives until the fourth next call. */
const char *cli_bytes(json_int_t bytes);
/* "3 min 20 s"; "-" for less than 0. As above. */
const char *cli_duration(double seconds);
/* "2026-03-01 12:00:00" for Unix milliseconds, "-" for none. As above. */
const char *cli_time(json_int_t unix_ms);
/* "2026-03-01", "2026-03-01 12:00[:30]" (local time), "90s", "30m", "2h", "7d"
   ago, or Unix milliseconds; -1 if it is none of them. */
json_int_t cli_time_parse(const char *text);
/* A line for each of the holder's "freezes"; how many. */
int cli_print_freezes(const json_t *holder);
/* "[#####.....]" of that width, for a share of 0 to 1. As above. */
const char *cli_bar(double share, int width);

/* --- the subcommands; request holds cmd and the arguments */
typedef int cli_run_fn(struct cli *cli, json_t *request);
cli_run_fn cli_key_show, cli_key_rotate;
cli_run_fn cli_freeze, cli_thaw, cli_domain_admit;
cli_run_fn cli_domain_close, cli_domain_reopen, cli_domain_strangers;
cli_run_fn cli_init, cli_domain_add, cli_domain_set, cli_domain_list,
    cli_domain_show, cli_remove, cli_account_list, cli_account_show,
    cli_account_accept, cli_migrate, cli_status, cli_cutover, cli_verify,
    cli_audit, cli_trace;
cli_run_fn cli_account_password, cli_account_lock;
cli_run_fn cli_account_rename;
cli_run_fn cli_account_import, cli_rollback, cli_name_add, cli_name_list;
cli_run_fn cli_db_check, cli_db_backup, cli_db_rebuild;

#endif
