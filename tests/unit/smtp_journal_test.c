#include "smtp-proxy/journal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/smtp_journal_XXXXXX";
static char path[64];
static int64_t now_s = 1700000000;

static int64_t fake_clock(void)
{
    return now_s;
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/journal", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static struct journal *open_journal(void)
{
    struct err err;
    struct journal *j = journal_open(path, fake_clock, &err);

    assert_non_null(j);
    return j;
}

static struct journal_message message(uint8_t number, const char *sender)
{
    struct journal_message m = {.sender = sender};

    memset(m.digest, number, sizeof(m.digest));
    return m;
}

static const char *const two[] = {"ann@a.example", "\"b o b\"@a.example"};

static void take_two(struct journal *j, uint8_t number)
{
    struct journal_message m = message(number, "s@x.example");
    struct err err;

    assert_int_equal(journal_dot(j, &m, &err), 0);
    assert_int_equal(journal_taken(j, &m, two, 2, &err), 0);
}

static void test_what_was_taken_is_known_until_it_is_told(void **state)
{
    struct journal *j = open_journal();
    struct journal_message m = message(1, "s@x.example");
    struct journal_message other = message(2, "s@x.example");
    struct err err;

    (void)state;
    assert_false(journal_suspects(j, "s@x.example", two[0]));
    take_two(j, 1);
    assert_true(journal_suspects(j, "s@x.example", two[0]));
    assert_false(journal_suspects(j, "", two[0]));
    assert_true(journal_was_taken(j, &m, two[0]));
    assert_true(journal_was_taken(j, &m, two[1]));
    assert_false(journal_was_taken(j, &other, two[0]));
    assert_false(journal_was_taken(j, &m, "eve@a.example"));
    assert_int_equal(journal_told(j, &m, two, 1, &err), 0);
    assert_false(journal_suspects(j, "s@x.example", two[0]));
    assert_true(journal_was_taken(j, &m, two[1]));
    journal_close(&j);
}

static void test_it_survives_the_process(void **state)
{
    struct journal *j = open_journal();
    struct journal_message m = message(1, "s@x.example");

    (void)state;
    take_two(j, 1);
    journal_close(&j);
    for (int i = 0; i < 3; i++) {
        j = open_journal();
        assert_int_equal(journal_open_count(j), 2);
        assert_true(journal_was_taken(j, &m, two[1]));
        journal_close(&j);
    }
}

static void test_a_dot_without_a_verdict_decides_nothing(void **state)
{
    struct journal *j = open_journal();
    struct journal_message m = message(1, "");
    struct err err;

    (void)state;
    assert_int_equal(journal_dot(j, &m, &err), 0);
    journal_close(&j);
    j = open_journal();
    assert_int_equal(journal_open_count(j), 0);
    assert_false(journal_suspects(j, "", "-"));
    journal_close(&j);
}

/* Another process: a dot, then a verdict, each when a byte comes, then its end.
 */
static void play_other(int from, int to, const struct journal_message *m)
{
    static const char *const nobody[] = {"a@b"};
    struct journal *j = open_journal();
    struct err err;
    char byte;

    journal_dot(j, m, &err);
    (void)!write(to, "x", 1);
    (void)!read(from, &byte, 1);
    if (byte == 't') {
        journal_taken(j, m, nobody, 1, &err);
        (void)!write(to, "x", 1);
        (void)!read(from, &byte, 1);
    }
    _exit(0);
}

static void check_other(char command, bool is_alive)
{
    struct journal_message m = message(7, "x@y");
    struct journal_message different = message(8, "x@y");
    struct journal *j = open_journal();
    int down[2], up[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    pid = fork();
    if (pid == 0)
        play_other(down[0], up[1], &m);
    assert_int_equal(read(up[0], &byte, 1), 1);
    assert_true(journal_is_under_way(j, &m));
    assert_false(journal_is_under_way(j, &different));
    assert_int_equal(write(down[1], &command, 1), 1);
    if (is_alive)
        assert_int_equal(read(up[0], &byte, 1), 1);
    else
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(journal_is_under_way(j, &m));
    assert_int_equal(journal_was_taken(j, &m, "a@b"), is_alive);
    if (is_alive) {
        assert_int_equal(write(down[1], "q", 1), 1);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    for (int i = 0; i < 2; i++) {
        close(down[i]);
        close(up[i]);
    }
    journal_close(&j);
}

static void test_anothers_dot_counts_until_its_verdict(void **state)
{
    (void)state;
    check_other('t', true);
}

static void test_the_dot_of_a_dead_process_does_not_count(void **state)
{
    (void)state;
    check_other('q', false);
}

static void test_entries_are_forgotten_after_two_days(void **state)
{
    struct journal *j = open_journal();
    struct stat before;
    struct stat after;

    (void)state;
    take_two(j, 1);
    now_s += JOURNAL_OPEN_SECONDS;
    assert_true(journal_suspects(j, "s@x.example", two[0]));
    now_s++;
    assert_false(journal_suspects(j, "s@x.example", two[0]));
    stat(path, &before);
    journal_close(&j);
    j = open_journal();
    stat(path, &after);
    assert_true(before.st_size > 0 && after.st_size == 0);
    journal_close(&j);
}

static void write_file(const char *bytes, size_t length)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fwrite(bytes, 1, length, file);
    fclose(file);
}

/* Cut the file at every length: never an error, and nothing but whole records
   counts. Then what is appended behind the torn one counts again. */
static void test_a_torn_last_record_is_tolerated(void **state)
{
    struct journal *j = open_journal();
    char bytes[1024];
    size_t size;
    size_t first;
    FILE *file;

    (void)state;
    take_two(j, 1);
    journal_close(&j);
    j = open_journal(); /* compacted: two lines */
    journal_close(&j);
    file = fopen(path, "r");
    size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    first = (size_t)((char *)memchr(bytes, '\n', size) - bytes) + 1;
    for (size_t length = 0; length <= size; length++) {
        size_t records = length == size ? 2 : length >= first ? 1 : 0;

        write_file(bytes, length);
        j = open_journal();
        assert_int_equal(journal_open_count(j), records);
        take_two(j, 1);
        journal_close(&j);
        j = open_journal();
        assert_int_equal(journal_open_count(j), 2);
        journal_close(&j);
    }
}

static void test_a_torn_record_beside_another_process_is_ended(void **state)
{
    struct journal *old = open_journal();
    struct journal *j;
    int fd;

    (void)state;
    take_two(old, 1);
    fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "taken 17000", 11), 11);
    close(fd);
    j = open_journal();
    take_two(j, 2);
    assert_int_equal(journal_open_count(old), 0);
    assert_true(journal_suspects(old, "s@x.example", two[0]));
    assert_int_equal(journal_open_count(old), 4);
    journal_close(&old);
    journal_close(&j);
}

