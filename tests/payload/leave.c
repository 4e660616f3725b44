/*
 * leave [OPTION]...
 *
 * Makes System V and POSIX IPC objects and leaves them behind.  Prints one line of what it made, `made shm=1 sem=0 ...`;
 * any call that fails ends it with status 1 and a message, so that no test ever takes a failed mq_open for a clean
 * namespace.
 */
#include <ctype.h>
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char usage[] =
    "usage: leave [OPTION]...\n"
    "  --shm N           shared memory segments    --shm-key KEY  --shm-size BYTES (4096)  --shm-touch BYTES (all)\n"
    "  --sem N           semaphore arrays          --sem-key KEY  --sem-size SEMAPHORES (1)\n"
    "                    --sem-op: release the first semaphore of each, so that it tells who did\n"
    "  --msg N           message queues            --msg-key KEY  --msg-size BYTES (16)  --msg-count MESSAGES (1)\n"
    "  --mqueue N        POSIX message queues      --mqueue-name NAME (left) | --mqueue-hex BYTES\n"
    "                    --mqueue-size BYTES (16)  --mqueue-depth MESSAGES (4)  --mqueue-count MESSAGES (1)\n"
    "  --mode OCTAL      permissions of all of them (600)\n"
    "  --attach          stay attached to the segments\n"
    "  --wait            sleep until SIGTERM or SIGINT\n"
    "The first object has the key or name given, the others the next keys (KEY+1...) or longer names (NAME-1...).\n"
    "Without a key it is IPC_PRIVATE.\n";

struct kind {
    unsigned long n, key, size, count;
};

static struct kind shm = {.size = 4096}, sem = {.size = 1}, msg = {.size = 16, .count = 1};
static struct kind mqueue = {.size = 16, .count = 1};
static unsigned long touch = -1UL, depth = 4, mode = 0600;
static int attach, operate, wait_for_signal;
static char name[256] = "left";

static unsigned long number(const char *text, int base)
{
    char *end;
    unsigned long value = strtoul(text, &end, base);
    if (!isdigit((unsigned char)*text) || *end)
        errx(2, "not a number: %s", text);
    return value;
}

static void name_from_hex(const char *hex)
{
    size_t n = strlen(hex) / 2;
    if (strlen(hex) % 2 || n >= sizeof name)
        errx(2, "not the hexadecimal form of a name: %s", hex);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            errx(2, "not the hexadecimal form of a name: %s", hex);
        name[i] = (char)byte;
    }
    name[n] = 0;
}

static void parse(int argc, char **argv)
{
    enum { NAME = 1, HEX, MODE, HELP, NUMBER };
    static struct {
        const char *option;
        unsigned long *value;
    } const numbers[] = {
        {"shm", &shm.n},           {"shm-key", &shm.key},   {"shm-size", &shm.size},         {"shm-touch", &touch},
        {"sem", &sem.n},           {"sem-key", &sem.key},   {"sem-size", &sem.size},         {"msg", &msg.n},
        {"msg-key", &msg.key},     {"msg-size", &msg.size}, {"msg-count", &msg.count},       {"mqueue", &mqueue.n},
        {"mqueue-size", &mqueue.size}, {"mqueue-depth", &depth}, {"mqueue-count", &mqueue.count},
    };
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    struct option options[NUMBERS + 8] = {
        {"mqueue-name", required_argument, NULL, NAME}, {"mqueue-hex", required_argument, NULL, HEX},
        {"mode", required_argument, NULL, MODE},        {"help", no_argument, NULL, HELP},
        {"attach", no_argument, &attach, 1},            {"wait", no_argument, &wait_for_signal, 1},
        {"sem-op", no_argument, &operate, 1},
    };
    for (int i = 0; i < NUMBERS; i++)
        options[7 + i] = (struct option){numbers[i].option, required_argument, NULL, NUMBER + i};

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option >= NUMBER && option < NUMBER + NUMBERS)
            *numbers[option - NUMBER].value = number(optarg, 0);
        else if (option == NAME)
            snprintf(name, sizeof name, "%s", optarg);
        else if (option == HEX)
            name_from_hex(optarg);
        else if (option == MODE)
            mode = number(optarg, 8);
        else if (option == HELP)
            exit(fputs(usage, stdout) < 0);
        else if (option)
            exit(2);
    }
    if (optind < argc)
        errx(2, "what is %s?", argv[optind]);
}

