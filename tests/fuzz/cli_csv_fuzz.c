/* Lists of accounts, in both encodings. */
#include "cli/csv.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int encoding = CSV_UTF8; encoding <= CSV_WINDOWS_1252; encoding++) {
        json_t *entries = json_array(), *problems = json_array(), *entry;
        struct err err;
        size_t i;

        if (csv_accounts((const char *)data, size, (enum csv_encoding)encoding,
                         entries, problems, &err) == 0) {
            json_array_foreach(entries, i, entry)
            {
                MUST(json_is_string(json_object_get(entry, "address")));
                MUST(json_is_integer(json_object_get(entry, "line")));
            }
        }
        json_decref(entries);
        json_decref(problems);
    }
    return 0;
}
