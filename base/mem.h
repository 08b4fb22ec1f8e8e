/*
 * Memory that is there: these end the process when there is none.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size); /* zeroed */
void *mem_grow(void *old, size_t size);
void *mem_dup(const void *bytes, size_t length);
char *mem_dup_text(const char *text); /* NULL gives NULL */

#endif
