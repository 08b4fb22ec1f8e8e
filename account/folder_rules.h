/*
 * Which folders of the old server a domain leaves there: "Virtual, *.tmp",
 * patterns set apart by commas. A pattern is a name as clients show it, below
 * the personal namespace, its levels by '/'; '*' stands for any text. What is
 * below a folder that is left out is left out too. INBOX never is. Pure.
 */
#ifndef ACCOUNT_FOLDER_RULES_H
#define ACCOUNT_FOLDER_RULES_H

#include <stdbool.h>

#include "base/err.h"

/* ERR_SETUP: an empty pattern, one that would take INBOX with it, or control
   characters. "" is good: nothing is left out. */
int folder_rules_check(const char *rules, struct err *err);

/* name: UTF-8, levels by '/'. */
bool folder_rules_leave_out(const char *rules, const char *name);

#endif
