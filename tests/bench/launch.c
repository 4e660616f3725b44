/*
 * launch COMMAND [ARG...]
 *
 * Runs COMMAND with nothing on standard output, and prints what it took: nanoseconds from fork to end, microseconds of
 * processor time, and the most memory that it had, in KiB.  A small program's child starts small: one of Python's would
 * be charged with the memory of the Python that it was forked from.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        errx(2, "usage: launch COMMAND [ARG...]");
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nothing < 0)
        err(1, "/dev/null");
    long long start = now();
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        dup2(nothing, 1);
        execvp(argv[1], argv + 1);
        err(127, "%s", argv[1]);
    }
    int status;
    struct rusage used;
    if (wait4(child, &status, 0, &used) < 0)
        err(1, "wait4");
    long long end = now();
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        errx(1, "%s ended with status %#x", argv[1], status);
    long long cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    printf("%lld %lld %ld\n", end - start, cpu, used.ru_maxrss);
}
