/*
 * A control db in a folder of its own, for the tests of the tables.
 */
#ifndef TESTS_DB_FIXTURE_H
#define TESTS_DB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/accounts.h"
#include "db/control.h"
#include "db/domains.h"
#include "tests/unit/run_program.h"

static char folder[64];
static struct db *db;

static void remove_tree(const char *path)
{
    const char *const argv[] = {"/bin/rm", "-rf", path, NULL};

    assert_int_equal(run_program(argv), 0);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/mailhaul-db-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static inline int open_control(void **state)
{
    struct err err;

    if (make_folder(state) == -1)
        return -1;
    if (control_open("sqlite:control.db", folder, true, &db, &err) == -1) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static inline int close_control(void **state)
{
    (void)state;
    db_close(&db);
    remove_tree(folder);
    return 0;
}

static inline int64_t add_domain(const char *name)
{
    struct domain d = {.is_enabled = true,
                       .imap_url = "imap://legacy.example.net",
                       .username_template = "{address}",
                       .hold_seconds = 20};

    snprintf(d.name, sizeof(d.name), "%s", name);
    assert_int_equal(domain_insert(db, &d, NULL), 0);
    return d.id;
}

static inline int64_t add_account(int64_t domain_id, const char *address)
{
    struct account a = {.domain_id = domain_id, .copy = COPY_INITIAL};

    snprintf(a.address, sizeof(a.address), "%s", address);
    snprintf(a.legacy_user, sizeof(a.legacy_user), "%s", address);
    assert_int_equal(account_insert(db, &a, NULL), 1);
    return a.id;
}

#endif
