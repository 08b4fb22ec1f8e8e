#include "db/control.h"

#include <stdio.h>
#include <string.h>

#define SQLITE_PREFIX "sqlite:"

/* db/schema.sql as it stands, terminated, so that the text is written once. The
   assembler finds it by -I. from the root of the source. */
__asm__(".pushsection .rodata\n"
        ".hidden control_schema\n"
        ".global control_schema\n"
        "control_schema:\n"
        ".incbin \"db/schema.sql\"\n"
        ".byte 0\n"
        ".popsection\n");
extern const char control_schema[];

/* scripts[i] takes version i to i + 1 */
static const char *const scripts[] = {control_schema};

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
