/*
 * Paths in the file system.
 */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include "base/err.h"

/* Make the folder and every folder above it that is missing, mode 0700. Kind
   of the error by errno: a full disk is ERR_RETRY, the rest ERR_SETUP. */
int path_make(const char *path, struct err *err);

#endif
