/*
 * The folders of legacy that are copied: all that it lists but those that the
 * domain leaves there.
 */
#ifndef MIGRATOR_FOLDER_CHOICE_H
#define MIGRATOR_FOLDER_CHOICE_H

#include "migrator/job.h"
#include "migrator/source.h"

/* source_list() without them. */
int folder_choice_list(const struct migration_job *job, struct source *source,
                       struct source_folder_list *out, struct err *err);

#endif
