/*
 * What the files of the ledger share; nobody else includes it.
 */
#ifndef DB_LEDGER_PARTS_H
#define DB_LEDGER_PARTS_H

#include "db/db.h"
#include "db/ledger.h"

struct ledger {
    struct db *db;
    int lock; /* of DIR/lock; the kernel frees it whatever becomes of us */
    char *path;
};

#endif
