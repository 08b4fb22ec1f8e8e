#include "base/log_keep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/run_program.h"

static char folder[64];

static int start(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/mailhaul-keep-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int stop(void **state)
{
    const char *const argv[] = {"/bin/rm", "-rf", folder, NULL};

    (void)state;
    return run_program(argv);
}

static const char *path_of(time_t at)
{
    static char path[128];
    char name[LOG_KEEP_NAME_MAX];

    log_keep_name(at, name);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void make(time_t at, size_t bytes)
{
    int fd = open(path_of(at), O_WRONLY | O_CREAT, 0600);

    assert_true(fd != -1 && ftruncate(fd, (off_t)bytes) == 0);
    close(fd);
}

static bool is_there(time_t at)
{
    return access(path_of(at), F_OK) == 0;
}

static void test_a_name_goes_there_and_back(void **state)
{
    char name[LOG_KEEP_NAME_MAX];
    time_t hour = 1772366400;

    (void)state;
    log_keep_name(hour + 1800, name);
    assert_string_equal(name, "2026-03-01T12.log");
    assert_int_equal(log_keep_hour(name), hour);
    assert_int_equal(log_keep_hour("2026-03-01T12.log.gz"), -1);
    assert_int_equal(log_keep_hour("core"), -1);
}

static void test_old_files_go(void **state)
{
    time_t now = time(NULL);

    (void)state;
    make(now, 10);
    make(now - 86400, 10);
    make(now - 3 * 86400, 10);
    log_keep_prune(folder, 2, 1000);
    assert_true(is_there(now) && is_there(now - 86400));
    assert_false(is_there(now - 3 * 86400));
}

static void test_the_oldest_go_while_there_is_too_much(void **state)
{
    time_t now = time(NULL);

    (void)state;
    make(now, 10);
    make(now - 3600, 600);
    make(now - 7200, 600);
    log_keep_prune(folder, 7, 1000);
    assert_true(is_there(now) && is_there(now - 3600));
    assert_false(is_there(now - 7200));
}

static void test_lines_are_kept_whatever_the_level(void **state)
{
    char bytes[4096] = "";
    struct err err;
    int fd;

    (void)state;
    assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR, "test", &err), 0);
    log_keep(folder);
    log_info("one a=%d", 1);
    log_debug("two");
    unlink(path_of(time(NULL))); /* too much: it begins anew within a while */
    for (int i = 0; i < 300; i++)
        log_info("three");
    fd = open(path_of(time(NULL)), O_RDONLY);
    assert_true(fd != -1);
    assert_true(read(fd, bytes, sizeof(bytes) - 1) > 0);
    close(fd);
    assert_non_null(strstr(bytes, " info three\n"));
    assert_null(strstr(bytes, "one"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_name_goes_there_and_back),
        TEST(test_old_files_go),
        TEST(test_the_oldest_go_while_there_is_too_much),
        TEST(test_lines_are_kept_whatever_the_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
