/*
 * The control db as a whole: domains, accounts, jobs, audit in one file. Opened
 * by the state process, and by the CLI only while no daemon runs.
 */
#ifndef DB_CONTROL_H
#define DB_CONTROL_H

#include "db/db.h"

/* database: "sqlite:NAME" as in the configuration; state_dir for relative
   names. create: make it if missing (mailhaul init). A database written by a
   newer mailhaul is refused. Takes an exclusive lock on "NAME.lock" for the
   life of *db_out, so that there is one opener; ERR_RETRY if it is taken. */
int control_open(const char *database, const char *state_dir, bool create,
                 struct db **db_out, struct err *err);

/* The file's own path. */
int control_path(const char *database, const char *state_dir, char *out,
                 size_t size, struct err *err);
/* Beside a daemon that runs: nothing can be written. */
int control_open_reader(const char *path, struct db **db_out, struct err *err);

#endif
