#include "base/child.h"

#include "tests/unit/base_loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* Everything the child sends until it ends. */
static void read_all(int fd, char *text, size_t size)
{
    size_t used = 0;
    ssize_t n;

    while (used < size - 1 && (n = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
}

static void spawn_shell(const char *script, struct child_options *options,
                        char *text, size_t size)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct err err = {0};
    int fd, status;
    pid_t pid;

    options->argv = argv;
    if (child_spawn(options, &pid, &fd, &err) == -1)
        fail_msg("%s", err.text);
    read_all(fd, text, size);
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_it_speaks_on_its_channel(void **state)
{
    struct child_options options = {0};
    char text[200];

    (void)state;
    spawn_shell("echo hello >&3", &options, text, sizeof text);
    assert_string_equal(text, "hello\n");
}

static void
test_what_it_prints_and_its_environment_are_ours_to_say(void **state)
{
    const char *const environment[] = {"WORD=said", NULL};
    struct child_options options = {
        .environment = environment, .speaks_to_us = true, .has_group = true};
    char text[300];

    (void)state;
    setenv("NOT_FOR_IT", "secret", 1);
    spawn_shell("echo $WORD $NOT_FOR_IT; echo too >&2; "
                "[ -e /proc/$$/fd/3 ] && echo has 3; "
                "set -- $(cat /proc/$$/stat); [ $5 = $$ ] && echo leads",
                &options, text, sizeof text);
    assert_string_equal(text, "said\ntoo\nleads\n");
}

static void test_it_has_no_descriptors_but_the_given(void **state)
{
    int leak = open("/dev/null", O_RDONLY), given[2];
    struct child_options options = {.inherit_fds = given, .inherit_count = 2};
    char text[200];

    (void)state;
    given[0] = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    given[1] = open("/etc/hosts", O_RDONLY | O_CLOEXEC);
    dup2(leak, 200);
    spawn_shell("readlink /proc/self/fd/4 /proc/self/fd/5 >&3; "
                "for f in 0 1 2 3 4 5 6 7 8 9 200; do "
                "[ -e /proc/$$/fd/$f ] && echo has $f >&3; done",
                &options, text, sizeof text);
    assert_string_equal(text, "/etc/passwd\n/etc/hosts\nhas 0\nhas 1\n"
                              "has 2\nhas 3\nhas 4\nhas 5\n");
    close(200);
    close(leak);
    close(given[0]);
    close(given[1]);
}

static void test_inherited_descriptors_may_lie_crosswise(void **state)
{
    struct child_options options = {.inherit_count = 2};
    int given[2];
    char text[200];

    (void)state;
    /* the numbers that the child wants for others */
    dup2(open("/etc/hosts", O_RDONLY), 5);
    dup2(open("/etc/passwd", O_RDONLY), 4);
    given[0] = 5;
    given[1] = 4;
    options.inherit_fds = given;
    spawn_shell("readlink /proc/self/fd/4 /proc/self/fd/5 >&3", &options, text,
                sizeof text);
    assert_string_equal(text, "/etc/hosts\n/etc/passwd\n");
    close_range(3, 50, 0);
}

/* A line of /proc/self/status, without the two that are the C library's own:
   make hands them down ignored, and nobody may change them. */
static unsigned long long signals_of(const char *text, const char *name)
{
    const char *line = strstr(text, name);

    assert_non_null(line);
    return strtoull(line + strlen(name), NULL, 16) & ~(3ULL << 31);
}

static void test_user_limits_and_signals_are_set(void **state)
{
    struct child_options options = {
        .change_user = getuid() == 0,
        .uid = 8,
        .gid = 8,
        .limits = {.address_space_bytes = 1u << 30, .file_count = 100}};
    char text[300];

    (void)state;
    signal(SIGTERM, SIG_IGN);
    spawn_shell("id -u >&3; ulimit -n >&3; ulimit -v >&3; "
                "grep -E 'SigIgn|SigBlk|^Groups' /proc/self/status >&3",
                &options, text, sizeof text);
    signal(SIGTERM, SIG_DFL);
    assert_non_null(
        strstr(text, getuid() == 0 ? "8\n100\n1048576\n" : "\n100\n1048576\n"));
    assert_int_equal(signals_of(text, "SigIgn:\t"), 0);
    assert_int_equal(signals_of(text, "SigBlk:\t"), 0);
    if (getuid() == 0)
        assert_null(strstr(text, "Groups:\t0"));
}

static void test_a_missing_program_is_told_at_once(void **state)
{
    const char *argv[] = {"/no/such/program", NULL};
    struct child_options options = {.argv = argv};
    struct err err = {0};
    pid_t pid;
    int fd;

    (void)state;
    assert_int_equal(child_spawn(&options, &pid, &fd, &err), -1);
    assert_int_equal(err.kind, ERR_SETUP);
    assert_non_null(strstr(err.text, "/no/such/program"));
}

static void test_it_dies_with_its_parent(void **state)
{
    const char *argv[] = {"/bin/sleep", "60", NULL};
    struct child_options options = {.argv = argv};
    int pipe_ends[2], fd, i;
    pid_t parent, pid = 0;
    bool is_gone = false;

    (void)state;
    options.change_user = getuid() == 0;
    options.uid = options.gid = 8;
    assert_int_equal(pipe(pipe_ends), 0);
    parent = fork();
    if (parent == 0) {
        struct err err;

        if (child_spawn(&options, &pid, &fd, &err) == -1)
            _exit(1);
        if (write(pipe_ends[1], &pid, sizeof pid) == -1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(pipe_ends[0], &pid, sizeof pid), sizeof pid);
    assert_int_equal(kill(pid, 0), 0);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    for (i = 0; i < 500 && !is_gone; i++) {
        char path[64], text[512] = "";
        FILE *status;

        usleep(10000);
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        status = fopen(path, "r");
        /* a zombie is as dead as one whose entry has gone */
        is_gone = status == NULL ||
                  fread(text, 1, sizeof text - 1, status) == 0 ||
                  strstr(text, ") Z") != NULL;
        if (status != NULL)
            fclose(status);
    }
    assert_true(is_gone);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_speaks_on_its_channel),
        cmocka_unit_test(
            test_what_it_prints_and_its_environment_are_ours_to_say),
        cmocka_unit_test(test_it_has_no_descriptors_but_the_given),
        cmocka_unit_test(test_inherited_descriptors_may_lie_crosswise),
        cmocka_unit_test(test_user_limits_and_signals_are_set),
        cmocka_unit_test(test_a_missing_program_is_told_at_once),
        cmocka_unit_test(test_it_dies_with_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
