/*
 * The version that the programs tell of themselves.
 */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define MAILHAUL_VERSION "0.1"

#endif
