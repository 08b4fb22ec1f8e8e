#include "db/control.h"

#include <stdio.h>
#include <string.h>

#define SQLITE_PREFIX "sqlite:"

/* A file as it stands, terminated, so that its text is written once. The
   assembler finds it by -I. from the root of the source. */
#define TEXT_OF_FILE(name, path)                                               \
    __asm__(".pushsection .rodata\n"                                           \
            ".hidden " #name "\n"                                              \
            ".global " #name "\n" #name ":\n"                                  \
            ".incbin \"" path "\"\n"                                           \
            ".byte 0\n"                                                        \
            ".popsection\n");                                                  \
    extern const char name[]

TEXT_OF_FILE(control_schema, "db/schema.sql");
TEXT_OF_FILE(control_upgrade_2, "db/upgrade_2.sql");

/* scripts[i] takes version i to i + 1 */
static const char *const scripts[] = {control_schema, control_upgrade_2};

int control_open(const char *database, const char *state_dir, bool create,
                 struct db **db_out, struct err *err)
{
    const struct db_options options = {.sync = DB_SYNC_FULL,
                                       .create = create,
                                       .is_alone = true,
                                       .scripts = scripts,
                                       .script_count = sizeof(scripts) /
                                                       sizeof(scripts[0])};
    const char *name = database + strlen(SQLITE_PREFIX);
    char path[4096];
    int length;

    if (strncmp(database, SQLITE_PREFIX, strlen(SQLITE_PREFIX)) != 0 ||
        name[0] == '\0')
        return err_set(err, ERR_SETUP,
                       "database \"%s\": only sqlite:NAME is known", database);
    length =
        snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : state_dir,
                 name[0] == '/' ? "" : "/", name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return err_set(err, ERR_SETUP, "database %s: name is too long", name);
    return db_open(path, &options, db_out, err);
}
