/* Addresses of servers: what is taken is the same when it is written and read
   again. */
#include "proto/mail_url.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size), written[320], again[320];
    struct mail_url url, other;
    struct err err;

    if (mail_url_parse(text, &url, &err) == 0) {
        mail_url_format(&url, written);
        MUST(mail_url_parse(written, &other, &err) == 0);
        MUST(strcmp(written, mail_url_format(&other, again)) == 0);
    }
    free(text);
    return 0;
}
