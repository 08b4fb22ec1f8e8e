/*
 * Runs a command and writes what it took to a file: wall seconds, CPU seconds,
 * peak kB, exit status. A large parent would leave its own peak in the child's
 * (the kernel keeps it over exec), hence this small one.
 *
 *   measure RESULT COMMAND [ARGUMENT...]
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    struct timespec began, ended;
    struct rusage usage;
    int status;

    if (argc < 3)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t pid = fork();

    if (pid == -1)
        return 2;
    if (pid == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) == -1)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &ended);

    FILE *result = fopen(argv[1], "w");

    if (result == NULL)
        return 2;
    fprintf(result, "%.6f %.6f %ld %d\n",
            (double)(ended.tv_sec - began.tv_sec) +
                (double)(ended.tv_nsec - began.tv_nsec) / 1e9,
            seconds(&usage.ru_utime) + seconds(&usage.ru_stime),
            usage.ru_maxrss,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return fclose(result) == 0 ? 0 : 2;
}
