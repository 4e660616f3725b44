/*
 * nest
 *
 * Tries every way to make another IPC namespace, and some that make none.  Prints a line for each, `unshare-ipc EPERM`:
 * the way, then `ok` or the name of the error.  Each is tried by a process of its own.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const unsigned long user = CLONE_NEWUSER, both = CLONE_NEWUSER | CLONE_NEWIPC;

/* Returns an errno, 0 after success.  A child made by clone leaves at once. */
static int result(long returned)
{
    return returned < 0 ? errno : 0;
}

static int unshare_ipc(void) { return result(unshare(CLONE_NEWIPC)); }
static int unshare_both(void) { return result(syscall(SYS_unshare, both)); }
static int unshare_high(void) { return result(syscall(SYS_unshare, CLONE_NEWIPC | 1UL << 40)); }
static int unshare_user(void) { return result(unshare(CLONE_NEWUSER)); }

static int cloned(unsigned long flags)
{
#ifdef __s390x__
    long child = syscall(SYS_clone, 0, flags | SIGCHLD, 0, 0, 0);
#else
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
#endif
    if (child == 0)
        _exit(0);
    return result(child);
}

static int clone_both(void) { return cloned(both); }
static int clone_high(void) { return cloned(both | 1UL << 40); } /* the kernel takes the lower half alone */
static int clone_user(void) { return cloned(user); }

static int clone3_both(void)
{
    uint64_t arguments[8] = {both, [4] = SIGCHLD};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return result(child);
}

static void *nothing(void *argument) { return argument; }

static int thread(void)
{
    pthread_t made;
    int error = pthread_create(&made, NULL, nothing, NULL);
    return error ? error : pthread_join(made, NULL);
}

#ifdef __x86_64__
/* The same calls as programs of 32 bits make them; what the kernel was built without answers ENOSYS. */
static int as_i386(long number, unsigned long flags)
{
    long returned;
    asm volatile("int $0x80" : "=a"(returned) : "a"(number), "b"(flags), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
    if (returned == 0 && number == 120)
        _exit(0);
    return returned < 0 ? -returned : 0;
}

static int i386_unshare_both(void) { return as_i386(310, both); }
static int i386_unshare_user(void) { return as_i386(310, user); }
static int i386_clone_both(void) { return as_i386(120, both | SIGCHLD); }
static int i386_clone_user(void) { return as_i386(120, user | SIGCHLD); }
static int x32_unshare_both(void) { return result(syscall(0x40000000 | SYS_unshare, both)); }
#endif

static const struct way {
    const char *name;
    int (*try)(void);
} ways[] = {
    {"unshare-ipc", unshare_ipc},
    {"unshare-both", unshare_both},
    {"unshare-high", unshare_high},
    {"unshare-user", unshare_user},
    {"clone-both", clone_both},
    {"clone-high", clone_high},
    {"clone-user", clone_user},
    {"clone3-both", clone3_both},
    {"thread", thread},
#ifdef __x86_64__
    {"i386-unshare-both", i386_unshare_both},
    {"i386-unshare-user", i386_unshare_user},
    {"i386-clone-both", i386_clone_both},
    {"i386-clone-user", i386_clone_user},
    {"x32-unshare-both", x32_unshare_both},
#endif
};

int main(void)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int status;
        pid_t child = fork();
        if (child < 0)
            err(1, "fork");
        if (child == 0)
            _exit(ways[i].try());
        if (waitpid(child, &status, 0) < 0)
            err(1, "waitpid");
        if (WIFEXITED(status))
            printf("%s %s\n", ways[i].name, WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "ok");
        else
            printf("%s killed\n", ways[i].name);
    }
    return 0;
}
