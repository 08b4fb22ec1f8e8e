/* Names of folders as an old server lists them: whatever they are, what becomes
   of them is one directory below the Maildir. */
#include "migrator/folder_name.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const prefixes[] = {"", "INBOX.", "Mail/"};
    static const char separators[] = {'/', '.', '\\', '\0'};
    char *text, out[FOLDER_DIRECTORY_SIZE], shown[256];
    char separator;
    const char *prefix;
    struct err err;

    if (size < 2)
        return 0;
    separator = separators[data[0] % 4];
    prefix = prefixes[data[1] % 3];
    text = fuzz_text(data + 2, size - 2);
    if (folder_directory(text, separator, prefix, out, &err) == 0) {
        MUST(strlen(out) < FOLDER_DIRECTORY_SIZE);
        MUST(strchr(out, '/') == NULL);
        MUST(out[0] == '\0' || (out[0] == '.' && out[1] != '\0'));
        MUST(strstr(out, "..") == NULL);
    }
    if (folder_subscription(text, separator, prefix, out, &err) == 0)
        MUST(strpbrk(out, "\r\n") == NULL);
    folder_shown(text, shown, sizeof(shown));
    MUST(strlen(shown) < sizeof(shown));
    folder_path(text, separator, prefix, shown, 8);
    MUST(strlen(shown) < 8);
    folder_hash(text);
    free(text);
    return 0;
}
