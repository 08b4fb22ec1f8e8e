/*
 * A program that a test needs run to its end.
 */
#ifndef TESTS_RUN_PROGRAM_H
#define TESTS_RUN_PROGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its exit status; -1 if it has none. Silent unless it fails. */
static inline int run_program(const char *const *argv)
{
    FILE *said = tmpfile();
    char line[256];
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        dup2(fileno(said), STDOUT_FILENO);
        dup2(fileno(said), STDERR_FILENO);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid == -1 || waitpid(pid, &status, 0) == -1 || !WIFEXITED(status))
        status = -1;
    else
        status = WEXITSTATUS(status);
    rewind(said);
    while (status != 0 && fgets(line, sizeof line, said) != NULL)
        fputs(line, stderr);
    fclose(said);
    return status;
}

#endif