static key_t nth(const struct kind *kind, unsigned long i)
{
    return kind->key ? (key_t)(kind->key + i) : IPC_PRIVATE;
}

static void *filled(size_t size)
{
    char *bytes = malloc(size + 1);
    if (!bytes)
        err(1, "malloc of %zu bytes", size);
    return memset(bytes, 'x', size + 1);
}

static void make_shm(unsigned long i)
{
    int id = shmget(nth(&shm, i), shm.size, IPC_CREAT | IPC_EXCL | (int)mode);
    if (id < 0)
        err(1, "shmget of %lu bytes (segment %lu)", shm.size, i + 1);
    char *memory = shmat(id, NULL, 0);
    if (memory == (void *)-1)
        err(1, "shmat (segment %lu)", i + 1);
    memset(memory, 'x', touch < shm.size ? touch : shm.size);
    if (!attach && shmdt(memory) < 0)
        err(1, "shmdt (segment %lu)", i + 1);
}

static void make_sem(unsigned long i)
{
    int id = semget(nth(&sem, i), (int)sem.size, IPC_CREAT | IPC_EXCL | (int)mode);
    if (id < 0)
        err(1, "semget of %lu semaphores (array %lu)", sem.size, i + 1);
    struct sembuf release = {.sem_op = 1};
    if (operate && semop(id, &release, 1) < 0)
        err(1, "semop (array %lu)", i + 1);
}

static void make_msg(unsigned long i)
{
    int id = msgget(nth(&msg, i), IPC_CREAT | IPC_EXCL | (int)mode);
    if (id < 0)
        err(1, "msgget (queue %lu)", i + 1);

    long *message = filled(sizeof(long) + msg.size);
    *message = 1;
    for (unsigned long m = 0; m < msg.count; m++)
        if (msgsnd(id, message, msg.size, IPC_NOWAIT) < 0)
            err(1, "msgsnd of %lu bytes (queue %lu, message %lu)", msg.size, i + 1, m + 1);
    free(message);
}

static void make_mqueue(unsigned long i)
{
    char path[sizeof name + 32];
    if (i)
        snprintf(path, sizeof path, "%s-%lu", name, i);
    else
        strcpy(path, name);

    /* The system call itself: its name has no slash in front, and no C library has an opinion on the other bytes. */
    struct mq_attr attr = {.mq_maxmsg = (long)depth, .mq_msgsize = (long)mqueue.size};
    mqd_t queue = (mqd_t)syscall(SYS_mq_open, path, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, (mode_t)mode, &attr);
    if (queue < 0)
        err(1, "mq_open (queue %lu)", i + 1);

    char *message = filled(mqueue.size);
    for (unsigned long m = 0; m < mqueue.count; m++)
        if (mq_send(queue, message, mqueue.size, 0) < 0)
            err(1, "mq_send of %lu bytes (queue %lu, message %lu)", mqueue.size, i + 1, m + 1);
    free(message);
    mq_close(queue);
}

int main(int argc, char **argv)
{
    /* Blocked from the start: a container's first process never sees a signal that it neither handles nor blocks. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    parse(argc, argv);
    umask(0);
    for (unsigned long i = 0; i < shm.n; i++)
        make_shm(i);
    for (unsigned long i = 0; i < sem.n; i++)
        make_sem(i);
    for (unsigned long i = 0; i < msg.n; i++)
        make_msg(i);
    for (unsigned long i = 0; i < mqueue.n; i++)
        make_mqueue(i);

    printf("made shm=%lu sem=%lu msg=%lu mqueue=%lu\n", shm.n, sem.n, msg.n, mqueue.n);
    fflush(stdout);

    int signal;
    if (wait_for_signal)
        sigwait(&signals, &signal);
    return 0;
}