static void test_a_record_with_a_wrong_checksum_is_skipped(void **state)
{
    struct journal *j = open_journal();
    FILE *file;

    (void)state;
    take_two(j, 1);
    journal_close(&j);
    file = fopen(path, "r+");
    fseek(file, 20, SEEK_SET); /* inside the dot's record: harmless */
    fputc('#', file);
    fseek(file, -60, SEEK_END); /* inside the last taken */
    fputc('#', file);
    fclose(file);
    j = open_journal();
    assert_int_equal(journal_open_count(j), 1);
    journal_close(&j);
}

static void test_two_processes_read_each_other(void **state)
{
    struct journal *a = open_journal();
    struct journal *b = open_journal();
    struct journal_message m = message(1, "s@x.example");
    struct err err;

    (void)state;
    take_two(a, 1);
    assert_true(journal_was_taken(b, &m, two[0]));
    assert_int_equal(journal_told(b, &m, two, 2, &err), 0);
    assert_false(journal_suspects(a, "s@x.example", two[1]));
    journal_close(&a);
    journal_close(&b);
}

static void test_a_file_that_cannot_be_made_is_a_setup_error(void **state)
{
    struct err err;

    (void)state;
    assert_null(journal_open("/nonexistent/journal", NULL, &err));
    assert_int_equal(err.kind, ERR_SETUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_what_was_taken_is_known_until_it_is_told,
                                  remove_file),
        cmocka_unit_test_teardown(test_it_survives_the_process, remove_file),
        cmocka_unit_test_teardown(test_a_dot_without_a_verdict_decides_nothing,
                                  remove_file),
        cmocka_unit_test_teardown(test_anothers_dot_counts_until_its_verdict,
                                  remove_file),
        cmocka_unit_test_teardown(test_the_dot_of_a_dead_process_does_not_count,
                                  remove_file),
        cmocka_unit_test_teardown(test_entries_are_forgotten_after_two_days,
                                  remove_file),
        cmocka_unit_test_teardown(test_a_torn_last_record_is_tolerated,
                                  remove_file),
        cmocka_unit_test_teardown(
            test_a_torn_record_beside_another_process_is_ended, remove_file),
        cmocka_unit_test_teardown(
            test_a_record_with_a_wrong_checksum_is_skipped, remove_file),
        cmocka_unit_test_teardown(test_two_processes_read_each_other,
                                  remove_file),
        cmocka_unit_test(test_a_file_that_cannot_be_made_is_a_setup_error),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
