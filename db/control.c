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
TEXT_OF_FILE(control_upgrade_3, "db/upgrade_3.sql");

/* scripts[i] takes version i to i + 1 */
static const char *const scripts[] = {control_schema, control_upgrade_2,
                                      control_upgrade_3};

int control_path(const char *database, const char *state_dir, char *out,
                 size_t size, struct err *err)
{
    const char *name = database + strlen(SQLITE_PREFIX);
    int length;

    if (strncmp(database, SQLITE_PREFIX, strlen(SQLITE_PREFIX)) != 0 ||
        name[0] == '\0')
        return err_set(err, ERR_SETUP,
                       "database \"%s\": only sqlite:NAME is known", database);
    length = snprintf(out, size, "%s%s%s", name[0] == '/' ? "" : state_dir,
                      name[0] == '/' ? "" : "/", name);
    if (length < 0 || (size_t)length >= size)
        return err_set(err, ERR_SETUP, "database %s: name is too long", name);
    return 0;
}

int control_open(const char *database, const char *state_dir, bool create,
                 struct db **db_out, struct err *err)
{
    const struct db_options options = {.sync = DB_SYNC_FULL,
                                       .create = create,
                                       .is_alone = true,
                                       .scripts = scripts,
                                       .script_count = sizeof(scripts) /
                                                       sizeof(scripts[0])};
    char path[4096];

    *db_out = NULL;
    if (control_path(database, state_dir, path, sizeof(path), err) == -1)
        return -1;
    return db_open(path, &options, db_out, err);
}

int control_open_reader(const char *path, struct db **db_out, struct err *err)
{
    const struct db_options options = {.read_only = true,
                                       .scripts = scripts,
                                       .script_count = sizeof(scripts) /
                                                       sizeof(scripts[0])};

    return db_open(path, &options, db_out, err);
}
