/*
 * remove
 *
 * Makes the calls that our removal makes, for every segment of the namespace that it is in: is it still the one
 * (IPC_STAT), then away with it (IPC_RMID).  Prints how many there were and how many nanoseconds that took, without the
 * reading of their ids.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/shm.h>
#include <time.h>

int main(void)
{
    FILE *table = fopen("/proc/sysvipc/shm", "r");
    if (!table)
        err(1, "/proc/sysvipc/shm");
    static int ids[1 << 16];
    int n = 0;
    char line[512];
    if (!fgets(line, sizeof line, table))
        errx(1, "no heading");
    while (n < 1 << 16 && fgets(line, sizeof line, table))
        if (sscanf(line, "%*d %d", &ids[n++]) != 1)
            errx(1, "no id: %s", line);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < n; i++) {
        struct shmid_ds status;
        if (shmctl(ids[i], IPC_STAT, &status) || status.shm_nattch || shmctl(ids[i], IPC_RMID, NULL))
            err(1, "segment %d", ids[i]);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%d %lld\n", n, (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
}
