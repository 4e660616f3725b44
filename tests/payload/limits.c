/*
 * limits [PROGRAM [ARG...]]
 *
 * Prints every sysctl that ipcwarden governs, as this process's IPC namespace has it, one `name value` a line; then
 * becomes PROGRAM, if there is one.  Meant to be a container's first process: what it prints is what was in force
 * before the container could do anything.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
    "kernel.msgmax",         "kernel.msgmnb",       "kernel.msgmni",
    "kernel.sem",            "kernel.shmall",       "kernel.shmmax",
    "kernel.shmmni",         "kernel.shm_rmid_forced", "fs.mqueue.msg_default",
    "fs.mqueue.msg_max",     "fs.mqueue.msgsize_default", "fs.mqueue.msgsize_max",
    "fs.mqueue.queues_max",
};

static int print(const char *name)
{
    char path[128];
    char value[128];

    snprintf(path, sizeof path, "/proc/sys/%s", name);
    for (char *c = path + strlen("/proc/sys/"); *c; c++)
        if (*c == '.')
            *c = '/';

    FILE *file = fopen(path, "r");
    if (!file || !fgets(value, sizeof value, file)) {
        fprintf(stderr, "limits: cannot read %s: %s\n", path, strerror(errno));
        return -1;
    }
    fclose(file);

    for (char *c = value; *c; c++) /* kernel.sem is four numbers with tabs between */
        if (*c == '\t')
            *c = ' ';
    printf("%s %s", name, value);
    return 0;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (print(names[i]) < 0)
            return 1;
    fflush(stdout);

    if (argc > 1) {
        execv(argv[1], argv + 1);
        fprintf(stderr, "limits: cannot run %s: %s\n", argv[1], strerror(errno));
        return 127;
    }
    return 0;
}
