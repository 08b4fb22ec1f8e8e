#include "account/master_name.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int master_name_fill(const char *template, const char *user, const char *master,
                     char *out, size_t size, struct err *err)
{
    const struct {
        const char *word, *value;
    } words[] = {{"{user}", user}, {"{master}", master}};
    bool has_user = false;
    size_t used = 0;

    if (template[0] == '\0')
        template = MASTER_NAME_TEMPLATE;
    while (*template != '\0') {
        char one[2] = {*template, '\0'};
        const char *piece = one;
        size_t step = 1;
        int length;

        for (size_t i = 0; *template == '{' && i < 2; i++)
            if (strncmp(template, words[i].word, strlen(words[i].word)) == 0) {
                piece = words[i].value;
                step = strlen(words[i].word);
                has_user = has_user || i == 0;
            }
        if (*template == '{' && step == 1)
            return err_set(err, ERR_SETUP,
                           "an unknown {word}; there are {user}, {master}");
        length = snprintf(out + used, size - used, "%s", piece);
        if (length < 0 || (size_t)length >= size - used)
            return err_set(err, ERR_SETUP, "the master's login is too long");
        used += (size_t)length;
        template += step;
    }
    return has_user ? 0
                    : err_set(err, ERR_SETUP,
                              "{user} is missing: every mailbox would be the "
                              "same one");
}
