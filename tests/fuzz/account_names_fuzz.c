/* Names as they are typed, and rules on folders. */
#include "account/folder_rules.h"
#include "account/username.h"
#include "tests/fuzz/fuzz.h"

static void name(const char *text, size_t size)
{
    struct username parsed, again;
    char filled[ADDRESS_MAX];
    struct err err;

    if (username_parse(text, size, &parsed, &err) == -1)
        return;
    MUST(username_parse(parsed.address, strlen(parsed.address), &again, &err) ==
         0);
    MUST(strcmp(parsed.address, again.address) == 0);
    MUST(strpbrk(parsed.address, "\r\n") == NULL);
    username_fill("{local}/{domain}", &parsed, filled, sizeof(filled), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size), *folder = strchr(text, '\n');
    struct err err;

    name(text, size);
    if (folder != NULL)
        *folder++ = '\0';
    if (folder_rules_check(text, &err) == 0)
        MUST(!folder_rules_leave_out(text, "INBOX"));
    folder_rules_leave_out(text, folder != NULL ? folder : "");
    free(text);
    return 0;
}
