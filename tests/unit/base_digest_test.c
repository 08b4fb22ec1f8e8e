#include "base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_the_value_is_sha_256_over_any_split(void **state)
{
    struct digest *d = digest_new();
    uint8_t value[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    (void)state;
    for (int round = 0; round < 2; round++) {
        digest_add(d, "a", 1);
        digest_add(d, "", 0);
        digest_add(d, "bc", 2);
        digest_take(d, value);
        assert_string_equal(digest_hex(value, hex),
                            "ba7816bf8f01cfea414140de5dae2223"
                            "b00361a396177a9cb410ff61f20015ad");
    }
    digest_free(&d);
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_value_is_sha_256_over_any_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
